"""What training minimises: how badly the next item is predicted.

All losses are sums over targets: workers hold unequal numbers of them, so the trainer divides by
the number over all workers.

Shapes: B sequences   L positions   T targets   D hidden size   V = num_items + 1: items and padding
    C rows or columns of a block   R rows   K negatives of a step
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsans.config import ModelConfig
from lightsans.model import LightSANs
from lightsans.sampled_loss import gbce_beta, gbce_sum, sampled_softmax_sum

LossType = Literal["CE", "BPR", "sampled_softmax", "gBCE", "auto"]

LOGITS_BUDGET = {"cpu": 2**20, "cuda": 2**27}
"""Logits held at once by `cross_entropy_sum`: on a CPU they stay in its caches, on a GPU they keep
it busy. A block has at least `MIN_ROWS` rows."""
MIN_ROWS = 64
ROW_BLOCK_LIMIT = {"cpu": 2**26, "cuda": 2**29}
"""Where `MIN_ROWS` rows would hold more logits than this, items are taken in blocks, too. They are
then scored twice, so not before memory asks for it."""
CE_ITEMS = {"cpu": 20_000, "cuda": 100_000}
"""Catalogues up to which `auto` means CE (docs/losses.md)."""
BPR_GAMMA = 1e-10
"""Added inside the logarithm, as in RecBole's BPRLoss."""


def choose_loss(config: ModelConfig, num_items: int, device_type: str) -> LossType:
    """The loss that ``auto`` stands for; any other as it is."""
    if config.loss_type != "auto":
        return config.loss_type
    most = CE_ITEMS.get(device_type, CE_ITEMS["cpu"])
    return "CE" if num_items <= most else "sampled_softmax"


class NextItemObjective(nn.Module):
    """Loss as a function of a batch: what DDP wraps, so that gradients are shared.

    Causal attention learns from every position of a window, the other kinds from one target per
    sequence.
    """

    def __init__(self, model: LightSANs) -> None:
        super().__init__()
        self.model = model
        self.loss_type = choose_loss(
            model.config, model.num_items, model.item_embedding.weight.device.type
        )

    def forward(
        self,
        item_ids: Tensor,
        lengths: Tensor,
        target_ids: Tensor,
        negative_ids: Tensor | None = None,
        log_expected: Tensor | None = None,
    ) -> Tensor:
        """Sum of the losses of all targets, a scalar.

        Args:
            item_ids: (B, L) inputs, right-padded with 0.
            lengths: (B,), how many inputs each row has.
            target_ids: The item after each input, (B, L), for causal attention; otherwise the item
                after the last input, (B,). 0 where there is none.
            negative_ids: BPR: in the same shape, one item per target that is not it. Sampled
                softmax and gBCE: (K,) items for all targets.
            log_expected: Sampled softmax: (K,), see `lightsans.negatives`.
        """
        model = self.model
        vectors = model(item_ids, lengths, every_position=model.config.attention == "causal")
        rows_T = target_ids.flatten().nonzero().squeeze(1)
        vectors_TD = vectors.flatten(0, -2).index_select(0, rows_T)
        target_T = target_ids.flatten().index_select(0, rows_T).long()
        if self.loss_type in ("sampled_softmax", "gBCE"):
            return self._sampled(vectors_TD, target_T, negative_ids, log_expected)
        if self.loss_type == "BPR":
            if negative_ids is None:
                raise ValueError("loss_type='BPR' needs negative_ids, one for each target")
            negative_T = negative_ids.flatten().index_select(0, rows_T).long()
            table = model.item_embedding
            return bpr_sum(vectors_TD, table(target_T), table(negative_T))
        table_VD = model.item_embedding.weight
        if model.config.attention == "reference":
            return cross_entropy_sum(vectors_TD, table_VD, target_T)
        return cross_entropy_sum(vectors_TD, table_VD[1:], target_T - 1)

    def _sampled(
        self,
        vectors_TD: Tensor,
        target_T: Tensor,
        negative_K: Tensor | None,
        log_expected_K: Tensor | None,
    ) -> Tensor:
        config, table = self.model.config, self.model.item_embedding
        if negative_K is None or (log_expected_K is None and self.loss_type != "gBCE"):
            raise ValueError(
                f"loss_type={self.loss_type!r} needs negative_ids of the step, and sampled_softmax "
                "log_expected; lightsans.negatives draws them"
            )
        is_target_TK = target_T.unsqueeze(1) == negative_K
        items = vectors_TD, table(target_T), table(negative_K), is_target_TK
        if log_expected_K is not None and self.loss_type == "sampled_softmax":
            return sampled_softmax_sum(*items, log_expected_K)
        beta = gbce_beta(len(negative_K), self.model.num_items, config.gbce_t)
        return gbce_sum(*items, beta)


