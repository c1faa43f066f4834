"""Models, runs and recommenders that are small enough to train within a test."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lightsans import LightSANs, ModelConfig
from lightsans.arrays import Int64
from lightsans.config import RunConfig, TrainConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.recommendations.list_maker import ListMaker

WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
EVERY_BLOCK = {
    "interest_decay": "position",
    "positions": "relative",
    "position_dropout_prob": 0.1,
    "norm": "rms",
    "norm_placement": "pre",
    "gate": "residual",
    "scores": "cosine",
}
"""Every part that a model may have beside those of the paper, of each the first."""


def small_config(**settings: Any) -> ModelConfig:
    """Two layers of eight numbers, with the given settings."""
    sizes = {"max_seq_len": 5, "hidden_size": 8, "inner_size": 8}
    return ModelConfig(**{**sizes, **settings})


def small_model(num_items: int, **settings: Any) -> LightSANs:
    return LightSANs(small_config(**settings), num_items)


def small_run(model: ModelConfig, **train: Any) -> RunConfig:
    """Training on this machine with one worker and one shard, unless the settings say otherwise."""
    alone = {"num_workers": 1, "virtual_shards": 1, "batch_size": 8}
    return RunConfig(model=model, train=TrainConfig(**{**alone, **train}))


def small_list_maker(eligible: Int64 | None = None) -> ListMaker:
    """Five items of 2,000 for everybody."""
    torch.manual_seed(0)
    items = Vocabulary(pa.array([f"i{i}" for i in range(2000)]), np.arange(2000, 0, -1))
    return ListMaker(
        small_model(2000, hidden_size=32, n_layers=1), items, items, None, k=5, remove_seen=True,
        eligible_ids=eligible, eligible_popular_ids=eligible,
    )  # fmt: skip
