"""Adam and AdamW over whole tensors, by the function that PyTorch's own classes call."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam


class Group(NamedTuple):
    """Parameters with the same decay."""

    params: Sequence[Tensor]
    weight_decay: float


class DenseAdam:
    """Adam, or AdamW, over the tensors that have gradients.

    Weights and state are those of `torch.optim.Adam` and `torch.optim.AdamW` with ``fused=True``,
    bit for bit. These classes import PyTorch's compiler when they are made, which takes a second of
    every process that trains; the function that they call does not.

    Args:
        groups: Parameters to train.
        learning_rate: Adam's alpha.
        is_decoupled: Whether decay shrinks weights (AdamW), or is added to gradients (Adam).

    Sources: Kingma and Ba, "Adam", ICLR 2015; Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", ICLR 2019.
    """

    BETAS = (0.9, 0.999)
    EPS = 1e-8

    def __init__(self, groups: Sequence[Group], learning_rate: float, is_decoupled: bool) -> None:
        self.groups, self.learning_rate, self._is_decoupled = groups, learning_rate, is_decoupled
        self._params = [parameter for group in groups for parameter in group.params]
        self._state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._params:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update what has a gradient."""
        for group in self.groups:
            params = [parameter for parameter in group.params if parameter.grad is not None]
            states = [self._state_of(parameter) for parameter in params]
            adam(
                params,
                [parameter.grad for parameter in params if parameter.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                decoupled_weight_decay=self._is_decoupled,
                amsgrad=False,
                beta1=self.BETAS[0],
                beta2=self.BETAS[1],
                lr=self.learning_rate,
                weight_decay=group.weight_decay,
                eps=self.EPS,
                maximize=False,
            )

    def state(self) -> dict[str, Tensor]:
        """Moments and steps by number and name, as PyTorch's classes have them: ``3.exp_avg``."""
        return {
            f"{number}.{name}": value.contiguous()
            for number, parameter in enumerate(self._params)
            for name, value in self._state.get(parameter, {}).items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`."""
        self._state = {}
        for key, value in state.items():
            number, name = key.split(".", 1)
            self._state_of(self._params[int(number)])[name].copy_(value)

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter not in self._state:
            self._state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self._state[parameter]
