"""Sums and maxima over the workers of a training run; identities when there is only one."""

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist


def rank() -> int:
    """This worker's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many workers train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_workers(
    values: npt.NDArray[np.generic], device: torch.device
) -> npt.NDArray[np.float64]:
    """The element-wise sum of every worker's array, in float64 (exact for counts below 2^53)."""
    return _reduce(values, device, dist.ReduceOp.SUM)


def max_over_workers(value: int, device: torch.device) -> int:
    """The largest of every worker's number."""
    return int(_reduce(np.array([value]), device, dist.ReduceOp.MAX)[0])


def _reduce(
    values: npt.NDArray[np.generic], device: torch.device, operation: dist.ReduceOp.RedOpType
) -> npt.NDArray[np.float64]:
    total = torch.as_tensor(values.astype(np.float64), device=device)
    if dist.is_initialized():
        dist.all_reduce(total, operation)
    result: npt.NDArray[np.float64] = total.cpu().numpy()
    return result
