"""Tables of kinds: names and properties of what a setting chooses among.

Settings are checked by these tables without importing torch or Arrow. The code behind a name lies
in its room, `lightsans.losses` for example, which asks the row instead of comparing names. A new
kind is its name and its row here, and its code there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

Attention = Literal["causal", "masked", "reference"]
Loss = Literal["CE", "BPR", "sampled_softmax", "gBCE"]
Sampling = Literal["uniform", "log_uniform", "in_batch"]
Format = Literal["parquet", "csv", "jsonl", "inter"]

LossSetting = Literal[Loss, "auto"]
FormatSetting = Literal["auto", Format]
TableMode = Literal["append", "replace"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionKind:
    """Properties of an attention kind."""

    name: Attention
    trains_prefixes: bool
    """Learns from every position of a window in one pass; otherwise from one target a sequence."""
    masks_padding: bool
    """Padding takes no part, so a batch may be as wide as its longest sequence."""
    is_recbole: bool = False
    """RecBole's released code, number for number, its optimizer included."""


ATTENTION: Final[Mapping[Attention, AttentionKind]] = {
    kind.name: kind
    for kind in (
        AttentionKind(name="causal", trains_prefixes=True, masks_padding=True),
        AttentionKind(name="masked", trains_prefixes=False, masks_padding=True),
        AttentionKind(
            name="reference", trains_prefixes=False, masks_padding=False, is_recbole=True
        ),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LossKind:
    """Properties of a loss."""

    name: Loss
    needs_negatives: bool = False
    """Compares targets with drawn items instead of all."""
    shares_negatives: bool = False
    """The drawn items are the same for all targets of a step; otherwise one for each target."""
    corrects_sampling: bool = False
    """Needs how often each drawn item was to be expected."""
    needs_uniform: bool = False
    """Assumes that all items are equally likely to be drawn."""
    trains_rows: bool = False
    """A step touches only the vectors of its own items."""
    in_recbole: bool = False
    """RecBole has it, under the same name."""
    is_softmax: bool = False
    """Scores are learnt as logits of a softmax over all items: probabilities follow from them."""
    auto_up_to: Mapping[str, float] | None = None
    """Largest catalogue for which ``auto`` takes it, by type of device (docs/losses.md); None:
    never."""


LOSSES: Final[Mapping[Loss, LossKind]] = {
    kind.name: kind
    for kind in (
        LossKind(
            name="CE",
            in_recbole=True,
            is_softmax=True,
            auto_up_to={"cpu": 20_000, "cuda": 100_000},
        ),
        LossKind(name="BPR", needs_negatives=True, trains_rows=True, in_recbole=True),
        LossKind(
            name="sampled_softmax",
            needs_negatives=True,
            shares_negatives=True,
            corrects_sampling=True,
            trains_rows=True,
            is_softmax=True,
            auto_up_to={"cpu": inf, "cuda": inf},
        ),
        LossKind(
            name="gBCE",
            needs_negatives=True,
            shares_negatives=True,
            needs_uniform=True,
            trains_rows=True,
        ),
    )
}
"""Losses in the order in which ``auto`` considers them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingKind:
    """Properties of a way to draw negatives that all targets of a step share."""

    name: Sampling
    needs_counts: bool = False
    """Goes by how often each item was interacted with."""
    needs_targets: bool = False
    """Takes the targets of the step."""

    @property
    def is_uniform(self) -> bool:
        """Whether all items are equally likely to be drawn."""
        return not (self.needs_counts or self.needs_targets)


SAMPLINGS: Final[Mapping[Sampling, SamplingKind]] = {
    kind.name: kind
    for kind in (
        SamplingKind(name="uniform"),
        SamplingKind(name="log_uniform", needs_counts=True),
        SamplingKind(name="in_batch", needs_counts=True, needs_targets=True),
    )
}


def auto_loss(num_items: int, device_type: str) -> Loss:
    """The loss that ``auto`` takes for so many items on a ``cpu`` or ``cuda`` device."""
    for name, kind in LOSSES.items():
        limits = kind.auto_up_to
        if limits is not None and num_items <= limits.get(device_type, limits["cpu"]):
            return name
    raise AssertionError("the last loss that auto considers has no limit")


def trains_rows(loss: Loss, attention: Attention) -> bool:
    """Whether a step updates only the vectors of its own items, by a lazy optimizer.

    What RecBole trains by an Adam that moves every row in every step stays that way in its kind of
    attention.
    """
    as_recbole = LOSSES[loss].in_recbole and ATTENTION[attention].is_recbole
    return LOSSES[loss].trains_rows and not as_recbole


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatKind:
    """Properties of an input format."""

    name: Format
    endings: tuple[str, ...]
    """Endings of its file names, in lower case."""
    is_text: bool = True
    """Lines, which may be compressed and are read in pieces; otherwise row groups."""


FORMATS: Final[Mapping[Format, FormatKind]] = {
    kind.name: kind
    for kind in (
        FormatKind(name="parquet", endings=(".parquet", ".pq"), is_text=False),
        FormatKind(name="csv", endings=(".csv", ".tsv", ".txt", ".tab", ".psv", ".dat", ".data")),
        FormatKind(name="jsonl", endings=(".jsonl", ".ndjson", ".json")),
        FormatKind(name="inter", endings=(".inter",)),
    )
}


SplitMethod = Literal["leave_one_out", "temporal", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitMethodKind:
    """Properties of a way to hold interactions out."""

    name: SplitMethod
    cuts_by_time: bool
    """Two moments, the same for all users, divide train, valid and test; otherwise each user's last
    two interactions are held out."""
    holds_out: bool = True
    """Something is held out, so that epochs can be chosen and models be tested."""


SPLIT_METHODS: Final[Mapping[SplitMethod, SplitMethodKind]] = {
    kind.name: kind
    for kind in (
        SplitMethodKind(name="leave_one_out", cuts_by_time=False),
        SplitMethodKind(name="temporal", cuts_by_time=True),
        SplitMethodKind(name="none", cuts_by_time=False, holds_out=False),
    )
}


Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleKind:
    """Properties of a schedule of the learning rate after the warm-up."""

    name: Schedule
    needs_end: bool
    """The rate of a step depends on the number of all epochs: a shorter run is another one."""


SCHEDULES: Final[Mapping[Schedule, ScheduleKind]] = {
    kind.name: kind
    for kind in (
        ScheduleKind(name="constant", needs_end=False),
        ScheduleKind(name="cosine", needs_end=True),
    )
}


Layout = Literal["wide", "long"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutKind:
    """Properties of a layout of recommendations."""

    name: Layout
    has_row_per_item: bool
    """A row is one recommendation, and users without any have none; otherwise a row is a user."""


LAYOUTS: Final[Mapping[Layout, LayoutKind]] = {
    kind.name: kind
    for kind in (
        LayoutKind(name="wide", has_row_per_item=False),
        LayoutKind(name="long", has_row_per_item=True),
    )
}


Engine = Literal["optuna", "random", "grid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineKind:
    """Properties of what proposes the next trial of a search."""

    name: Engine
    lists_combinations: bool = False
    """Takes the combinations of the space in their order, so they must be countable."""
    learns: bool = False
    """Goes by the trials so far; by a package that is an extra."""


ENGINES: Final[Mapping[Engine, EngineKind]] = {
    kind.name: kind
    for kind in (
        EngineKind(name="optuna", learns=True),
        EngineKind(name="random"),
        EngineKind(name="grid", lists_combinations=True),
    )
}

Scheduler = Literal["asha", "median", "none"]
"""Names of what ends poor trials early; `pipelines.tune.ray_adapters` has the code of each."""

Optimizer = Literal["adam", "adamw"]
"""Names of optimizers; `lightsans.training.optimizer` has the code of each."""


BASELINES: Final = ("popular", "popular_recent", "successor")
"""Scorers that a model is compared with: popularity of all time, that of the last
``evaluate.popular_days``, and the most frequent successor."""
