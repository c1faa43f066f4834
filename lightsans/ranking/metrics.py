"""Full-ranking metrics of users with one held-out target each.

A metric travels as counts: how many users there are, and at which rank their targets came. Counts
of different workers add exactly, so how users are spread cannot change a metric.

With r the target's rank from 1, 1[.] a condition as 0 or 1, and means over users:
    hit@k = recall@k = mean 1[r <= k]        precision@k = hit@k / k
    ndcg@k = mean 1[r <= k] / log2(r + 1)    mrr@k = mean 1[r <= k] / r

Shapes: B users   V = num_items + 1 scores, padding included   S seen items of all users
    E users in all   T items of a list
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lightsans.arrays import Float64, Int64

if TYPE_CHECKING:  # metrics are computed from ranks without PyTorch
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class RankingTotals:
    """Sums that the metrics of a set of users follow from; totals of disjoint sets add."""

    ks: tuple[int, ...]
    """Cut-offs."""
    users: int
    counts: Int64
    """Number of targets at rank 1, 2, ... up to the largest cut-off."""

    @classmethod
    def zero(cls, ks: tuple[int, ...]) -> "RankingTotals":
        """Totals over no users."""
        return cls(tuple(ks), 0, np.zeros(max(ks), np.int64))

    @classmethod
    def from_ranks(cls, ranks: Int64, ks: tuple[int, ...]) -> "RankingTotals":
        """The totals of users whose targets have these ranks, (B,) from 1; 0 counts as a miss."""
        counts = np.bincount(np.clip(ranks, 0, max(ks) + 1), minlength=max(ks) + 2)
        return cls(tuple(ks), len(ranks), counts[1:-1].astype(np.int64))

    @classmethod
    def from_array(cls, array: npt.NDArray[np.generic], ks: tuple[int, ...]) -> "RankingTotals":
        """Create from an array of `to_array`, in any numeric type, such as a sum over workers."""
        if array.shape != (1 + max(ks),):
            raise ValueError(
                f"totals of shape {array.shape} do not belong to ks={ks}; expected {1 + max(ks)} "
                "numbers"
            )
        whole = np.rint(array.astype(np.float64)).astype(np.int64)
        return cls(tuple(ks), int(whole[0]), whole[1:])

    def to_array(self) -> Int64:
        """The users, then the counts: a flat array whose element-wise sums are again totals."""
        return np.concatenate([[self.users], self.counts]).astype(np.int64)

    def __add__(self, other: "RankingTotals") -> "RankingTotals":
        if self.ks != other.ks:
            raise ValueError(f"totals for ks={self.ks} and ks={other.ks} do not add")
        return RankingTotals(self.ks, self.users + other.users, self.counts + other.counts)

    def metrics(self) -> dict[str, float]:
        """The metrics by name, such as ``ndcg@10``; none when there are no users."""
        metrics: dict[str, float] = {}
        if not self.users:
            return metrics
        ranks, users = np.arange(1, max(self.ks) + 1), self.users
        for k in self.ks:
            counts, top = self.counts[:k], ranks[:k]
            hit = float(counts.sum() / users)
            metrics[f"hit@{k}"] = hit
            metrics[f"recall@{k}"] = hit
            metrics[f"precision@{k}"] = hit / k
            metrics[f"ndcg@{k}"] = float((counts / np.log2(top + 1)).sum() / users)
            metrics[f"mrr@{k}"] = float((counts / top).sum() / users)
        return metrics


@dataclass(frozen=True, slots=True)
class Ranked:
    """The places of held-out targets among all items."""

    ranks: Int64
    """(E,) from 1; 0 where the model does not know the target."""
    candidates: Int64
    """(E,) items that were ranked."""
    top: Int64
    """(E, T) the best items, best first; 0 where there is none."""


def base_metrics(ks: Sequence[int]) -> list[str]:
    """Names of the metrics that all others are multiples of, in the order of `user_metrics`."""
    return [f"{name}@{k}" for k in ks for name in ("hit", "ndcg", "mrr")]


def user_metrics(ranks: Int64, ks: Sequence[int]) -> Float64:
    """(B, M) metrics of each user alone, in the order of `base_metrics`.

    Args:
        ranks: (B,) from 1; 0 counts as a miss.
        ks: Cut-offs.
    """
    place = np.maximum(ranks, 1).astype(np.float64)
    columns = []
    for k in ks:
        hit = (ranks > 0) & (ranks <= k)
        columns += [hit.astype(np.float64), hit / np.log2(place + 1), hit / place]
    return np.stack(columns, axis=1)


def target_ranks(scores_BV: "Tensor", target_B: "Tensor") -> "Tensor":
    """The rank of each user's target among all items, from 1; 0 where the target is 0 (unknown).

    Ties are counted against the model: items with the target's score rank ahead of it, and so does
    a score that is not a number. Column 0, padding, never ranks.
    """
    target_B1 = target_B.long().unsqueeze(1)
    target_scores_B1 = scores_BV.gather(1, target_B1)
    behind_B = (scores_BV[:, 1:] < target_scores_B1).sum(dim=1)
    ranks_B = scores_BV.shape[1] - 1 - behind_B  # the target itself is not behind
    return ranks_B.where(target_B > 0, 0)


def exclude_seen(
    scores_BV: "Tensor", seen_rows_S: "Tensor", seen_item_ids_S: "Tensor", target_B: "Tensor"
) -> None:
    """Put seen items behind all others, in place; a target stays, even if it was seen before.

    Args:
        scores_BV: Changed: minus infinity at seen items.
        seen_rows_S: Which row each seen item belongs to.
        seen_item_ids_S: The items; repetitions do no harm.
        target_B: The item that is ranked in each row.
    """
    target_B1 = target_B.long().unsqueeze(1)
    target_scores_B1 = scores_BV.gather(1, target_B1)
    scores_BV[seen_rows_S, seen_item_ids_S.long()] = float("-inf")
    scores_BV.scatter_(1, target_B1, target_scores_B1)