def bpr_sum(vectors_TD: Tensor, target_vectors_TD: Tensor, negative_vectors_TD: Tensor) -> Tensor:
    """Bayesian personalised ranking: sum of -log(gamma + sigmoid(target's - negative's score)).

    Source: RecBole 1.2.1, recbole/model/loss.py, class BPRLoss.
    """
    margin_T = (vectors_TD * (target_vectors_TD - negative_vectors_TD)).sum(dim=-1)
    return -(BPR_GAMMA + margin_T.sigmoid()).log().sum()


def cross_entropy_sum(vectors_TD: Tensor, table_VD: Tensor, target_T: Tensor) -> Tensor:
    """Sum of -log softmax(scores of all rows of the table)[target].

    The logits, (T, V), exist in blocks of rows only, and each block's gradient is taken while it is
    at hand: nothing of that size is kept for the backward pass, and nothing is computed twice. So
    there is no second derivative. Where even a few rows would be too large (`ROW_BLOCK_LIMIT`),
    items are taken in blocks as well, once for the normaliser and once more for the gradient.
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
        total = vectors_TD.new_zeros(())
        vectors_grad = torch.empty_like(vectors_TD)
        table_grad = torch.zeros_like(table_VD) if with_grad else None
        budget = LOGITS_BUDGET.get(vectors_TD.device.type, LOGITS_BUDGET["cpu"])
        step = max(MIN_ROWS, budget // table_VD.shape[0])
        limit = ROW_BLOCK_LIMIT.get(vectors_TD.device.type, ROW_BLOCK_LIMIT["cpu"])
        columns = max(1, limit // step)
        for first in range(0, vectors_TD.shape[0], step):
            block_CD = vectors_TD[first : first + step]
            target_C1 = target_T[first : first + step].unsqueeze(1)
            if columns < table_VD.shape[0]:
                grad_CD = vectors_grad[first : first + step]
                total += _item_blocks(block_CD, table_VD, target_C1, columns, grad_CD, table_grad)
                continue
            log_probs_CV = functional.log_softmax(block_CD @ table_VD.t(), dim=1)
            total -= log_probs_CV.gather(1, target_C1).sum()
            if table_grad is not None:
                # The gradient of the logits: probabilities, less one at the target.
                grad_CV = log_probs_CV.exp_()
                grad_CV.scatter_add_(1, target_C1, grad_CV.new_full(target_C1.shape, -1.0))
                torch.mm(grad_CV, table_VD, out=vectors_grad[first : first + step])
                table_grad.addmm_(grad_CV.t(), block_CD)
        ctx.save_for_backward(vectors_grad, table_grad)
        return total

    @staticmethod
    def backward(ctx: Any, total_grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        vectors_grad, table_grad = ctx.saved_tensors
        return total_grad * vectors_grad, total_grad * table_grad, None, None


def _item_blocks(
    rows_RD: Tensor,
    table_VD: Tensor,
    target_R1: Tensor,
    columns: int,
    rows_grad_RD: Tensor,
    table_grad_VD: Tensor | None,
) -> Tensor:
    """Cross-entropy of some rows with ``columns`` items at a time; gradients go into the last two.

    The normaliser has to be known before the gradient of the first block, hence two passes.
    """
    blocks = list(range(0, table_VD.shape[0], columns))
    parts = [(rows_RD @ table_VD[c : c + columns].t()).logsumexp(dim=1) for c in blocks]
    normaliser_R = torch.stack(parts).logsumexp(dim=0)
    target_RD = table_VD.index_select(0, target_R1.squeeze(1))
    total = (normaliser_R - (rows_RD * target_RD).sum(dim=1)).sum()
    if table_grad_VD is not None:
        torch.neg(target_RD, out=rows_grad_RD)
        table_grad_VD.index_add_(0, target_R1.squeeze(1), rows_RD, alpha=-1)
        for c in blocks:
            block_CD = table_VD[c : c + columns]
            probs_RC = (rows_RD @ block_CD.t()).sub_(normaliser_R.unsqueeze(1)).exp_()
            rows_grad_RD.addmm_(probs_RC, block_CD)
            table_grad_VD[c : c + columns].addmm_(probs_RC.t(), rows_RD)
    return total
