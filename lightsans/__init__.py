"""LightSANs: sequential recommendation with low-rank self-attention.

The names below load PyTorch when they are first used, not before: tasks that only prepare data
start faster without it.
"""

from typing import TYPE_CHECKING, Any

from lightsans.config import ModelConfig
from lightsans.errors import (
    ConfigError,
    InputError,
    LightSANsError,
    NotFoundError,
    RejectLimitError,
    TrainingError,
    VocabularyMismatchError,
)

if TYPE_CHECKING:
    from lightsans.in_process.recommender import Recommender
    from lightsans.model.network import LightSANs

__all__ = [
    "ConfigError",
    "InputError",
    "LightSANs",
    "LightSANsError",
    "ModelConfig",
    "NotFoundError",
    "Recommender",
    "RejectLimitError",
    "TrainingError",
    "VocabularyMismatchError",
]


def __getattr__(name: str) -> Any:
    if name == "LightSANs":
        from lightsans.model.network import LightSANs

        return LightSANs
    if name == "Recommender":
        from lightsans.in_process.recommender import Recommender

        return Recommender
    raise AttributeError(f"module 'lightsans' has no attribute {name!r}")
