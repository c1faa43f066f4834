"""The layers of LightSANs: attention with the parameters of all three kinds, and feed-forward.

Shapes: B sequences   L positions   Q query positions (L, or 1 where only the newest is wanted)
    D hidden size   K interests   J = 2 K   N heads   H head size   P = 3: query, key, value
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsans.config import Activation, ModelConfig
from lightsans.config.kinds import ATTENTION
from lightsans.model.attention import HeadMap, Positions, Unmapped, take_positions
from lightsans.model.causal import exact_product
from lightsans.model.dropout import Dropout
from lightsans.model.kinds import CODE, Padding

ACTIVATIONS: Final[dict[Activation, Callable[[Tensor], Tensor]]] = {
    "gelu": functional.gelu,
    "relu": torch.relu,
    "swish": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class _PositionCache:
    """`Positions` of a layer at inference, and a copy of the weights they were computed from.

    The copy is small and compared by value: not every optimizer leaves a trace of its changes.
    """

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.positions: Positions

    def follows_from(self, weights: list[Tensor]) -> bool:
        """Whether these are still the weights."""
        return len(self.weights) == len(weights) and all(
            new.device == old.device and new.dtype == old.dtype and torch.equal(new, old)
            for new, old in zip(weights, self.weights, strict=True)
        )

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
        self.position_norm = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.position_query = nn.Linear(D, D)
        self.position_key = nn.Linear(D, D)
        self.output = nn.Linear(D, D)
        self.dropout = Dropout(config.attn_dropout_prob)

        self._kept = _PositionCache()

    def forward(
        self, x_BLD: Tensor, positions_MD: Tensor, padding: Padding, newest_only: bool
    ) -> Tensor:
        """Context of each position, or of the newest alone: (B, Q, D).

        Args:
            x_BLD: Vectors of the items.
            positions_MD: The table of all M = ``max_seq_len`` positions, of which L are used.
            padding: Where the items are.
            newest_only: One position of each sequence instead of all.
        """
        needs_matrix = not newest_only or self._code.newest_needs_matrix
        positions = self._positions(positions_MD, x_BLD.shape[1], needs_matrix)
        logits_BLJ = self._pooling_logits(x_BLD, padding)
        query, key, value = map(self._by_head, (self.query, self.key, self.value))
        x = Unmapped(x_BLD, logits_BLJ, query, key, value, positions)
        read = self._code.newest if newest_only else self._code.every_position
        read_BQD: Tensor = self.output(read(x, padding, self.dropout))
        return read_BQD

    def _positions(self, positions_MD: Tensor, length: int, needs_matrix: bool) -> Positions:
        """`Positions` of the first ``length`` positions; at inference computed once and kept.

        Where gradients are wanted, under autocast, and in exported and compiled programs, it is
        computed each time.
        """
        is_inference = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if not is_inference or torch.is_autocast_enabled(positions_MD.device.type):
            return self._learnt_positions(positions_MD[:length], needs_matrix)
        parts = (self.position_norm, self.position_query, self.position_key)
        weights = [positions_MD, *(p for part in parts for p in part.parameters())]
        kept = self._kept
        if not kept.follows_from(weights) or (needs_matrix and not kept.positions.matrix):
            kept.weights = [weight.detach().clone() for weight in weights]
            kept.positions = self._learnt_positions(positions_MD, needs_matrix)
        return kept.positions if length == len(positions_MD) else kept.positions.first(length)

    def _learnt_positions(self, positions_LD: Tensor, needs_matrix: bool) -> Positions:
        L, N, H = len(positions_LD), self.n_heads, positions_LD.shape[1] // self.n_heads
        positions_LD = self.position_norm(positions_LD)
        q, k = (
            linear(positions_LD).view(L, N, H).transpose(0, 1)
            for linear in (self.position_query, self.position_key)
        )
        return Positions(q, k, self._code.position_matrix(q, k) if needs_matrix else [])

    def _pooling_logits(self, x_BLD: Tensor, padding: Padding) -> Tensor:
        """Weight of each item in each interest, before the softmax, (B, L, J).

        A product with theta follows a linear map, so the two are one map, from D to K numbers.
        """
        pooled = ((self.key, self.key_theta), (self.value, self.value_theta))
        weight_DJ = torch.cat([exact_product(m.weight.t(), theta) for m, theta in pooled], dim=1)
        bias_J = torch.cat([exact_product(m.bias, theta) for m, theta in pooled])
        logits_BLJ = exact_product(x_BLD, weight_DJ) + bias_J
        if not self._masks_padding:
            return logits_BLJ
        return logits_BLJ.masked_fill(~padding.is_item.unsqueeze(-1), float("-inf"))

    def _by_head(self, linear: nn.Linear) -> HeadMap:
        N, D = self.n_heads, linear.in_features
        return HeadMap(linear.weight.view(N, -1, D), linear.bias.view(N, -1))


class EncoderLayer(nn.Module):
    """Attention, then a feed-forward network; each is added to its input and normalised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.layer_norm_eps
        self.attention = LightAttention(config)
        self.attention_norm = nn.LayerNorm(D, eps=eps)
        self.inner = nn.Linear(D, config.inner_size)
        self.outer = nn.Linear(config.inner_size, D)
        self.feed_forward_norm = nn.LayerNorm(D, eps=eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(
        self, x_BLD: Tensor, positions_MD: Tensor, padding: Padding, newest_only: bool
    ) -> Tensor:
        """The layer's output at every position, or at the newest alone: (B, Q, D)."""
        read_BQD = self.attention(x_BLD, positions_MD, padding, newest_only)
        x_BQD = take_positions(x_BLD, padding.newest).unsqueeze(1) if newest_only else x_BLD
        x_BQD = self.attention_norm(x_BQD + self.dropout(read_BQD))
        fed_BQD = self.outer(self.activation(self.inner(x_BQD)))
        out_BQD: Tensor = self.feed_forward_norm(x_BQD + self.dropout(fed_BQD))
        return out_BQD
