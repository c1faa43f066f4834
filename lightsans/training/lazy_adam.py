"""Training an item table by its rows: a step costs what its own items cost, however many exist.

With a loss that looks at some items only, all other rows of the table have no gradient. So a step
gathers the rows of its items, learns their gradient alone, shares it as (rows, values), and
updates these rows.

Shapes: V = num_items + 1: items and padding   R distinct ids of a step   D hidden size
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Ids, Int64


class Renumbered(NamedTuple):
    """The ids of a step and where they are used."""

    rows: Int64
    """(R,) distinct ids, ascending; the first is 0, padding."""
    positions: list[Int64]
    """Position in ``rows`` of every id, for each array of ids; 0 for padding."""


def renumber(*arrays: Ids) -> Renumbered:
    """Number the distinct ids of some arrays from 0; padding stays 0."""
    flat = np.concatenate([[0], *(array.ravel() for array in arrays)])
    rows, inverse = np.unique(flat, return_inverse=True)
    pieces = np.split(inverse[1:], np.cumsum([array.size for array in arrays])[:-1])
    positions = [piece.reshape(a.shape) for piece, a in zip(pieces, arrays, strict=True)]
    return Renumbered(rows.astype(np.int64), positions)


class RowAdam:
    """Adam that updates the rows it is given and leaves all others alone ("lazy" Adam).

    The difference from Adam: there, a row without a gradient goes on moving by its momentum, and
    both moments decay. Here such a row keeps its value and its moments until it is met again. The
    bias correction counts the steps of the whole table. Given every row in every step, this is
    Adam. `torch.optim.SparseAdam` has the same rules; its epsilon differs in the first steps.

    Where the table is bfloat16, so are the moments. The arithmetic is float32, and what is stored
    is rounded up or down at random, in proportion to the distance: updates that are smaller than a
    bfloat16 can express add up on average instead of being lost. The random bits depend on the
    seed and the number of the step alone, so all workers store the same.

    Args:
        table_VD: The trained table, float32 or bfloat16; changed in place.
        learning_rate: Adam's alpha.
        seed: Seed of the rounding.

    Source: Kingma and Ba, "Adam", ICLR 2015.
    """

    BETAS = (0.9, 0.999)
    EPS = 1e-8

    def __init__(self, table_VD: Tensor, learning_rate: float, seed: int = 0) -> None:
        self._table, self.learning_rate, self._seed = table_VD, learning_rate, seed
        self._mean, self._square = torch.zeros_like(table_VD), torch.zeros_like(table_VD)
        self._steps = 0
        self._generator = torch.Generator(table_VD.device)

    def take(self, rows_R: Tensor) -> Tensor:
        """The values of some rows, float32, (R, D)."""
        return self._table.detach().index_select(0, rows_R).float()

    @torch.no_grad()
    def step(self, rows_R: Tensor, grad_RD: Tensor) -> None:
        """Update distinct rows by their gradients, float32."""
        self._steps += 1
        beta_mean, beta_square = self.BETAS
        mean = self._mean.index_select(0, rows_R).float().lerp_(grad_RD, 1 - beta_mean)
        square = self._square.index_select(0, rows_R).float().mul_(beta_square)
        square.addcmul_(grad_RD, grad_RD, value=1 - beta_square)
        step_size = self.learning_rate / (1 - beta_mean**self._steps)
        spread = square.div(1 - beta_square**self._steps).sqrt_().add_(self.EPS)
        values = self.take(rows_R).addcdiv_(mean, spread, value=-step_size)
        parts = [values, mean, square]
        if self._table.dtype == torch.bfloat16:
            self._generator.manual_seed(self._seed + self._steps)
            parts = [round_stochastically(part, self._generator) for part in parts]
        for whole, part in zip((self._table, self._mean, self._square), parts, strict=True):
            whole.index_copy_(0, rows_R, part)

    def state(self) -> dict[str, Tensor]:
        """Moments and number of steps; the table is not among them."""
        return {"mean": self._mean, "square": self._square, "steps": torch.tensor(self._steps)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state`."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        self._steps = int(state["steps"])


def round_stochastically(x: Tensor, generator: torch.Generator) -> Tensor:
    """``x``, float32, as one of its two bfloat16 neighbours: the nearer it is, the likelier.

    A bfloat16 is the upper half of a float32's bits; noise added to the lower half carries into the
    upper one as often as the lower half is large.
    """
    noise = torch.randint(
        0, 2**16, x.shape, generator=generator, dtype=torch.int32, device=x.device
    )
    return noise.add_(x.view(torch.int32)).bitwise_and_(-(2**16)).view(torch.float32).bfloat16()
