"""The position branch as means that fade with age: no matrix of positions, time linear in length.

How much a position reads from an earlier one is a sum of M exponentials of the item's age, each
divided by its sum over the prefix: M means, mixed by head. Ages are differences of a clock that
never falls, so every exponential is at most 1.

Shapes: B sequences, or 1 where all share a clock   L positions   C positions of one chunk
    M exponentials   N heads   H head size
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightsans.model.causal import CHUNK, SAFE_CHUNK, exact_product


class FadingPositions(NamedTuple):
    """Rates and mixture of a layer, for some histories."""

    logits: Tensor
    """Rate times clock, (B, L, M): exp of the difference of two is how far one has faded."""
    mix: Tensor
    """Weights of the M means by head, (N, M); each head's sum is 1."""

    def every_prefix(self, v_BNLH: Tensor) -> Tensor:
        """Context of each position from the prefix that it ends, (B, N, L, H)."""
        # An exported program is for any number of sequences, so it cannot look at theirs.
        is_shared = not torch.compiler.is_exporting() and self.logits.shape[0] == 1
        size = CHUNK if is_shared else SAFE_CHUNK
        logits = torch.split(self.logits.float(), size, dim=1)
        contexts: list[Tensor] = []
        carry: _Carry | None = None
        for v_BNCH, logits_BCM in zip(torch.split(v_BNLH, size, dim=2), logits, strict=True):
            contexts.append(self._attend(v_BNCH, logits_BCM, carry))
            if len(contexts) < len(logits):
                carry = _advance(v_BNCH, logits_BCM, carry)
        return torch.cat(contexts, dim=2)

    def newest(self, newest_B: Tensor, is_item_BL: Tensor) -> Tensor:
        """Weights with which each sequence's newest position reads its items, (B, N, L)."""
        return self._over(is_item_BL)  # the newest item is the last of them

    def whole(self, v_BNLH: Tensor, is_item_BL: Tensor) -> Tensor:
        """Context of each position from the whole sequence, all the same: (B, N, L, H)."""
        return (self._over(is_item_BL).unsqueeze(2) @ v_BNLH).expand_as(v_BNLH)

    def _over(self, is_item_BL: Tensor) -> Tensor:
        """Weights of the items of whole sequences, (B, N, L)."""
        logits_BLM = self.logits.float().masked_fill(~is_item_BL.unsqueeze(-1), float("-inf"))
        return exact_product(self.mix, logits_BLM.softmax(dim=1).transpose(1, 2))

    def _attend(self, v_BNCH: Tensor, logits_BCM: Tensor, carry: "_Carry | None") -> Tensor:
        C = logits_BCM.shape[1]
        is_later_CC1 = torch.ones(C, C, dtype=torch.bool, device=v_BNCH.device).triu(1)[..., None]
        aged_BCCM = logits_BCM.unsqueeze(1) - logits_BCM.unsqueeze(2)
        exp_BCCM = aged_BCCM.masked_fill(is_later_CC1, float("-inf")).exp()
        z_BCM = exp_BCCM.sum(dim=2)
        if carry is not None:
            faded_BCM = (carry.top.unsqueeze(1) - logits_BCM).exp()
            z_BCM = z_BCM + faded_BCM * carry.z.unsqueeze(1)
        reads_BCNM = self.mix / z_BCM.unsqueeze(2)
        weights_BNCC = exact_product(reads_BCNM, exp_BCCM.transpose(2, 3)).transpose(1, 2)
        context_BNCH = weights_BNCC @ v_BNCH
        if carry is None:
            return context_BNCH
        return context_BNCH + (reads_BCNM * faded_BCM.unsqueeze(2)).transpose(1, 2) @ carry.sums


class _Carry(NamedTuple):
    """The sums over all earlier chunks, faded to the last position of them."""

    top: Tensor
    """Logits of that position, (B, M)."""
    z: Tensor
    """Sum of the weights, (B, M)."""
    sums: Tensor
    """Weighted sum of the values, (B, N, M, H)."""


def _advance(v_BNCH: Tensor, logits_BCM: Tensor, carry: _Carry | None) -> _Carry:
    """Add a chunk to the sums."""
    top_BM = logits_BCM[:, -1]
    exp_BCM = (logits_BCM - top_BM.unsqueeze(1)).exp()
    z_BM = exp_BCM.sum(dim=1)
    sums_BNMH = exp_BCM.transpose(1, 2).unsqueeze(1) @ v_BNCH
    if carry is not None:
        faded_BM = (carry.top - top_BM).exp()
        z_BM = z_BM + faded_BM * carry.z
        sums_BNMH = sums_BNMH + faded_BM[:, None, :, None] * carry.sums
    return _Carry(top_BM, z_BM, sums_BNMH)
