"""Every setting of the pipeline, as frozen dataclasses.

The names under each class are those of the YAML file (``model.k_interests`` is
``RunConfig.model.k_interests``). Classes check themselves on construction and raise `ConfigError`;
`lightsans.config.file` (which needs pydantic and PyYAML, so it is not imported here) reads YAML and
``--set`` into them.
"""

from lightsans.config.data import (
    ColumnsConfig,
    DataConfig,
    EventConfig,
    IdType,
    ItemFeaturesConfig,
    TemporalConfig,
)
from lightsans.config.kinds import Attention
from lightsans.config.marks import to_dict
from lightsans.config.model import Activation, ModelConfig
from lightsans.config.nightly import NightlyConfig, NightlyTrainConfig
from lightsans.config.resources import CleanConfig, ResourcesConfig, StorageConfig
from lightsans.config.rules import ItemGroup, RulesConfig
from lightsans.config.run import RunConfig
from lightsans.config.score import (
    AudienceConfig,
    EvaluateConfig,
    ScoreConfig,
    SimilarConfig,
)
from lightsans.config.train import TrainConfig, TuneConfig

__all__ = [
    "Activation",
    "Attention",
    "AudienceConfig",
    "CleanConfig",
    "ColumnsConfig",
    "DataConfig",
    "EvaluateConfig",
    "EventConfig",
    "IdType",
    "ItemFeaturesConfig",
    "ItemGroup",
    "ModelConfig",
    "NightlyConfig",
    "NightlyTrainConfig",
    "ResourcesConfig",
    "RulesConfig",
    "RunConfig",
    "ScoreConfig",
    "SimilarConfig",
    "StorageConfig",
    "TemporalConfig",
    "TrainConfig",
    "TuneConfig",
    "to_dict",
]
