"""Sums over an epoch on one worker: loss, gradient norms, and where the time went."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from lightsans.training import collectives
from lightsans.training.progress import Partial


class Tally:
    """Sums over the steps of an epoch; continues those of a checkpoint.

    Args:
        partial: Where the epoch stood; None at its beginning.
        device: Device of the losses.
    """

    def __init__(self, partial: Partial | None, device: torch.device) -> None:
        self._device = device
        loss, norm = 0.0, 0.0
        self._seconds = {"train_s": 0.0, "load_s": 0.0, "communication_s": 0.0}
        if partial is not None:
            loss = partial.own_loss_sum(collectives.rank(), collectives.world_size())
            norm = partial.norm_sum
            self._seconds |= partial.seconds
        self._loss = torch.tensor(loss, dtype=torch.float64, device=device)
        self._norm = torch.tensor(norm, dtype=torch.float64, device=device)
        self._started = time.monotonic()
        self._train_s_before = self._seconds["train_s"]

    def add_step(self, loss_sum: Tensor, gradient_norm: Tensor) -> None:
        """One step's sum of losses of this worker, and the norm of its gradient."""
        self._loss += loss_sum
        self._norm += gradient_norm

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of the block to ``load_s`` or ``communication_s``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(what, time.perf_counter() - started)

    def add_seconds(self, what: str, seconds: float) -> None:
        """Add to ``load_s`` or ``communication_s``."""
        self._seconds[what] += seconds

    @property
    def seconds(self) -> dict[str, float]:
        """``train_s`` so far, and ``load_s`` and ``communication_s`` in it."""
        passed = time.monotonic() - self._started
        return self._seconds | {"train_s": self._train_s_before + passed}

    @property
    def norm_sum(self) -> float:
        """Sum of the gradient norms so far."""
        return float(self._norm)

    def loss_sums(self) -> list[float]:
        """The sum of losses of every worker; a collective."""
        own = np.zeros(collectives.world_size())
        own[collectives.rank()] = float(self._loss)
        sums: list[float] = collectives.sum_over_workers(own, self._device).tolist()
        return sums

    def to_partial(self, step: int) -> Partial:
        """State of the epoch after ``step`` steps; a collective."""
        return Partial(
            step=step, loss_sums=self.loss_sums(), seconds=self.seconds, norm_sum=self.norm_sum
        )


class CommunicationTimer:
    """Times the reduction of gradients that computation does not hide.

    That is from the moment a worker's last gradients are ready until all are averaged, waiting for
    slower workers included. On GPUs it is queued and the host does not wait: it stays 0.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._ready = self._done = 0.0
        self._is_timed = isinstance(module, DistributedDataParallel) and not any(
            parameter.is_cuda for parameter in module.parameters()
        )
        if self._is_timed:
            assert isinstance(module, DistributedDataParallel)
            module.register_comm_hook(self, _timed_all_reduce)

    def take(self) -> float:
        """Seconds of the step that has just ended."""
        seconds = max(0.0, self._done - self._ready)
        self._ready = self._done = 0.0
        return seconds


def _timed_all_reduce(
    timer: CommunicationTimer,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[torch.Tensor]:
    timer._ready = time.perf_counter()  # of the last bucket, in the end
    work = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
    assert work is not None

    def finish(future: torch.futures.Future[Any]) -> Tensor:
        timer._done = time.perf_counter()
        averaged: Tensor = future.value()[0]
        return averaged

    averaged: torch.futures.Future[Tensor] = work.get_future().then(finish)
    return averaged


def peak_memory_mib(device: torch.device) -> float:
    """Most memory held so far: of the GPU, or resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
