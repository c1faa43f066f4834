"""Timing of checkpoints in the middle of an epoch: every worker gets the same answer."""

import time
from collections.abc import Callable

import numpy as np
import torch

from lightsans.training import collectives

VOTE_S = 2.0
"""About how often workers agree on whether a checkpoint is due by time or by notice."""


class CheckpointClock:
    """Says after which steps a checkpoint is due.

    Clocks and notices differ between workers, so they vote: one small reduction about every
    `VOTE_S` seconds, after a number of steps that the slowest worker's speed gives.

    Args:
        every_steps: After every so many steps of an epoch; None for never.
        every_s: Once so much time has passed since the last one; None for never.
        device: For the reduction.
        has_notice: Whether this worker's machine is about to be taken away. Called in every vote,
            on all workers.
    """

    def __init__(
        self,
        every_steps: int | None,
        every_s: float | None,
        device: torch.device,
        has_notice: Callable[[], bool] = lambda: False,
    ) -> None:
        self._every_steps, self._every_s = every_steps, every_s
        self._device, self._has_notice = device, has_notice
        self._saved = time.monotonic()
        self._heeded = False
        self.begin_epoch(0)

    def begin_epoch(self, step: int) -> None:
        """Start counting from a step of an epoch."""
        self._voted_step, self._voted_at = step, time.monotonic()
        self._next_vote = step + 1

    def is_due(self, step: int) -> bool:
        """Whether to write a checkpoint now that ``step`` steps of the epoch are done."""
        due = self._every_steps is not None and step % self._every_steps == 0
        if step >= self._next_vote:
            due |= self._vote(step)
        return due

    def _vote(self, step: int) -> bool:
        now = time.monotonic()
        notice = self._has_notice()
        wants = notice and not self._heeded
        self._heeded |= notice
        wants |= self._every_s is not None and now - self._saved >= self._every_s
        step_s = (now - self._voted_at) / max(1, step - self._voted_step)
        votes = collectives.max_of_each(np.array([float(wants), step_s]), self._device)
        self._voted_step, self._voted_at = step, now
        self._next_vote = step + max(1, int(VOTE_S / max(float(votes[1]), 1e-6)))
        if votes[0]:
            self._saved = now
        return bool(votes[0])
