"""Parts of a layer that a setting chooses: norms and gates.

Sources: RMSNorm: Zhang and Sennrich, NeurIPS 2019. Norms before the branches: Xiong et al., "On
Layer Normalization in the Transformer Architecture", ICML 2020. Residual gate: Liu et al., "From
Features to Transformers: Redefining Ranking for Scalable Impact" (LiGR), 2025. Pointwise gate: Zhai
et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
Recommendations" (HSTU), ICML 2024.

Shapes: Q query positions   D hidden size
"""

from torch import Tensor, nn
from torch.nn import functional

from lightsans.config import ModelConfig

NORMS = (nn.LayerNorm, nn.RMSNorm)
"""Types of `make_norm`'s results."""


def make_norm(config: ModelConfig) -> nn.LayerNorm | nn.RMSNorm:
    """The norm of ``model.norm`` for vectors of D numbers."""
    D, eps = config.hidden_size, config.layer_norm_eps
    if config.norm == "rms":
        return nn.RMSNorm(D, eps=eps)
    return nn.LayerNorm(D, eps=eps)


class ResidualGate(nn.Module):
    """Share of a branch that is added to its input: a sigmoid of the input, number by number."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.map = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, branch_BQD: Tensor, x_BQD: Tensor) -> Tensor:
        """The branch, gated by the vectors that it is to be added to, (B, Q, D)."""
        gated_BQD: Tensor = branch_BQD * self.map(x_BQD).sigmoid()
        return gated_BQD


class PointwiseGate(nn.Module):
    """Context of attention, normalised, times a SiLU of the vector that reads it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = make_norm(config)
        self.map = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, context_BQD: Tensor, x_BQD: Tensor) -> Tensor:
        """The context, gated by the vectors of its positions, (B, Q, D)."""
        context_BQD = context_BQD.to(self.norm.weight.dtype)  # autocast leaves norms to float32
        gated_BQD: Tensor = self.norm(context_BQD) * functional.silu(self.map(x_BQD))
        return gated_BQD
