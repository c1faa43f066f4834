"""All settings of a run, one class per section, and their names and types."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from lightsans.config.checks import require
from lightsans.config.data import DataConfig
from lightsans.config.kinds import ATTENTION, trains_rows
from lightsans.config.marks import Mark, setting
from lightsans.config.model import ModelConfig
from lightsans.config.nightly import NightlyConfig
from lightsans.config.resources import CleanConfig, ResourcesConfig, StorageConfig
from lightsans.config.score import (
    AudienceConfig,
    EvaluateConfig,
    ScoreConfig,
    SimilarConfig,
)
from lightsans.config.train import TrainConfig, TuneConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything one run of the pipeline depends on."""

    root: str = setting("./lightsans-data", Mark.NO_EFFECT, Mark.PATH)
    """Local path, s3://bucket/prefix, gs://bucket/prefix or abfs://container/prefix; datasets/,
    models/, recommendations/ and reports/ live under it."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    similar: SimilarConfig = field(default_factory=SimilarConfig)
    audience: AudienceConfig = field(default_factory=AudienceConfig)
    nightly: NightlyConfig = field(default_factory=NightlyConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    profile: str | None = setting(None, Mark.NO_EFFECT)
    """A file of pipelines/profiles, such as laptop: workers and GPUs that suit a kind of machine.
    Settings in this file and on the command line win over it. No effect on results."""

    def __post_init__(self) -> None:
        require(self.root != "", "root is empty; give a local path or s3://bucket/prefix")
        window = self.model.max_seq_len
        stride = self.train.window_stride
        require(
            stride is None or stride <= window,
            f"train.window_stride={stride} is larger than model.max_seq_len={window}: some "
            "interactions would never be trained on",
        )
        loss, attention = self.model.loss_type, self.model.attention
        is_dense = loss != "auto" and not trains_rows(loss, attention)
        require(
            self.train.table_precision == "fp32" or not is_dense,
            f"train.table_precision={self.train.table_precision} needs a loss that looks at some "
            f"items only, but model.loss_type={loss} with model.attention={attention} updates "
            "every item in every step; set model.loss_type to sampled_softmax, gBCE or auto",
        )
        self._check_target_span()
        metrics = [
            f"{name}@{k}"
            for name in ("hit", "recall", "precision", "ndcg", "mrr")
            for k in self.evaluate.ks
        ]
        unknown = [name for name in self.nightly.floors if name not in metrics]
        require(
            not unknown,
            f"nightly.floors names {', '.join(unknown)}; evaluate.ks={list(self.evaluate.ks)} "
            f"gives {', '.join(metrics)}",
        )
        require(
            self.evaluate.popular_days is not None
            or "popular_recent" not in self.nightly.beat_baselines,
            "nightly.beat_baselines names popular_recent, but evaluate.popular_days is null; set "
            "it to a number of days, such as 7",
        )

    def _check_target_span(self) -> None:
        """Refuse drawn targets where each sample has a target of its own."""
        span, attention = self.train.target_span, self.model.attention
        require(
            span == 1 or ATTENTION[attention].trains_prefixes,
            f"train.target_span={span} needs model.attention=causal, found {attention}, whose "
            "samples are prefixes with the item that follows; leave one of the two out",
        )
        require(
            span == 1 or not self.data.events,
            f"train.target_span={span} does not go with data.events, which say what the targets "
            "are; leave one of the two out",
        )


ALIASES = {
    "model.num_layers": "model.n_layers",  # RecBole uses both
    "nightly.train.from": "nightly.train.start",  # no name of a field in Python
}


def _walk_types(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, annotation in get_type_hints(config_class).items():
        yield prefix + name, annotation
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            yield from _walk_types(annotation, f"{prefix}{name}.")


TYPES = dict(_walk_types(RunConfig))
SECTIONS = {name for name, annotation in TYPES.items() if dataclasses.is_dataclass(annotation)}
LEAVES = TYPES.keys() - SECTIONS


def setting_names() -> list[str]:
    """Every setting by its dotted name."""
    return [name for name in TYPES if name in LEAVES]


def setting_type(name: str) -> Any:
    """The type of a setting's values."""
    return TYPES[name]


def names_under(section: str) -> list[str]:
    """Names of the settings and sections right under a section; "" is the top."""
    return [name for name in TYPES if name.rpartition(".")[0] == section]
