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


def gather_ids(values: npt.NDArray[np.integer], device: torch.device) -> npt.NDArray[np.int64]:
    """Every worker's ids one after the other; they may hold different numbers of them."""
    own = torch.as_tensor(values.astype(np.int64), device=device)
    if dist.is_initialized():
        most = max_over_workers(len(values), device)
        padded = torch.full((most,), -1, dtype=torch.int64, device=device)
        padded[: len(values)] = own
        pieces = [torch.empty_like(padded) for _ in range(world_size())]
        dist.all_gather(pieces, padded)
        own = torch.cat(pieces)
        own = own[own >= 0]
    ids: npt.NDArray[np.int64] = own.cpu().numpy()
    return ids


def _reduce(
    values: npt.NDArray[np.generic], device: torch.device, operation: dist.ReduceOp.RedOpType
) -> npt.NDArray[np.float64]:
    total = torch.as_tensor(values.astype(np.float64), device=device)
    if dist.is_initialized():
        dist.all_reduce(total, operation)
    result: npt.NDArray[np.float64] = total.cpu().numpy()
    return result
