"""Sums and maxima over the workers of a training run; identities when there is only one."""

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from lightsans.arrays import Float64, Ids, Int64


def rank() -> int:
    """This worker's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of workers that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_workers(values: npt.NDArray[np.generic], device: torch.device) -> Float64:
    """The element-wise sum of every worker's array, in float64 (exact for counts below 2^53)."""
    return _reduce(values, device, dist.ReduceOp.SUM)


def max_over_workers(value: int, device: torch.device) -> int:
    """The largest of every worker's number."""
    return int(_reduce(np.array([value]), device, dist.ReduceOp.MAX)[0])


def max_of_each(values: npt.NDArray[np.generic], device: torch.device) -> Float64:
    """The element-wise maximum of every worker's array."""
    return _reduce(values, device, dist.ReduceOp.MAX)


def from_first_worker(value: str | None, device: torch.device) -> str | None:
    """The text that worker 0 has."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values, device=device)
    return values[0]


def average(tensors: list[Tensor]) -> None:
    """Replace tensors, in place, by their means over workers; all have the same shapes everywhere.

    What DDP does to gradients, but in one message after all of them, and without the compiler that
    DDP imports: where there is little to send, hiding it behind the computation gains nothing.
    """
    if world_size() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).div_(world_size())
    dist.all_reduce(flat)
    sizes = [tensor.numel() for tensor in tensors]
    means = flat.split(sizes)  # type: ignore[no-untyped-call]
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(mean.view_as(tensor))


def gather_ids(values: Ids, device: torch.device) -> Int64:
    """Every worker's ids one after the other; they may hold different numbers of them."""
    own = torch.as_tensor(values.astype(np.int64), device=device)
    ids: Int64 = torch.cat(_gather(own)).cpu().numpy()
    return ids


def sum_rows(rows_R: Tensor, values_RD: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over workers of tables of which each has some rows: (S,) rows and (S, D) values.

    Rows are distinct within a worker. What is sent grows with the rows and not with the table.
    Every worker adds in the same order, so all of them get the same bits.
    """
    if world_size() == 1:
        return rows_R, values_RD
    rows, values = _gather(rows_R), _gather(values_RD)
    rows_S = torch.unique(torch.cat(rows))
    sum_SD = values_RD.new_zeros(len(rows_S), values_RD.shape[1])
    for own_rows, own_values in zip(rows, values, strict=True):
        sum_SD.index_add_(0, torch.searchsorted(rows_S, own_rows), own_values)
    return rows_S, sum_SD


def _gather(values: Tensor) -> list[Tensor]:
    """The tensors of all workers, in order of rank; their first axes may differ in length."""
    if world_size() == 1:
        return [values]
    length = torch.tensor([len(values)], device=values.device)
    lengths = torch.empty(world_size(), dtype=length.dtype, device=values.device)
    dist.all_gather_into_tensor(lengths, length)
    most = int(lengths.max())
    padded = values.new_zeros(most, *values.shape[1:])
    padded[: len(values)] = values
    pieces = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(pieces, padded)
    return [piece[:n] for piece, n in zip(pieces, lengths.tolist(), strict=True)]


def _reduce(
    values: npt.NDArray[np.generic], device: torch.device, operation: dist.ReduceOp.RedOpType
) -> Float64:
    total = torch.as_tensor(values.astype(np.float64), device=device)
    if dist.is_initialized():
        dist.all_reduce(total, operation)
    result: Float64 = total.cpu().numpy()
    return result
