"""Dropout that does not take a fifth of a training step on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 2**16


class Dropout(nn.Module):
    """`torch.nn.Dropout`, with masks drawn from 16 random bits per element on a CPU.

    PyTorch draws a whole random number per element there, on one thread, which cost more than the
    attention it was applied to. The probability is rounded to a multiple of 2 ** -16 and the scale
    follows the rounded value. The masks depend on the global generator's seed alone.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Zero each element with probability p in training, and scale the others by 1 / (1 - p)."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        return x * self._scale(x)

    def _scale(self, x: Tensor) -> Tensor:
        """Factor of each element: 0, or 1 / (1 - p)."""
        dropped_levels = min(round(self.p * LEVELS), LEVELS - 1)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        is_kept = bits >= dropped_levels - LEVELS // 2
        return is_kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped_levels))

    def extra_repr(self) -> str:
        """The probability, for ``print(model)``."""
        return f"p={self.p}"
