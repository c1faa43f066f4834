"""The layers of LightSANs: attention with the parameters of all three kinds, and feed-forward.

Shapes: B sequences   L positions   Q query positions (L, or 1 where only the newest is wanted)
    D hidden size   K interests   J = 2 K   N heads   H head size
"""

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsans.config import Activation, ModelConfig
from lightsans.config.kinds import ATTENTION
from lightsans.model.attention import (
    AbsoluteLogits,
    HeadMap,
    PositionLogits,
    Positions,
    RelativeLogits,
    Unmapped,
    position_divisors,
    take_positions,
)
from lightsans.model.blocks import PointwiseGate, ResidualGate, make_norm
from lightsans.model.causal import exact_product
from lightsans.model.dropout import Dropout
from lightsans.model.fading import FadingPositions
from lightsans.model.kinds import CODE, Layout

SLOWEST, FASTEST = 1 / 400, 1 / 3
"""Rates, per position, at which interests fade before training; the others lie between."""
EXPONENTIALS, NARROWEST = 8, 3.0
"""Means that fading positions read, and the fastest rate of these: nearly the newest item alone."""

ACTIVATIONS: Final[dict[Activation, Callable[[Tensor], Tensor]]] = {
    "gelu": functional.gelu,
    "relu": torch.relu,
    "swish": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class _PositionCache:
    """`Positions` of a layer at inference, and a copy of the weights they were computed from.

    The copy is small and compared by value: not every optimizer leaves a trace of its changes. Both
    are replaced at once: threads of a server may share a model.
    """

    def __init__(self) -> None:
        self._content: tuple[list[Tensor], Positions] | None = None

    def find(self, weights: list[Tensor], needs_matrix: bool) -> Positions | None:
        """The positions, if these are still the weights; with a matrix where one is needed."""
        if self._content is None:
            return None
        before, positions = self._content
        is_same = len(before) == len(weights) and all(
            new.device == old.device and new.dtype == old.dtype and torch.equal(new, old)
            for new, old in zip(weights, before, strict=True)
        )
        return positions if is_same and (positions.matrix or not needs_matrix) else None

    def keep(self, weights: list[Tensor], positions: Positions) -> None:
        """Keep positions that were computed from these weights."""
        self._content = [weight.detach().clone() for weight in weights], positions

    def __reduce__(self) -> tuple[type["_PositionCache"], tuple[()]]:
        return _PositionCache, ()  # copies of a model compute it again


class LightAttention(nn.Module):
    """The parameters of one attention layer, the same for all kinds."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self._code = CODE[config.attention]
        self._masks_padding = ATTENTION[config.attention].masks_padding
        self.n_heads = config.n_heads
        self.query = nn.Linear(D, D)
        self.key = nn.Linear(D, D)
        self.value = nn.Linear(D, D)
        self.key_theta = nn.Parameter(torch.empty(D, config.k_interests))
        self.value_theta = nn.Parameter(torch.empty(D, config.k_interests))
        if config.interest_decay != "none":
            self.decay = nn.Parameter(torch.empty(2 * config.k_interests))
        self._max_length = config.max_seq_len
        if config.has_position_vectors:
            self.position_norm = make_norm(config)
            self.position_query = nn.Linear(D, D)
            self.position_key = nn.Linear(D, D)
        elif config.has_fading_positions:
            self.position_decay = nn.Parameter(torch.empty(EXPONENTIALS))
            self.position_mix = nn.Parameter(torch.empty(config.n_heads, EXPONENTIALS))
        else:
            self.position_logits = nn.Parameter(torch.empty(config.n_heads, config.max_seq_len))
        self._divisors = position_divisors(D // config.n_heads, config.position_scaling == "twice")
        if config.position_scaling == "learned":
            self.position_temperature = nn.Parameter(torch.empty(config.n_heads))
        self.output = nn.Linear(D, D)
        self.gate = PointwiseGate(config) if config.gate == "pointwise" else None
        self.dropout = Dropout(config.attn_dropout_prob)
        self.position_dropout = Dropout(config.position_dropout_prob)

        self._kept = _PositionCache()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw what is not part of a linear map."""
        self.key_theta.normal_()
        self.value_theta.normal_()
        if hasattr(self, "decay"):
            self.decay.copy_(_spread(FASTEST, self.key_theta.shape[1]).repeat(2))
        if hasattr(self, "position_decay"):
            self.position_decay.copy_(_spread(NARROWEST, EXPONENTIALS))
            self.position_mix.zero_()
        if hasattr(self, "position_logits"):
            self.position_logits.zero_()
        if hasattr(self, "position_temperature"):
            self.position_temperature.zero_()

    def forward(
        self, x_BLD: Tensor, positions_MD: Tensor | None, layout: Layout, newest_only: bool
    ) -> Tensor:
        """Context of each position, or of the newest alone: (B, Q, D).

        Args:
            x_BLD: Vectors of the items.
            positions_MD: The table of all M = ``max_seq_len`` positions, of which L are used;
                None where they have no vectors.
            layout: Where the items are, and their places on the clock.
            newest_only: One position of each sequence instead of all.
        """
        needs_matrix = not newest_only or self._code.newest_needs_matrix
        positions = self._positions(positions_MD, layout, needs_matrix)
        logits_BLJ = self.pooling_logits(x_BLD, layout)
        query, key, value = map(self._by_head, (self.query, self.key, self.value))
        x = Unmapped(x_BLD, logits_BLJ, query, key, value, positions)
        read = self._code.newest if newest_only else self._code.every_position
        read_BQD = read(x, layout, self.dropout)
        if self.gate is not None:
            read_BQD = self.gate(read_BQD, _queries(x_BLD, layout, newest_only))
        output_BQD: Tensor = self.output(read_BQD)
        return output_BQD

    def _positions(
        self, positions_MD: Tensor | None, layout: Layout, needs_matrix: bool
    ) -> Positions | FadingPositions:
        if hasattr(self, "position_decay"):
            mix_NM = self.position_mix.float().softmax(dim=-1)
            return FadingPositions(_fading_logits(self.position_decay, layout.clock), mix_NM)
        length = layout.clock.shape[1]
        found = self._matrix_positions(positions_MD, length, needs_matrix)
        return found._replace(dropout=self.position_dropout)

    def _matrix_positions(
        self, positions_MD: Tensor | None, length: int, needs_matrix: bool
    ) -> Positions:
        """`Positions` of the first ``length`` positions; at inference computed once and kept.

        Where gradients are wanted, under autocast, and in exported and compiled programs, it is
        computed each time.
        """
        is_inference = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if not is_inference or torch.is_autocast_enabled(self.key_theta.device.type):
            return self._learnt_positions(positions_MD, length, needs_matrix)
        named = self.named_parameters()
        weights: list[Tensor] = [p for name, p in named if name.startswith("position_")]
        if positions_MD is not None:
            weights.append(positions_MD)
        positions = self._kept.find(weights, needs_matrix)
        if positions is None:
            positions = self._learnt_positions(positions_MD, self._max_length, needs_matrix)
            self._kept.keep(weights, positions)
        return positions if length == self._max_length else positions.first(length)

    def _learnt_positions(
        self, positions_MD: Tensor | None, length: int, needs_matrix: bool
    ) -> Positions:
        logits = self._position_logits(positions_MD, length)
        return Positions(logits, self._code.position_matrix(logits) if needs_matrix else [])

    def _position_logits(self, positions_MD: Tensor | None, length: int) -> PositionLogits:
        if positions_MD is None:
            return RelativeLogits(self.position_logits, length)
        positions_LD = self.position_norm(positions_MD[:length])
        q, k = (
            linear(positions_LD).view(length, self.n_heads, -1).transpose(0, 1)
            for linear in (self.position_query, self.position_key)
        )
        if hasattr(self, "position_temperature"):
            q = q * self.position_temperature.exp()[:, None, None]
        return AbsoluteLogits(q, k, self._divisors)

    def pooling_logits(self, x_BLD: Tensor, layout: Layout) -> Tensor:
        """Weight of each item in each interest, before the softmax, (B, L, J).

        A product with theta follows a linear map, so the two are one map, from D to K numbers.
        """
        pooled = ((self.key, self.key_theta), (self.value, self.value_theta))
        weight_DJ = torch.cat([exact_product(m.weight.t(), theta) for m, theta in pooled], dim=1)
        bias_J = torch.cat([exact_product(m.bias, theta) for m, theta in pooled])
        logits_BLJ = exact_product(x_BLD, weight_DJ) + bias_J
        if hasattr(self, "decay"):
            logits_BLJ = logits_BLJ + _fading_logits(self.decay, layout.clock)
        if not self._masks_padding:
            return logits_BLJ
        return logits_BLJ.masked_fill(~layout.is_item.unsqueeze(-1), float("-inf"))

    def _by_head(self, linear: nn.Linear) -> HeadMap:
        N, D = self.n_heads, linear.in_features
        return HeadMap(linear.weight.view(N, -1, D), linear.bias.view(N, -1))


def _queries(x_BLD: Tensor, layout: Layout, newest_only: bool) -> Tensor:
    """Vectors of the positions that read, (B, Q, D)."""
    return take_positions(x_BLD, layout.newest).unsqueeze(1) if newest_only else x_BLD


def _fading_logits(decay_J: Tensor, clock_BL: Tensor) -> Tensor:
    """Logits that let an item's weight fall by exp(-rate) per unit of the clock, (B, L, J).

    A softmax does not change when all logits get the same number: so rate times clock weighs every
    prefix by age, whatever its length, and the sums over prefixes stay one.
    """
    return clock_BL.unsqueeze(-1) * functional.softplus(decay_J.float())


def _spread(fastest: float, count: int) -> Tensor:
    """Parameters whose softplus are rates from `SLOWEST` to the fastest, evenly by logarithm."""
    return torch.logspace(math.log10(SLOWEST), math.log10(fastest), count).expm1().log()


class EncoderLayer(nn.Module):
    """Attention, then a feed-forward network; each is added to its input.

    Norms follow the sums, or with ``model.norm_placement: pre`` come before the two branches.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self._norms_first = config.norm_placement == "pre"
        self.attention = LightAttention(config)
        self.attention_norm = make_norm(config)
        self.inner = nn.Linear(D, config.inner_size)
        self.outer = nn.Linear(config.inner_size, D)
        self.feed_forward_norm = make_norm(config)
        is_gated = config.gate == "residual"
        self.attention_gate = ResidualGate(config) if is_gated else None
        self.feed_forward_gate = ResidualGate(config) if is_gated else None
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(
        self,
        x_BLD: Tensor,
        positions_MD: Tensor | None,
        layout: Layout,
        newest_only: bool,
        request_BQD: Tensor | None = None,
    ) -> Tensor:
        """The layer's output at every position, or at the newest alone: (B, Q, D).

        ``request_BQD`` is added to the attention's result, which no other position reads: each
        prefix may have a request of its own.
        """
        own_BLD = self.attention_norm(x_BLD) if self._norms_first else x_BLD
        read_BQD = self.attention(own_BLD, positions_MD, layout, newest_only)
        x_BQD = _queries(x_BLD, layout, newest_only)
        if request_BQD is not None:
            x_BQD = x_BQD + request_BQD
        x_BQD = self._add(read_BQD, x_BQD, self.attention_norm, self.attention_gate)
        own_BQD = self.feed_forward_norm(x_BQD) if self._norms_first else x_BQD
        fed_BQD = self.outer(self.activation(self.inner(own_BQD)))
        return self._add(fed_BQD, x_BQD, self.feed_forward_norm, self.feed_forward_gate)

    def _add(
        self, branch_BQD: Tensor, x_BQD: Tensor, norm: nn.Module, gate: ResidualGate | None
    ) -> Tensor:
        """A branch's result, gated, added to its input; normalised if the norm comes last."""
        if gate is not None:
            branch_BQD = gate(branch_BQD, x_BQD)
        sum_BQD = x_BQD + self.dropout(branch_BQD)
        out_BQD: Tensor = sum_BQD if self._norms_first else norm(sum_BQD)
        return out_BQD
