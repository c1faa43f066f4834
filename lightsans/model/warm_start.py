"""Initial weights from another model, item by item."""

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Int32
from lightsans.config import ModelConfig
from lightsans.errors import ConfigError
from lightsans.model.network import LightSANs

ITEM_TABLE = "item_embedding.weight"
SAME = (
    "hidden_size",
    "inner_size",
    "n_layers",
    "n_heads",
    "k_interests",
    "max_seq_len",
    "layer_norm_eps",
)
"""Settings that give the weights their shape and meaning; attention may differ, for fine-tuning."""
PARTS = (
    "interest_decay",
    "positions",
    "position_scaling",
    "norm",
    "norm_placement",
    "gate",
    "scores",
)
"""Settings that decide which weights there are."""


def warm_weights(
    source: LightSANs,
    config: ModelConfig,
    num_items: int,
    mapping: Int32 | None,
    seed: int,
    name: str,
) -> dict[str, Tensor]:
    """Weights for a new model: those of ``source``, and new ones for items that it does not know.

    Args:
        source: A trained model.
        config: Configuration of the new model.
        num_items: Items of the new model.
        mapping: Row i holds the source's id of the new model's item i, 0 for unknown; None where
            they are the same.
        seed: Seed of the new rows.
        name: Name of the source, for errors.

    Raises:
        ConfigError: The two differ in more than their items; the message names the settings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = LightSANs(config, num_items).state_dict()
    has_same_parts = weights.keys() == source.state_dict().keys()
    names = SAME if has_same_parts else (*SAME, *PARTS)
    differing = [s for s in names if getattr(source.config, s) != getattr(config, s)]
    if differing:
        theirs = ", ".join(f"model.{s}={getattr(source.config, s)}" for s in differing)
        ours = ", ".join(f"{getattr(config, s)}" for s in differing)
        raise ConfigError(
            f"{name} was trained with {theirs}, this configuration has {ours}; set them alike, or "
            "train without --from (train.warm_start)"
        )
    known = np.arange(num_items + 1, dtype=np.int32) if mapping is None else mapping
    rows = torch.from_numpy(np.flatnonzero(known))
    theirs_of_rows = torch.from_numpy(known[known > 0].astype(np.int64))
    for key, value in source.state_dict().items():
        if key != ITEM_TABLE:
            weights[key] = value.to(weights[key].dtype)
            continue
        weights[key][rows] = value[theirs_of_rows].to(weights[key].dtype)
        weights[key][0] = value[0]  # padding, which `reference` reads
    return weights
