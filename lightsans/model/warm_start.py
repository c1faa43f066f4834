"""Initial weights from another model, item by item."""

import numpy as np
import torch
from torch import Tensor

from lightsans.arrays import Int32
from lightsans.config import ModelConfig
from lightsans.config.marks import Mark, differing, to_dict
from lightsans.errors import ConfigError
from lightsans.model.network import LightSANs

ITEM_TABLE = "item_embedding.weight"


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
    others = differing(to_dict(source.config), config, Mark.WEIGHTS)
    if others:
        theirs = ", ".join(f"model.{s}={getattr(source.config, s)}" for s in others)
        ours = ", ".join(f"{getattr(config, s)}" for s in others)
        raise ConfigError(
            f"{name} was trained with {theirs}, this configuration has {ours}; set them alike, or "
            "train without --from (train.warm_start)"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = LightSANs(config, num_items).state_dict()
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
