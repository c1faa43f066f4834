"""A causal SASRec of the same width, on PyTorch's own attention: a peer of the benchmarks.

Every prefix of a sequence in one pass, as for our `causal`. Layers are those of RecBole's SASRec:
attention, then feed-forward, each added to its input and normalised afterwards; positions are added
to the items. Dropout is ours, which is faster than PyTorch's on a CPU, except on the attention
weights: there PyTorch's attention has its own, with which it leaves its fast path on a CPU.

Shapes: B sequences   L positions   D hidden size   N heads   H head size
"""

from torch import Tensor, nn
from torch.nn import functional

from lightsans.config import ModelConfig
from lightsans.model.dropout import Dropout
from lightsans.model.layers import ACTIVATIONS


class Layer(nn.Module):
    """Attention to the prefix, then a feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.layer_norm_eps
        self.n_heads, self.attention_dropout = config.n_heads, config.attn_dropout_prob
        self.qkv, self.output = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.attention_norm = nn.LayerNorm(D, eps=eps)
        self.inner, self.outer = nn.Linear(D, config.inner_size), nn.Linear(config.inner_size, D)
        self.feed_forward_norm = nn.LayerNorm(D, eps=eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x_BLD: Tensor) -> Tensor:
        """The layer's output, (B, L, D)."""
        B, L, D = x_BLD.shape
        qkv = self.qkv(x_BLD).view(B, L, 3, self.n_heads, D // self.n_heads)
        q_BNLH, k_BNLH, v_BNLH = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        p = self.attention_dropout if self.training else 0.0
        context = functional.scaled_dot_product_attention(
            q_BNLH, k_BNLH, v_BNLH, dropout_p=p, is_causal=True
        )
        read_BLD = self.output(context.transpose(1, 2).reshape(B, L, D))
        x_BLD = self.attention_norm(x_BLD + self.dropout(read_BLD))
        fed_BLD = self.outer(self.activation(self.inner(x_BLD)))
        out_BLD: Tensor = self.feed_forward_norm(x_BLD + self.dropout(fed_BLD))
        return out_BLD


class CausalSASRec(nn.Module):
    """User vectors for every prefix; padding on the right cannot reach a prefix."""

    def __init__(self, config: ModelConfig, num_items: int) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(num_items + 1, config.hidden_size, padding_idx=0)
        self.position_embedding = nn.Embedding(config.max_seq_len, config.hidden_size)
        self.item_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.n_layers)])
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=config.initializer_range)

    def forward(self, item_ids: Tensor) -> Tensor:
        """(B, L) ids to (B, L, D) vectors."""
        positions_LD = self.position_embedding.weight[: item_ids.shape[1]]
        x_BLD: Tensor = self.item_norm(self.item_embedding(item_ids) + positions_LD)
        x_BLD = self.dropout(x_BLD)
        for layer in self.layers:
            x_BLD = layer(x_BLD)
        return x_BLD
