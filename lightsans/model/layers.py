"""The layers of LightSANs: attention with the parameters of all three kinds, and feed-forward.

Shapes: B sequences   L positions   Q query positions (L, or 1 where only the newest is wanted)
    D hidden size   K interests   J = 2 K   N heads   H head size   P = 3: query, key, value
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsans.config import Activation, ModelConfig
from lightsans.model.attention import (
    HeadMap,
    Positions,
    Projected,
    Unmapped,
    causal_context,
    causal_weights,
    masked_context,
    newest_context,
    position_logits,
    reference_context,
    take_positions,
)
from lightsans.model.causal import exact_product
from lightsans.model.dropout import Dropout

ACTIVATIONS: Final[dict[Activation, Callable[[Tensor], Tensor]]] = {
    "gelu": functional.gelu,
    "relu": torch.relu,
    "swish": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Padding(NamedTuple):
    """Where the items of a right-padded batch are."""

    is_item: Tensor
    """(B, L), True at items. Also at an empty sequence's first position: a sum needs a term."""
    newest: Tensor
    """(B,), position of the newest item; 0 for an empty sequence."""


class _Kept:
    """What a layer has learnt about positions, and a copy of the weights it follows from.

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

    def __reduce__(self) -> tuple[type["_Kept"], tuple[()]]:
        return _Kept, ()  # copies of a model compute it again


class LightAttention(nn.Module):
    """The parameters of one attention layer, the same for all three kinds."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.kind = config.attention
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

        self._kept = _Kept()

    def forward(
        self, x_BLD: Tensor, positions_MD: Tensor, padding: Padding, newest_only: bool
    ) -> Tensor:
        """What each position, or the newest alone, reads from its sequence: (B, Q, D).

        Args:
            x_BLD: Vectors of the items.
            positions_MD: The table of all M = ``max_seq_len`` positions, of which L are used.
            padding: Where the items are.
            newest_only: One position of each sequence instead of all.
        """
        needs_matrix = self.kind == "reference" or not newest_only
        positions = self._positions(positions_MD, x_BLD.shape[1], needs_matrix)
        logits_BLJ = self._pooling_logits(x_BLD, padding)
        if self.kind == "causal" and not newest_only:
            context_BQD = causal_context(self._project(x_BLD, logits_BLJ, positions), self.dropout)
        else:
            query, key, value = map(self._by_head, (self.query, self.key, self.value))
            x = Unmapped(x_BLD, logits_BLJ, query, key, value, positions)
            if self.kind == "reference":
                newest_B = padding.newest if newest_only else None
                context_BQD = reference_context(x, newest_B, self.dropout)
            elif newest_only:
                context_BQD = newest_context(x, padding.is_item, padding.newest, self.dropout)
            else:
                context_BQD = masked_context(x, padding.is_item, self.dropout)
        read_BQD: Tensor = self.output(context_BQD)
        return read_BQD

    def _positions(self, positions_MD: Tensor, length: int, needs_matrix: bool) -> Positions:
        """What the layer has learnt about the first positions; at inference computed once for all.

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
        if not needs_matrix:
            return Positions(q, k, [])
        if self.kind == "causal":
            return Positions(q, k, causal_weights(q, k))
        logits_NLL = position_logits(q, k)
        matrix_NLL = logits_NLL if self.kind == "masked" else logits_NLL.softmax(dim=1)
        return Positions(q, k, [matrix_NLL])

    def _pooling_logits(self, x_BLD: Tensor, padding: Padding) -> Tensor:
        """How much each item counts in each interest, before the softmax, (B, L, J).

        A product with theta follows a linear map, so the two are one map, from D to K numbers.
        """
        pooled = ((self.key, self.key_theta), (self.value, self.value_theta))
        weight_DJ = torch.cat([exact_product(m.weight.t(), theta) for m, theta in pooled], dim=1)
        bias_J = torch.cat([exact_product(m.bias, theta) for m, theta in pooled])
        logits_BLJ = exact_product(x_BLD, weight_DJ) + bias_J
        if self.kind == "reference":
            return logits_BLJ
        return logits_BLJ.masked_fill(~padding.is_item.unsqueeze(-1), float("-inf"))

    def _project(self, x_BLD: Tensor, logits_BLJ: Tensor, positions: Positions) -> Projected:
        B, L, D = x_BLD.shape
        N, H = self.n_heads, D // self.n_heads
        maps = (self.query, self.key, self.value)
        weight, bias = torch.cat([m.weight for m in maps]), torch.cat([m.bias for m in maps])
        qkv = functional.linear(x_BLD, weight, bias).view(B, L, 3, N, H)
        # One copy, so that the many products by head and sequence need none.
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        return Projected(q, k, v, logits_BLJ, positions)

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
