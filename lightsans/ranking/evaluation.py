"""Full ranking of held-out items by a model or a baseline.

Shapes:
    B users of a batch   V = num_items + 1 scores, padding included   L items of a history
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Int32, Int64
from lightsans.dataset.held_out import HeldOut
from lightsans.dataset.samples import gather
from lightsans.ranking.metrics import RankingTotals, exclude_seen, target_ranks

SCORES_BUDGET = 64 * 2**20
"""Scores held at once: bounds the memory of ranking over large catalogues."""

Scorer = Callable[[Int32, Int64], Tensor]
"""(B, L) newest items of histories, right-padded, and (B,) lengths -> (B, V) scores."""


class ScoresItems(Protocol):
    """A model that scores all items for histories: `lightsans.LightSANs`."""

    def score_items(self, item_ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) histories, right-padded, and (B,) lengths -> (B, V) scores."""


def model_scorer(model: ScoresItems, device: torch.device) -> Scorer:
    """Scores of a model in evaluation mode, from arrays."""

    def score(item_ids: Int32, lengths: Int64) -> Tensor:
        ids = torch.from_numpy(item_ids).to(device)
        return model.score_items(ids, torch.from_numpy(lengths).to(device))

    return score


def rank_held_out(
    scorer: Scorer,
    held_out: HeldOut,
    *,
    ks: tuple[int, ...],
    num_items: int,
    max_seq_len: int,
    remove_seen: bool = False,
    batch_size: int = 512,
) -> RankingTotals:
    """Metric totals over held-out targets; a target that the model does not know is a miss.

    Args:
        scorer: Model or baseline that ranks the items.
        held_out: Histories and targets.
        ks: Cut-offs.
        num_items: Size of the catalogue.
        max_seq_len: Items of a history that the scorer is given; the newest.
        remove_seen: Leave the items before the target out of the ranking.
        batch_size: Users at once; fewer when their scores would exceed `SCORES_BUDGET`.
    """
    totals = RankingTotals.zero(ks)
    # Similar lengths together: less padding. Totals do not depend on the order.
    by_length = held_out.take(np.argsort(held_out.lengths, kind="stable"))
    step = max(1, min(batch_size, SCORES_BUDGET // (num_items + 1)))
    for first in range(0, len(by_length.lengths), step):
        batch = by_length.take(np.arange(first, min(first + step, len(by_length.lengths))))
        newest = np.minimum(batch.lengths, max_seq_len)
        begin = batch.starts + batch.lengths - newest
        scores = scorer(gather(batch.item_ids, begin, newest), newest)
        targets = torch.from_numpy(batch.target_ids).to(scores.device)
        if remove_seen:
            seen = gather(batch.item_ids, batch.starts, batch.lengths)
            rows, columns = np.nonzero(seen)
            exclude_seen(
                scores,
                torch.from_numpy(rows).to(scores.device),
                torch.from_numpy(seen[rows, columns].astype(np.int64)).to(scores.device),
                targets,
            )
        totals += RankingTotals.from_ranks(target_ranks(scores, targets), ks)
    return totals
