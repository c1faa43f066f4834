"""The loss of a batch: how badly the model predicts the next item.

All losses are sums over targets: workers hold unequal numbers of them, so the trainer divides by
the number over all workers. What the losses need and when they apply is in
`lightsans.config.kinds.LOSSES`.

Shapes: B sequences   L positions   T targets   D hidden size   V = num_items + 1: items and padding
    K negatives of a step
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from lightsans.config import ModelConfig
from lightsans.config.kinds import ATTENTION, LOSSES, Loss, auto_loss
from lightsans.losses import sampled
from lightsans.losses.cross_entropy import cross_entropy
from lightsans.losses.targets import Targets
from lightsans.model.network import LightSANs

FUNCTIONS: Final[Mapping[Loss, Callable[[Targets], Tensor]]] = {
    "CE": cross_entropy,
    "BPR": sampled.bpr,
    "sampled_softmax": sampled.sampled_softmax,
    "gBCE": sampled.gbce,
}
"""The sum of each loss over all targets."""


def choose_loss(config: ModelConfig, num_items: int, device_type: str) -> Loss:
    """The loss that ``auto`` stands for; any other as it is."""
    if config.loss_type == "auto":
        return auto_loss(num_items, device_type)
    return config.loss_type


class NextItemObjective(nn.Module):
    """Loss as a function of a batch: what DDP wraps, so that gradients are shared.

    Some kinds of attention learn from every position of a window, the others from one target per
    sequence.

    Args:
        model: The model.
        candidates: Items, ascending, that are compared with targets; None for all.
    """

    def __init__(self, model: LightSANs, candidates: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self._num_candidates = model.num_items if candidates is None else len(candidates)
        device_type = model.item_embedding.weight.device.type
        self.loss_type = choose_loss(model.config, model.num_items, device_type)
        self._attention = ATTENTION[model.config.attention]
        if candidates is not None and not self._attention.masks_padding:
            candidates = torch.cat([candidates.new_zeros(1), candidates])  # padding is ranked, too
        self._candidates = candidates

    def forward(
        self,
        item_ids: Tensor,
        lengths: Tensor,
        target_ids: Tensor,
        negative_ids: Tensor | None = None,
        log_expected: Tensor | None = None,
        item_vectors: Tensor | None = None,
        weights: Tensor | None = None,
        item_rows: Tensor | None = None,
        keeps_id: Tensor | None = None,
        timestamps: Tensor | None = None,
        now: Tensor | None = None,
    ) -> Tensor:
        """Sum of the losses of all targets, a scalar.

        Args:
            item_ids: (B, L) inputs, right-padded with 0.
            lengths: (B,), how many inputs each row has.
            target_ids: The item after each input, (B, L), for attention that trains prefixes;
                otherwise the item after the last input, (B,). 0 where there is none. (B, L, M)
                where up to M targets follow an input.
            negative_ids: For a loss with negatives: in the same shape, one item per target that is
                not it, or, where targets share them, (K,) items.
            log_expected: For a loss that corrects sampling: (K,), see
                `lightsans.losses.negatives`.
            item_vectors: (R, D), padding's first, whose rows all ids above number; None for the
                model's own table. Only for losses that train rows.
            weights: Weights of the targets, in their shape; None where all weigh 1.
            item_rows: (R,) items whose own vectors ``item_vectors`` are; None for all.
            keeps_id: Where items have features: (R,) 0 where an item's own vector is left out.
            timestamps: (B, L) microseconds of the inputs, for a model that reads them.
            now: Likewise moments of the requests, (B, L) where prefixes are trained, else (B,).
        """
        model, loss = self.model, LOSSES[self.loss_type]
        if loss.needs_negatives and negative_ids is None:
            whose = "of the step" if loss.shares_negatives else "for each target"
            raise ValueError(f"loss_type={loss.name!r} needs negative_ids {whose}, got none")
        if loss.corrects_sampling and log_expected is None:
            raise ValueError(
                f"loss_type={loss.name!r} needs log_expected, got none; "
                "lightsans.losses.negatives draws negatives with it"
            )
        if model.item_features is not None:
            own = model.item_embedding.weight if item_vectors is None else item_vectors
            item_vectors = model.item_features.compose(own, item_rows, keeps_id)
        table_VD = model.item_embedding.weight if item_vectors is None else item_vectors
        every_position = self._attention.trains_prefixes
        vectors = model(item_ids, lengths, every_position, item_vectors, timestamps, now)
        vectors = vectors.flatten(0, -2)
        rows_T = target_ids.flatten().nonzero().squeeze(1)
        per_vector = target_ids.numel() // len(vectors)
        if negative_ids is not None:
            negative_ids = negative_ids.flatten()
            if not loss.shares_negatives:
                negative_ids = negative_ids.index_select(0, rows_T)
        targets = Targets(
            model.config,
            self._num_candidates,
            vectors.index_select(0, rows_T if per_vector == 1 else rows_T // per_vector),
            target_ids.flatten().index_select(0, rows_T).long(),
            model.compared(table_VD),
            ranks_padding=not self._attention.masks_padding,
            negative_ids=None if negative_ids is None else negative_ids.long(),
            log_expected=log_expected,
            candidates=self._candidates,
        )
        function = FUNCTIONS[self.loss_type]
        if weights is None or not len(rows_T):
            return function(targets)
        weights_T = weights.flatten().index_select(0, rows_T)
        total: Tensor = vectors.new_zeros(())
        # A weight for each event; every loss is a sum over targets.
        for weight in torch.unique(weights_T):
            rows = (weights_T == weight).nonzero().squeeze(1)
            total = total + weight * function(targets.take(rows, loss.shares_negatives))
        return total
