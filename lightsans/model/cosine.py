"""Cosine scores as one product of two vectors, so that ranking and export know nothing of them.

Item vectors are compared by their directions; a user's vector has the length 1 / temperature.
"""

import torch
from torch import Tensor, nn

TINY = 1e-12
"""Added to squared lengths: a vector of zeros has no direction, and stays zero."""


def directions(x: Tensor) -> Tensor:
    """Vectors (..., D) divided by their lengths, in float32."""
    x = x.float()
    return x * (x.square().sum(dim=-1, keepdim=True) + TINY).rsqrt()


class CosineScale(nn.Module):
    """User vectors whose products with directions of items are cosines over a temperature.

    Args:
        temperature: Before training. Its logarithm is learned, so it stays positive.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._start = temperature
        self.log_temperature = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin with the temperature given."""
        self.log_temperature.fill_(self._start).log_()

    def forward(self, x: Tensor) -> Tensor:
        """User vectors (..., D) of length 1 / temperature."""
        return directions(x) * (-self.log_temperature).exp()
