"""Settings of batch scoring."""

from dataclasses import dataclass, field
from typing import Literal

from lightsans.config.checks import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreConfig:
    """What the batch-scoring stage writes for each user."""

    k: int = 100
    remove_seen: bool = True
    """Never recommend what the user has already met, filtered interactions included."""
    batch_size: int = 1024
    """Users scored at once by a worker."""
    num_workers: int = 2
    """Most scoring processes at a time. No effect on results."""
    min_workers: int = 1
    """Scoring processes to begin with; more come, up to num_workers, while parts wait. No effect on
    results."""
    use_gpu: bool = False
    users: str | None = None
    """Score only the users of this file: text with one id a line, or a parquet or csv table with
    the column ``data.columns.user``."""
    allow_items: str | None = None
    """A text file with one raw item id a line: nothing else is recommended."""
    deny_items: str | None = None
    """A text file with one raw item id a line: never recommended."""
    item_table: str | None = None
    """A table of items (parquet, csv, .item) with ``data.columns.item`` and eligible_column."""
    eligible_column: str | None = None
    """The boolean column of item_table that says what may be recommended; null values say no."""
    min_score: float | None = None
    """The model's recommendations with a lower score are left out; lists may become shorter."""
    layout: Literal["wide", "long"] = "wide"
    """wide: one row per user with lists. long: one row per recommendation with its rank; users
    without any have no row."""
    partition_by: Literal["source", "rank"] | None = None
    """Write files into directories by this column, named as Hive does (``source=model/``); rank
    needs the long layout."""
    max_users_per_file: int | None = None
    """A part with more users becomes several files; null: one file per part of the dataset."""
    users_per_row_group: int = 8192
    """Users of a row group of the files: what a reader decodes at once."""
    keep_runs: int | None = None
    """Finished runs to keep, the newest; older ones are removed after scoring, save those that are
    or lately were published. null keeps all."""
    warn_below: dict[str, float] = field(default_factory=dict)
    """Least values of figures of the run report, such as {coverage: 0.05, overlap: 0.3}; less is a
    warning."""
    warn_above: dict[str, float] = field(default_factory=dict)
    """Greatest values, such as {fallback_share: 0.2, users_change: 0.5}."""

    def __post_init__(self) -> None:
        at_least("score", self, 1, "k", "batch_size", "num_workers", "min_workers")
        at_least("score", self, 1, "max_users_per_file", "users_per_row_group", "keep_runs")
        require(
            self.min_workers <= self.num_workers,
            f"score.min_workers={self.min_workers} is more than score.num_workers="
            f"{self.num_workers}, which is the most; lower the one or raise the other",
        )
        require(
            (self.item_table is None) == (self.eligible_column is None),
            f"score.item_table={self.item_table} and score.eligible_column={self.eligible_column} "
            "need each other; set both or neither",
        )
        require(
            self.partition_by != "rank" or self.layout == "long",
            "score.partition_by=rank needs score.layout=long: a wide row holds all ranks",
        )
