"""Full ranking of held-out items by a model or a baseline.

Shapes:
    B users of a batch   V = num_items + 1 scores, padding included   L items of a history
    E users in all   T items of a list
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Float32, Float64, Int32, Int64, Intp
from lightsans.dataset.held_out import HeldOut
from lightsans.dataset.samples import gather
from lightsans.errors import ConfigError
from lightsans.ranking.metrics import Ranked, RankingTotals, exclude_seen, target_ranks

SCORES_BUDGET = 64 * 2**20
"""Scores held at once: bounds the memory of ranking over large catalogues."""

Scorer = Callable[[Int32, Int64], Tensor | Float32 | Float64]
"""(B, L) newest items of histories, right-padded, and (B,) lengths -> (B, V) scores."""


ScoresHeldOut = Callable[[HeldOut], Tensor]
"""Histories of B users -> (B, V) scores."""


class ScoresItems(Protocol):
    """A model that scores all items for histories: `lightsans.LightSANs`."""

    @property
    def reads_times(self) -> bool:
        """Whether `score_items` is given the times of items."""

    @property
    def reads_now(self) -> bool:
        """Whether `score_items` is given the moment of each request."""

    def score_items(
        self,
        item_ids: Tensor,
        lengths: Tensor,
        timestamps: Tensor | None = None,
        now: Tensor | None = None,
    ) -> Tensor:
        """(B, L) histories, right-padded, and (B,) lengths -> (B, V) scores."""


def score_by_model(model: ScoresItems, device: torch.device, max_seq_len: int) -> ScoresHeldOut:
    """Scores of a model in evaluation mode, which is given the times that it reads.

    Raises:
        ConfigError: It reads times, and the histories have none.
    """

    def score(batch: HeldOut) -> Tensor:
        item_ids, newest, begin = _newest(batch, max_seq_len)
        times = {}
        if model.reads_times:
            if batch.input_times is None or batch.now is None:
                raise ConfigError(
                    "the model reads times (model.gaps, or model.interest_decay=time), and these "
                    "histories have none; load them with times, or train a model without"
                )
            times["timestamps"] = gather(batch.input_times, begin, newest)
            if model.reads_now:
                times["now"] = batch.now
        return model.score_items(
            *(torch.from_numpy(array).to(device) for array in (item_ids, newest)),
            **{name: torch.from_numpy(array).to(device) for name, array in times.items()},
        )

    return score


def from_histories(scorer: Scorer, max_seq_len: int) -> ScoresHeldOut:
    """A scorer that is given the newest items of each history."""

    def score(batch: HeldOut) -> Tensor:
        item_ids, newest, _ = _newest(batch, max_seq_len)
        return torch.as_tensor(scorer(item_ids, newest))

    return score


def _newest(batch: HeldOut, max_seq_len: int) -> tuple[Int32, Int64, Int64]:
    """The newest items of each history, how many there are, and where they begin."""
    newest = np.minimum(batch.lengths, max_seq_len)
    begin = batch.starts + batch.lengths - newest
    return gather(batch.item_ids, begin, newest), newest, begin


def rank_targets(
    scorer: ScoresHeldOut,
    held_out: HeldOut,
    *,
    num_items: int,
    remove_seen: bool = False,
    batch_size: int = 512,
    num_top: int = 0,
    order: Intp | None = None,
) -> Ranked:
    """Rank the target of every user among all items.

    Args:
        scorer: Gives the scores that items are ranked by.
        held_out: Histories and targets.
        num_items: Size of the catalogue.
        remove_seen: Leave the items before the target out of the ranking.
        batch_size: Users at once; fewer when their scores would exceed `SCORES_BUDGET`.
        num_top: Length of the lists of best items.
        order: Users from the first to be scored; None takes them by the length of their history,
            similar lengths together: less padding.
    """
    num_users = len(held_out.lengths)
    num_top = min(num_top, num_items)
    ranks = np.zeros(num_users, np.int64)
    candidates = np.full(num_users, num_items, np.int64)
    top = np.zeros((num_users, num_top), np.int64)
    if order is None:
        order = np.argsort(held_out.lengths, kind="stable")
    step = max(1, min(batch_size, SCORES_BUDGET // (num_items + 1)))
    for first in range(0, num_users, step):
        users = order[first : first + step]
        batch = held_out.take(users)
        scores = scorer(batch)
        targets = torch.from_numpy(batch.target_ids).to(scores.device)
        if remove_seen:
            seen = gather(batch.item_ids, batch.starts, batch.lengths)
            if batch.is_seen is not None:
                seen = seen * gather(batch.is_seen.astype(np.int32), batch.starts, batch.lengths)
            rows, columns = np.nonzero(seen)
            exclude_seen(
                scores,
                torch.from_numpy(rows).to(scores.device),
                torch.from_numpy(seen[rows, columns].astype(np.int64)).to(scores.device),
                targets,
            )
            removed = torch.isneginf(scores[:, 1:]).sum(dim=1)
            candidates[users] -= removed.cpu().numpy()
        ranks[users] = target_ranks(scores, targets).cpu().numpy()
        if num_top:
            best = scores[:, 1:].topk(num_top, dim=1)
            items = (best.indices + 1).masked_fill(torch.isneginf(best.values), 0)
            top[users] = items.cpu().numpy()
    return Ranked(ranks, candidates, top)


def rank_held_out(
    scorer: ScoresHeldOut,
    held_out: HeldOut,
    *,
    ks: tuple[int, ...],
    num_items: int,
    remove_seen: bool = False,
    batch_size: int = 512,
) -> RankingTotals:
    """Metric totals over held-out targets; a target that the model does not know is a miss.

    Args:
        scorer: Model or baseline that ranks the items.
        held_out: Histories and targets.
        ks: Cut-offs.
        num_items: Size of the catalogue.
        remove_seen: Leave the items before the target out of the ranking.
        batch_size: Users at once; fewer when their scores would exceed `SCORES_BUDGET`.
    """
    ranked = rank_targets(
        scorer,
        held_out,
        num_items=num_items,
        remove_seen=remove_seen,
        batch_size=batch_size,
    )
    return RankingTotals.from_ranks(ranked.ranks, ks)
