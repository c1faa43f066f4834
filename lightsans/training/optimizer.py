"""Parts of an optimizer step: decay groups, learning rate, clipping, micro-batches, average.

Everything here is a pure function of the configuration and of where training stands, so a resumed
run needs no state but the optimizer's own and that of the average.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lightsans.arrays import Intp
from lightsans.config import TrainConfig
from lightsans.config.kinds import Optimizer, Schedule
from lightsans.training.batches import Batch
from lightsans.training.dense_adam import DenseAdam, Group

OPTIMIZERS: Final[Mapping[Optimizer, Callable[[Sequence[Group], float], DenseAdam]]] = {
    "adam": partial(DenseAdam, is_decoupled=False),
    "adamw": partial(DenseAdam, is_decoupled=True),
}


def _half_cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))


SCHEDULES: Final[Mapping[Schedule, Callable[[float], float]]] = {
    "constant": lambda done: 1.0,
    "cosine": _half_cosine,
}
"""Factors of the learning rate, as functions of the share of the epochs after the warm-up."""


def make_optimizer(module: nn.Module, train: TrainConfig) -> DenseAdam:
    """Adam or AdamW over the parameters of a module that have gradients.

    Decay shrinks the weight matrices of linear maps and the pooling projections. Biases, layer
    norms and embeddings are excluded: they do not multiply activations, or are looked up too
    rarely for a pull in every step (a rare item would shrink between two meetings).

    Args:
        module: The trained module.
        train: ``optimizer``, ``learning_rate`` and ``weight_decay`` matter here.
    """
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (decayed if _decays(name, parameter) else plain).append(parameter)
    groups = [Group(decayed, train.weight_decay), Group(plain, 0.0)]
    if train.weight_decay == 0:  # one group is updated sooner than two
        groups = [Group(decayed + plain, 0.0)]
    return OPTIMIZERS[train.optimizer](groups, train.learning_rate)


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and "embedding" not in name


def learning_rate(train: TrainConfig, position: float) -> float:
    """The learning rate of a step.

    Warm-up rises linearly from 0; ``cosine`` then falls along half a cosine, reaching 0 with the
    last epoch.

    Args:
        train: ``learning_rate``, ``warmup_epochs``, ``schedule`` and ``epochs``.
        position: Epochs, with fraction, that are done when the step ends. Epochs rather than steps
            because windows are cut anew in each epoch, so their number of steps differs a little.
    """
    if position < train.warmup_epochs:
        return train.learning_rate * position / train.warmup_epochs
    length = train.epochs - train.warmup_epochs
    done = min(1.0, (position - train.warmup_epochs) / length)
    return train.learning_rate * SCHEDULES[train.schedule](done)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a model's weights, a model too; it begins with its own.

    At a constant learning rate weights jump about a minimum; their average lies closer to it,
    without waiting for a schedule to end (Polyak and Juditsky 1992, "Acceleration of stochastic
    approximation by averaging"). Early on it forgets sooner than ``decay`` says, so the weights of
    the beginning do not linger.

    Args:
        model: The trained model; call ``update_parameters(model)`` of the average after each step.
        decay: The part of the average that stays in a step, in (0, 1); after n steps it is
            min(decay, (1 + n) / (10 + n)).
    """

    def take_in(averages: Any, weights: Any, _: Any) -> None:
        steps = int(average.n_averaged)  # this one lies in the host's memory
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + steps) / (10 + steps)))

    average = AveragedModel(model, multi_avg_fn=take_in)
    average.update_parameters(model)
    return average


@torch.no_grad()
def clip_gradients(gradients: list[Tensor], max_norm: float | None) -> Tensor:
    """Scale gradients in place so that their global norm is at most ``max_norm``.

    Args:
        gradients: Gradients of everything that the step updates, summed over workers.
        max_norm: None leaves them as they are.

    Returns:
        The norm before scaling, a scalar on their device; nothing waits for it.
    """
    norm: Tensor = torch.stack(torch._foreach_norm(gradients)).norm()
    if max_norm is not None:
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, scale)
    return norm


def split_batch(batch: Batch, pieces: int) -> list[Batch]:
    """The rows of a batch in ``pieces`` nearly equal parts, whose gradients add up to the whole's.

    Every worker has to run equally many backward passes, so there are always ``pieces`` parts:
    those without rows are one row of padding, which teaches nothing.
    """
    if pieces == 1:
        return [batch]
    rows = np.array_split(np.arange(len(batch.lengths)), pieces)
    return [_take(batch, chosen) if len(chosen) else _padding_like(batch) for chosen in rows]


def _take(batch: Batch, rows: Intp) -> Batch:
    return batch.map(lambda array: array[rows])


def _padding_like(batch: Batch) -> Batch:
    row = replace(_take(batch, np.zeros(1, np.intp)), weights=None)
    return row.map(np.zeros_like)
