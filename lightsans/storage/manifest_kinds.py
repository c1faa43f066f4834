"""Manifests of datasets, models and recommendation runs.

A field with a default was not written by every version of its format; the default is what its
absence means. Manifests that only their own stage reads are in that stage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.config.kinds import LAYOUTS, SPLIT_METHODS, SplitMethodKind
from lightsans.storage.manifests import Manifest
from lightsans.storage.records import fields_beside
from lightsans.storage.table_formats import TableVersion


def _check_parts(id_types: Mapping[str, str], num_parts: int) -> None:
    """Refuse types of ids and numbers of parts that there cannot be.

    Raises:
        ValueError: The message names the field.
    """
    for role, found in id_types.items():
        if found not in ("string", "int64"):
            raise ValueError(f"{role}_id_type is {found!r:.60}; expected string or int64")
    if not 1 <= num_parts <= NUM_BUCKETS:
        raise ValueError(f"num_parts is {num_parts}; expected 1 to {NUM_BUCKETS}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSummary:
    """Rows of a log: those read, refused and left out, and those left after each filter."""

    read: int
    rejected: Mapping[str, int]
    """Number of refused rows by reason."""
    excluded: int
    """Rows of users that `data.exclude_users` lists."""
    valid: int
    exact_duplicates: int
    filtered: int | None = None
    """Rows that `data.where` left out; None without it."""
    events: Mapping[str, int] | None = None
    """Usable rows by event, those that count for nothing included; None without `data.events`."""
    unused: int | None = None
    """Rows among them that count for nothing."""
    left: Mapping[str, int] = fields_beside()
    """Rows left after each filter, ``after_<filter>``, and before the cut-offs of a split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetPart:
    """A file of ``sequences/``."""

    name: str
    rows: int
    """Rows before ``data.as_of`` that it was derived from."""
    users: int
    trainable: int
    interactions: int
    """Length of all its sequences together."""
    fingerprint: str
    buckets: tuple[int, int]
    """First bucket of its users, and the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """A file of the log that a dataset was made of."""

    uri: str
    size: int
    etag: str
    deleted: str | None = None
    """Digest of its rows that its table had deleted; None if there are none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExcludedUsers:
    """Users that `data.exclude_users` lists, and those of them that were found."""

    listed: int
    found: int
    """Different ones: in the log or, with a base, in any of the following places."""
    in_log: int | None = None
    """Users found in the new files."""
    in_base: int | None = None
    """Users found in the base, whose rows of them were erased."""
    left_out_before: int | None = None
    """Known to the base as users whom it, or its own base, left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFeaturesSummary:
    """Features of a dataset's items."""

    sha256: str
    """SHA-256 of ``item_features.parquet``."""
    listed: int
    """Items of the dataset that the item table has."""
    new: int
    """Listed items without an interaction, which may be recommended all the same."""
    files: tuple[InputFile, ...]
    """Files of the item table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetManifest(Manifest):
    """Manifest of ``datasets/<id>``."""

    kind: ClassVar = "dataset"

    id: str
    format_version: int
    users: int
    trainable_users: int
    items: int
    interactions: int
    """Length of all sequences together."""
    fingerprint: str
    vocabulary_fingerprint: str
    rows: RowSummary
    k_core_rounds: int
    user_id_type: str
    """``string`` or ``int64``."""
    item_id_type: str
    timestamp_unit: str
    time_range: tuple[str, str]
    """ISO times of the oldest and the newest row."""
    num_buckets: int
    num_parts: int
    """Ranges that the buckets are cut into; a range without users has no part."""
    parts: tuple[DatasetPart, ...]
    data: Mapping[str, Any]
    """Section ``data`` of the configuration, with the settings that its version had."""
    base: str | None
    """Id of the dataset that it adds to."""
    cutoffs: Mapping[str, str] | None = None
    """ISO times at which a temporal split cuts; None under leave-one-out."""
    input: tuple[InputFile, ...]
    tables: tuple[TableVersion, ...] | None = None
    """Tables of a warehouse among the input, in the versions that were read."""
    after_as_of: tuple[str, ...] | None = None
    """Files that were not read: all their rows are of ``data.as_of`` or later."""
    excluded_users: ExcludedUsers | None = None
    """None where no list was given."""
    item_features: ItemFeaturesSummary | None = None
    """None without `data.item_features`."""
    erased: str | None = None
    """Fingerprint of the erased users whom it has left out; None where nobody was erased."""

    def __post_init__(self) -> None:
        _check_parts(self.id_types, self.num_parts)

    @property
    def id_types(self) -> dict[str, str]:
        """Types of ids by role, ``user`` and ``item``."""
        return {"user": self.user_id_type, "item": self.item_id_type}

    @property
    def split(self) -> SplitMethodKind:
        """Rule by which it holds items out, if it does."""
        return SPLIT_METHODS[self.data.get("split", "leave_one_out")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedFrom:
    """Another program's file that a model was made from."""

    program: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedModel:
    """The model with held-out items that a refit was made after: metrics are of this one."""

    model_id: str
    weights_sha256: str
    dataset_id: str
    """The dataset whose held-out items judged it."""
    method: Literal["full", "continue"]
    """full: trained from the start, for its number of epochs. continue: from its weights on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelManifest(Manifest):
    """Manifest of ``models/<id>``."""

    kind: ClassVar = "model"

    id: str
    format_version: int
    dataset_id: str
    """Empty for an imported model of an unknown log."""
    dataset_fingerprint: str
    vocabulary_fingerprint: str
    weights_sha256: str | None = None
    """SHA-256 of ``model.safetensors``; early versions did not record it."""
    item_features_sha256: str | None = None
    """SHA-256 of ``item_features.safetensors``, from which the item vectors were added up; None
    where items have no features."""
    items: int
    parameters: int
    epochs: int
    best_epoch: int
    train_s: float
    torch: str
    """Version of PyTorch."""
    refit: bool = False
    """Whether it has learnt the held-out items, too."""
    judged: JudgedModel | None = None
    """The model that a refit stands for; early versions did not record it."""
    imported_from: ImportedFrom | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelMetrics:
    """Content of a model's ``metrics.json``."""

    valid: Mapping[str, float]
    test: Mapping[str, float] | None = None
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None
    """95 % intervals by split and metric; evaluations of before had none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFile:
    """A file of a recommendation run."""

    path: str
    """Path below the run."""
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPart:
    """A finished part of a recommendation run; also the content of its file in ``_commits/``."""

    name: str
    weights_sha256: str | None = None
    """Weights it was scored with; early versions did not record them."""
    users: int
    popular_users: int
    carried_users: int
    other_users: int
    """Users of the dataset who are not in the segment."""
    unknown_interactions: int
    """Interactions with items that the model does not know: left out of the histories."""
    short_lists: int | None = None
    """Lists with fewer than ``score.k`` items; None without ``score.rules``."""
    unmet_quotas: int | None = None
    """Quotas of lists that lack items of their group; None without ``score.rules``."""
    segment_users: tuple[int, ...] | None = None
    """Users that each rule of ``score.rules.segments`` is about; early versions did not count."""
    files: tuple[RunFile, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunQuestion:
    """All that decides lists for users: ids are made of it."""

    dataset_id: str
    model_id: str
    map_items: bool
    """Whether items are translated by raw id."""
    settings: Mapping[str, Any] = fields_beside()
    """Settings that decide the content, by name: those that are marked so in this version. Lists
    and rules stand there by their fingerprints."""

    @property
    def segment(self) -> Mapping[str, Any] | None:
        """Identity of the list of users to score; None for all users."""
        found: Mapping[str, Any] | None = self.settings["segment"]
        return found

    @property
    def has_rules(self) -> bool:
        """Whether rules hold over the lists."""
        return "rules" in self.settings


@dataclass(frozen=True, kw_only=True, slots=True)
class RunManifest(Manifest):
    """Manifest of ``recommendations/<id>``."""

    kind: ClassVar = "recommendations"

    id: str
    format_version: int
    dataset_id: str
    model_id: str
    map_items: bool
    settings: Mapping[str, Any] = fields_beside()
    """Settings of section ``score`` that decide the content, by name; lists as fingerprints."""
    weights_sha256: str | None = None
    """Weights of the model; early versions did not record them."""
    judged: JudgedModel | None = None
    """The model that was judged, where the run is of its refit."""
    since: str | None
    """The earlier run that rows were carried over from."""
    dataset_fingerprint: str
    users: int
    popular_users: int
    carried_users: int
    other_users: int
    unknown_interactions: int
    short_lists: int | None = None
    unmet_quotas: int | None = None
    diversity_candidates: int | None = None
    """Best items that ``score.rules.diversity`` chose from; None without it."""
    dataset_users: int | None = None
    """All users of the dataset; early versions did not record them."""
    user_id_type: str
    item_id_type: str
    num_parts: int
    parts: tuple[RunPart, ...]
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_parts(self.id_types, self.num_parts)

    @property
    def id_types(self) -> dict[str, str]:
        """Types of ids by role, ``user`` and ``item``."""
        return {"user": self.user_id_type, "item": self.item_id_type}

    @property
    def k(self) -> int:
        """Length of the lists."""
        return int(self.settings["k"])

    @property
    def is_long(self) -> bool:
        """Whether a row is one recommendation, and not one user's list."""
        return LAYOUTS[self.settings.get("layout", "wide")].has_row_per_item

    @property
    def question(self) -> RunQuestion:
        """All that decides the content of the run, as its id was made from."""
        return RunQuestion(
            dataset_id=self.dataset_id,
            model_id=self.model_id,
            map_items=self.map_items,
            settings=self.settings,
        )


def changed_id_types(run: RunManifest, dataset: DatasetManifest) -> dict[str, str]:
    """Describe types of ids that a run and a dataset do not share, by kind: ``user``, ``item``."""
    found = {}
    for kind in ("user", "item"):
        before, now = run.id_types[kind], dataset.id_types[kind]
        if before != now:
            found[kind] = f"{kind} ids were of type {before} and are of type {now} now"
    return found
