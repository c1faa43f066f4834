"""Cross-entropy over all items, its logits in blocks.

Shapes: T targets   D hidden size   V rows of the table   R rows of a block   C items of a block
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightsans.losses.smoothing import smoothing_sum
from lightsans.losses.targets import Targets

LOGITS_BUDGET = {"cpu": 2**20, "cuda": 2**27}
"""Logits held at once by `cross_entropy_sum`: on a CPU they stay in its caches, on a GPU they keep
it busy. A block has at least `MIN_ROWS` rows."""
MIN_ROWS = 64
ROW_BLOCK_LIMIT = {"cpu": 2**26, "cuda": 2**29}
"""Limit on the logits of `MIN_ROWS` rows, above which items are taken in blocks, too. They are
then scored twice, so not before memory requires it."""


def cross_entropy(targets: Targets) -> Tensor:
    """The loss ``CE``: all items are candidates, and padding where it takes part in attention."""
    if targets.candidates is not None:
        table = targets.table.index_select(0, targets.candidates)
        places = torch.searchsorted(targets.candidates, targets.ids)
    else:
        first = 0 if targets.ranks_padding else 1
        table, places = targets.table[first:], targets.ids - first
    total = cross_entropy_sum(targets.vectors, table, places)
    smoothing = targets.config.label_smoothing
    if smoothing > 0:
        total = total + smoothing_sum(targets.vectors, table, places, smoothing)
    return total


def cross_entropy_sum(vectors_TD: Tensor, table_VD: Tensor, target_T: Tensor) -> Tensor:
    """Sum of -log softmax(scores of all rows of the table)[target].

    The logits, (T, V), exist in blocks of rows only, one at a time in the same memory, and each
    block's gradient is taken while it is at hand: nothing else is kept for the backward pass, and
    nothing is computed twice. So there is no second derivative, and one backward pass only. Where
    even a few rows would be too large (`ROW_BLOCK_LIMIT`), items are taken in blocks as well, once
    for the normaliser and once more for the gradient.

    Under autocast, factors of products are bfloat16. Exponentials and their sums are float32.
    """
    with_grad = torch.is_grad_enabled() and (vectors_TD.requires_grad or table_VD.requires_grad)
    total: Tensor = _CrossEntropySum.apply(  # type: ignore[no-untyped-call]
        vectors_TD, table_VD, target_T, with_grad
    )
    return total


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, vectors_TD: Tensor, table_VD: Tensor, target_T: Tensor, with_grad: bool
    ) -> Tensor:
        device, T, V = vectors_TD.device.type, len(vectors_TD), len(table_VD)
        step = min(T, max(MIN_ROWS, LOGITS_BUDGET.get(device, LOGITS_BUDGET["cpu"]) // V))
        limit = ROW_BLOCK_LIMIT.get(device, ROW_BLOCK_LIMIT["cpu"])
        columns = min(V, max(1, limit // max(step, 1)))
        factors_VD = table_VD
        if torch.is_autocast_enabled(device):
            factors_VD = table_VD.to(torch.get_autocast_dtype(device))
        total = vectors_TD.new_zeros(())
        vectors_grad = torch.empty_like(vectors_TD)
        table_grad = torch.zeros_like(table_VD) if with_grad else None
        memory = vectors_TD.new_empty(step, columns)
        with torch.autocast(device, enabled=False):
            for first in range(0, T, max(step, 1)):
                chosen = slice(first, first + step)
                rows = _Rows(vectors_TD[chosen], target_T[chosen].unsqueeze(1), factors_VD, memory)
                block = _all_items if columns == V else _item_blocks
                total += block(rows, vectors_grad[chosen], table_grad)
        ctx.gradients = (vectors_grad, table_grad)
        return total

    @staticmethod
    def backward(ctx: Any, total_grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        if ctx.gradients is None:
            raise RuntimeError(
                "cross_entropy_sum has handed out its gradients; compute the loss again for "
                "another backward pass"
            )
        (vectors_grad, table_grad), ctx.gradients = ctx.gradients, None
        return vectors_grad.mul_(total_grad), table_grad.mul_(total_grad), None, None


class _Rows(NamedTuple):
    """A block of targets, and what they are compared with."""

    vectors: Tensor
    """(R, D) float32."""
    target: Tensor
    """(R, 1)"""
    table: Tensor
    """(V, D), in the precision of products."""
    memory: Tensor
    """Buffer for logits: at least R rows, and as many columns as items are taken at once."""

    def logits(self, first: int = 0) -> Tensor:
        """The scores of the items from ``first``, (R, C), in ``memory``."""
        items_CD = self.table[first : first + self.memory.shape[1]]
        out = self.memory[: len(self.vectors), : len(items_CD)]
        if items_CD.dtype == out.dtype:
            return torch.mm(self.vectors, items_CD.t(), out=out)
        return out.copy_(self.vectors.to(items_CD.dtype) @ items_CD.t())


def _all_items(rows: _Rows, vectors_grad_RD: Tensor, table_grad_VD: Tensor | None) -> Tensor:
    """Cross-entropy of some rows; their gradients go into the last two arguments."""
    logits_RV = rows.logits()
    target_logit_R1 = logits_RV.gather(1, rows.target)
    top_R1 = logits_RV.amax(dim=1, keepdim=True)
    probs_RV = torch.softmax(logits_RV, dim=1, out=logits_RV)
    # The largest probability is 1 / z: softmax takes exponentials relative to the maximum.
    total = (top_R1 - probs_RV.amax(dim=1, keepdim=True).log() - target_logit_R1).sum()
    if table_grad_VD is not None:
        probs_RV.scatter_add_(1, rows.target, torch.full_like(top_R1, -1.0))
        _add_gradients(probs_RV, rows, 0, vectors_grad_RD.zero_(), table_grad_VD)
    return total


def _item_blocks(rows: _Rows, vectors_grad_RD: Tensor, table_grad_VD: Tensor | None) -> Tensor:
    """`_all_items` for a part of the items at a time.

    The normaliser has to be known before the gradient of the first block, hence two passes.
    """
    starts = range(0, len(rows.table), rows.memory.shape[1])
    parts = [rows.logits(first).logsumexp(dim=1, keepdim=True) for first in starts]
    normaliser_R1 = torch.cat(parts, dim=1).logsumexp(dim=1, keepdim=True)
    target_RD = rows.table.index_select(0, rows.target.squeeze(1)).to(rows.vectors.dtype)
    total = (normaliser_R1 - (rows.vectors * target_RD).sum(dim=1, keepdim=True)).sum()
    if table_grad_VD is not None:
        torch.neg(target_RD, out=vectors_grad_RD)
        table_grad_VD.index_add_(0, rows.target.squeeze(1), rows.vectors, alpha=-1)
        for first in starts:
            probs_RC = rows.logits(first).sub_(normaliser_R1).exp_()
            _add_gradients(probs_RC, rows, first, vectors_grad_RD, table_grad_VD)
    return total


def _add_gradients(
    grad_RC: Tensor,
    rows: _Rows,
    first: int,
    vectors_grad_RD: Tensor,
    table_grad_VD: Tensor,
) -> None:
    """Add the gradients of the factors of a block of logits, from the block's own gradient."""
    items_CD = rows.table[first : first + grad_RC.shape[1]]
    items_grad_CD = table_grad_VD[first : first + grad_RC.shape[1]]
    if items_CD.dtype == grad_RC.dtype:
        vectors_grad_RD.addmm_(grad_RC, items_CD)
        items_grad_CD.addmm_(grad_RC.t(), rows.vectors)
    else:
        rounded_RC = grad_RC.to(items_CD.dtype)
        vectors_grad_RD += rounded_RC @ items_CD
        items_grad_CD += rounded_RC.t() @ rows.vectors.to(items_CD.dtype)
