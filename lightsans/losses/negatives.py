"""Negatives that all targets of a step share, and how often each was to be expected.

Drawn from (seed, epoch, step) alone, so all workers have the same ones and their number changes
nothing. Item vectors are rows of a table that every worker holds: ids are all that needs to be
shared, in-batch negatives included.

Shapes: K negatives of a step   V = num_items + 1: items and padding
"""

from dataclasses import dataclass

import numpy as np

from lightsans.arrays import Float32, Float64, Int64
from lightsans.config import RunConfig


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

    Source: log-uniform by rank: TensorFlow, ``tf.random.log_uniform_candidate_sampler``.
    In-batch with popularity for q: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large
    Corpus Item Recommendations", RecSys 2019.
    """

    def __init__(self, config: RunConfig, num_items: int, counts: Int64 | None) -> None:
        self._seed, self._num_items = config.train.seed, num_items
        self._kind = config.model.negative_sampling
        self._count = config.model.num_negatives
        if self._kind != "uniform" and counts is None:
            raise ValueError(f"negative_sampling={self._kind!r} needs the items' counts")
        self._item_of_rank = np.arange(num_items)
        if counts is not None:
            assert len(counts) == num_items
            self._item_of_rank = np.argsort(-counts, kind="stable")
        self.probability_V = self._probabilities(counts)

    @property
    def needs_targets(self) -> bool:
        """Whether `draw` wants the targets of the step."""
        return self._kind == "in_batch"

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
        if self._kind == "uniform":
            item_ids = random.integers(1, self._num_items + 1, self._count)
        elif self._kind == "log_uniform":
            item_ids = self._item_of_rank[self._draw_ranks(random)] + 1
        else:
            assert target_ids is not None
            item_ids = np.sort(target_ids).astype(np.int64)  # workers give them in other orders
            if len(item_ids) > self._count:
                item_ids = item_ids[random.permutation(len(item_ids))[: self._count]]
        expected = max(len(item_ids), 1) * self.probability_V[item_ids]
        return SharedNegatives(item_ids, np.log(expected).astype(np.float32))

    def _draw_ranks(self, random: np.random.Generator) -> Int64:
        """Ranks from 0 with probability log((rank + 2) / (rank + 1)) / log(num_items + 1)."""
        drawn = np.exp(random.random(self._count) * np.log(self._num_items + 1))
        ranks: Int64 = np.clip(drawn.astype(np.int64) - 1, 0, self._num_items - 1)
        return ranks

    def _probabilities(self, counts: Int64 | None) -> Float64:
        """(V,) how likely one draw gives each item; 0 for padding."""
        N = self._num_items
        probability_V = np.zeros(N + 1)
        if self._kind == "uniform":
            probability_V[1:] = 1 / N
        elif self._kind == "log_uniform":
            rank = np.arange(N)
            probability_V[1 + self._item_of_rank] = np.log((rank + 2) / (rank + 1)) / np.log(N + 1)
        else:
            assert counts is not None
            # An item may be met that the counts, taken when the dataset was made, do not know.
            at_least_one = np.maximum(counts, 1)
            probability_V[1:] = at_least_one / at_least_one.sum()
        return probability_V
