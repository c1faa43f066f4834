"""Negatives that all targets of a step share, and how often each was to be expected.

Drawn from (seed, epoch, step) alone, so all workers have the same ones and their number changes
nothing. Item vectors are rows of a table that every worker holds: ids are all that needs to be
shared, in-batch negatives included.

Shapes: K negatives of a step   V = num_items + 1: items and padding
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lightsans.arrays import Float32, Float64, Int64
from lightsans.config import RunConfig
from lightsans.config.kinds import SAMPLINGS
from lightsans.config.kinds import Sampling as Name


@dataclass(frozen=True, slots=True)
class SharedNegatives:
    """Drawn with replacement: an item may stand here several times, and may be a target."""

    item_ids: Int64
    """(K,)"""
    log_expected: Float32
    """(K,) logarithm of how often such a draw was expected to give the item: log(K * q)."""


class NegativeSampler:
    """Draws the negatives of every step of a run.

    Args:
        config: ``model.negative_sampling`` and ``model.num_negatives``, and the seed.
        num_items: Size of the catalogue.
        counts: (num_items,) interactions of each item; for ``log_uniform``, which goes by the rank
            of the counts, and ``in_batch``, whose probabilities are proportional to them.
        candidates: Items, ascending, that are drawn; None for all.

    Source: log-uniform by rank: TensorFlow, ``tf.random.log_uniform_candidate_sampler``.
    In-batch with popularity for q: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large
    Corpus Item Recommendations", RecSys 2019.
    """

    def __init__(
        self,
        config: RunConfig,
        num_items: int,
        counts: Int64 | None,
        candidates: Int64 | None = None,
    ) -> None:
        name = config.model.negative_sampling
        self._kind = SAMPLINGS[name]
        if self._kind.needs_counts and counts is None:
            raise ValueError(f"negative_sampling={name!r} needs the items' counts")
        assert counts is None or len(counts) == num_items
        self._seed, self._count = config.train.seed, config.model.num_negatives
        counts = np.ones(num_items, np.int64) if counts is None else counts
        self._candidates = candidates
        if candidates is None:
            self._code = CODE[name](counts)
            self.probability_V = np.concatenate([[0.0], self._code.probabilities])
        else:
            self._code = CODE[name](counts[candidates - 1])
            self.probability_V = np.zeros(num_items + 1)
            self.probability_V[candidates] = self._code.probabilities

    @property
    def needs_targets(self) -> bool:
        """Whether `draw` wants the targets of the step."""
        return self._kind.needs_targets

    def draw(self, epoch: int, step: int, target_ids: Int64 | None = None) -> SharedNegatives:
        """The negatives of one step.

        Args:
            epoch: Number of the epoch, from 0.
            step: Number of the step in it.
            target_ids: For ``in_batch``: all targets of the step, of all workers, in any order.
                Fewer than ``num_negatives`` of them give fewer negatives.
        """
        # The leading number keeps these draws apart from those of the order of steps.
        random = np.random.default_rng([7, self._seed, epoch, step])
        if self._candidates is None:
            item_ids = self._code.draw(random, self._count, target_ids)
        else:  # numbered among themselves
            if target_ids is not None:
                target_ids = np.searchsorted(self._candidates, target_ids) + 1
            item_ids = self._candidates[self._code.draw(random, self._count, target_ids) - 1]
        expected = max(len(item_ids), 1) * self.probability_V[item_ids]
        return SharedNegatives(item_ids, np.log(expected).astype(np.float32))


class Sampling(Protocol):
    """A way to draw, made of the (num_items,) counts of all items."""

    probabilities: Float64
    """(num_items,) how likely one draw gives each item."""

    def __init__(self, counts: Int64) -> None: ...

    def draw(self, random: np.random.Generator, count: int, target_ids: Int64 | None) -> Int64:
        """The ids of so many items; see `NegativeSampler.draw`."""


class _Uniform:
    def __init__(self, counts: Int64) -> None:
        self.probabilities: Float64 = np.full(len(counts), 1 / len(counts))

    def draw(self, random: np.random.Generator, count: int, target_ids: Int64 | None) -> Int64:
        return random.integers(1, len(self.probabilities) + 1, count)


class _LogUniform:
    def __init__(self, counts: Int64) -> None:
        rank = np.arange(len(counts))
        self._item_of_rank = np.argsort(-counts, kind="stable")
        self.probabilities: Float64 = np.empty(len(counts))
        shares = np.log((rank + 2) / (rank + 1)) / np.log(len(counts) + 1)
        self.probabilities[self._item_of_rank] = shares

    def draw(self, random: np.random.Generator, count: int, target_ids: Int64 | None) -> Int64:
        num_items = len(self._item_of_rank)
        drawn = np.exp(random.random(count) * np.log(num_items + 1))
        ranks = np.clip(drawn.astype(np.int64) - 1, 0, num_items - 1)
        item_ids: Int64 = self._item_of_rank[ranks] + 1
        return item_ids


class _InBatch:
    def __init__(self, counts: Int64) -> None:
        # An item may be met that the counts, taken when the dataset was made, do not know.
        at_least_one = np.maximum(counts, 1)
        self.probabilities: Float64 = at_least_one / at_least_one.sum()

    def draw(self, random: np.random.Generator, count: int, target_ids: Int64 | None) -> Int64:
        assert target_ids is not None
        item_ids = np.sort(target_ids).astype(np.int64)  # workers give them in other orders
        if len(item_ids) > count:
            item_ids = item_ids[random.permutation(len(item_ids))[:count]]
        return item_ids


CODE: Mapping[Name, type[Sampling]] = {
    "uniform": _Uniform,
    "log_uniform": _LogUniform,
    "in_batch": _InBatch,
}
