"""The moving average of a model's weights over the steps of training.

At a constant learning rate weights jump about a minimum; their average lies closer to it, without
waiting for a schedule to end (Polyak and Juditsky 1992, "Acceleration of stochastic approximation
by averaging").
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_STEPS = "steps"
_LAST = "last."
"""What the names of the weights that training goes on with begin with."""


class WeightAverage:
    """An exponential moving average of a model's weights, in their precision and on their device.

    Early on it forgets sooner than ``decay`` says, min(decay, (1 + n) / (10 + n)) after n steps, so
    the weights of the beginning do not linger.

    Args:
        model: Whose weights; they are what training changes, the average is kept here.
        decay: The part of the average that stays in a step, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self._steps = 0
        self._average = self._copy()

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights that an optimizer step has left."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        current = list(self._model.state_dict().values())
        torch._foreach_lerp_(list(self._average.values()), current, 1 - decay)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """For the time of the block the model has the average for its weights."""
        last = self._copy()
        self._model.load_state_dict(self._average)
        try:
            yield
        finally:
            self._model.load_state_dict(last)

    def weights(self) -> dict[str, Tensor]:
        """The average, as a ``state_dict``."""
        return self._average

    def state(self) -> dict[str, Tensor]:
        """What is needed beside `weights` to go on."""
        last = {_LAST + name: tensor for name, tensor in self._model.state_dict().items()}
        return {_STEPS: torch.tensor(self._steps), **last}

    def restore(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Go on from `weights` and `state`, the weights of the model included."""
        self._steps = int(state.pop(_STEPS))
        self._model.load_state_dict({n.removeprefix(_LAST): value for n, value in state.items()})
        for name, tensor in self._average.items():
            tensor.copy_(weights[name])

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
