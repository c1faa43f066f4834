"""Settings of evaluation and batch scoring: both rank all items."""

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from lightsans.config.checks import CENTURY_DAYS, TABLE_VERSION, at_least, at_most, require
from lightsans.config.kinds import LAYOUTS, Layout, TableMode
from lightsans.config.marks import Mark, made_setting, setting
from lightsans.config.rules import RulesConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Protocol of the reported metrics: full ranking over all items."""

    ks: tuple[int, ...] = setting((5, 10, 20), Mark.CONTENT)
    """Cut-offs of hit, recall, precision, ndcg and mrr; 10 is always among them."""
    remove_seen: bool = setting(False, Mark.CONTENT, Mark.VALIDATES)
    """Leave the items before the target out of the ranking: true is SASRec's convention, false
    RecBole's."""
    popular_days: int | None = setting(7, Mark.CONTENT)
    """Days before a target in which the baseline ``popular_recent`` counts interactions; null
    leaves it out."""
    counted_interactions: int = setting(50_000_000, Mark.CONTENT, Mark.LATER)
    """Interactions that the baselines are counted on at most, in whole parts (popular_recent on 20
    million at most). Every process of an evaluation holds their pairs of successive items: up to 33
    bytes an interaction, for which it asks Ray."""
    user_table: str | None = setting(None, Mark.RESOLVED, Mark.PATH)
    """A table of users (parquet, csv, .user) with ``data.columns.user`` and user_column."""
    user_column: str | None = setting(None, Mark.RESOLVED)
    """The column of user_table by whose values metrics are told apart; the most frequent ones."""
    recommendations: str | None = setting(None, Mark.RESOLVED, Mark.PATH)
    """Somebody else's lists, which are ranked on test beside the model: a file, directory or glob
    with a column of lists (item_ids, items or recommendations), or an item a row with rank or
    score."""
    batch_size: int = setting(512, Mark.NO_EFFECT)
    """Users ranked at once by a task."""

    def __post_init__(self) -> None:
        require(bool(self.ks), "evaluate.ks is empty; give at least one cut-off, such as 10")
        require(min(self.ks) >= 1, f"evaluate.ks={list(self.ks)} has a cut-off below 1")
        require(10 in self.ks, f"evaluate.ks={list(self.ks)} needs 10, by which models compare")
        at_least("evaluate", self, 1, "batch_size", "popular_days", "counted_interactions")
        at_most("evaluate", self, CENTURY_DAYS, "popular_days")
        require(
            (self.user_table is None) == (self.user_column is None),
            f"evaluate.user_table={self.user_table} and evaluate.user_column={self.user_column} "
            "need each other; set both or neither",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenRule:
    """A part of what users have seen: recent items, items of some events, or both."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    days: float | None = None
    """Days before the newest interaction of the dataset; what was seen earlier may come again."""
    events: tuple[str, ...] = ()
    """Names of events that data.events calls seen; empty: all of them."""

    def __post_init__(self) -> None:
        require(
            self.days is not None or bool(self.events),
            "score.remove_seen is a rule without days and events; give one, or true or false",
        )
        require(
            self.days is None or 0 < self.days < 10**5,
            f"score.remove_seen.days={self.days} is no number of days above 0",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TableConfig:
    """A table of a warehouse that holds the lists, too: committed once a run is finished."""

    uri: str | None = setting(None, Mark.NO_EFFECT, Mark.PATH)
    """delta://DIR, or iceberg://CATALOG/namespace.table with a catalog of pyiceberg's configuration
    (~/.pyiceberg.yaml); made where there is none. A night commits its run when it is published."""
    mode: TableMode = setting("append", Mark.NO_EFFECT)
    """append: the rows of a run are added, once; the column run_id says which are its. replace: the
    table holds one run, the last one that was committed."""

    def __post_init__(self) -> None:
        require(
            self.uri is None or re.fullmatch(r"(delta|iceberg)://.*(?<!/)", self.uri) is not None,
            f"score.table.uri={self.uri}: expected delta://DIR, delta://s3://bucket/path or "
            "iceberg://CATALOG/namespace.table",
        )
        require(
            self.uri is None or TABLE_VERSION.search(self.uri) is None,
            f"score.table.uri={self.uri} names a version; a table is written as it is now",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreConfig:
    """Recommendations that the batch-scoring stage writes for each user."""

    k: int = setting(100, Mark.CONTENT, Mark.DECIDES_LISTS)
    remove_seen: bool | SeenRule = setting(True, Mark.CONTENT, Mark.DECIDES_LISTS)
    """Never recommend what the user has already met, filtered interactions included. {days: 90}:
    met within so many days; {events: [purchase]}: by such an event (data.events); or both."""
    popular_days: int | None = setting(None, Mark.CONTENT, Mark.LATER)
    """Users of whom the model knows nothing get the popular items of so many days before the newest
    interaction, source ``popular_recent``; null: of all time, source ``popular``."""
    batch_size: int = setting(1024, Mark.NO_EFFECT)
    """Users scored at once by a worker."""
    num_workers: int = setting(2, Mark.NO_EFFECT)
    """Most scoring processes at a time; few users have one. No effect on results."""
    min_workers: int = setting(1, Mark.NO_EFFECT)
    """Scoring processes to begin with; more come, up to num_workers, while parts wait. No effect on
    results."""
    use_gpu: bool = setting(False, Mark.NO_EFFECT)
    users: str | None = setting(None, Mark.RESOLVED, Mark.PATH)
    """Score only the users of this list: one id a line, or a table with the column
    ``data.columns.user``."""
    allow_items: str | None = setting(None, Mark.RESOLVED, Mark.DECIDES_LISTS, Mark.PATH)
    """A list of raw item ids, one a line or a table: nothing else is recommended."""
    deny_items: str | None = setting(None, Mark.RESOLVED, Mark.DECIDES_LISTS, Mark.PATH)
    """A list of raw item ids, one a line or a table: never recommended."""
    item_table: str | None = setting(None, Mark.RESOLVED, Mark.DECIDES_LISTS, Mark.PATH)
    """A table of items in any format of a log, with ``data.columns.item``, eligible_column and the
    columns of rules."""
    eligible_column: str | None = setting(None, Mark.RESOLVED, Mark.DECIDES_LISTS)
    """The boolean column of item_table that says what may be recommended; null values say no."""
    rules: RulesConfig = made_setting(RulesConfig, Mark.RESOLVED, Mark.DECIDES_LISTS)
    allow_unmatched: bool = setting(False, Mark.NO_EFFECT)
    """A list in users, allow_items, deny_items or item_table, or titles, of which no id is known is
    a warning; otherwise it is an error."""
    min_score: float | None = setting(None, Mark.CONTENT, Mark.DECIDES_LISTS)
    """The model's recommendations with a lower score are left out; lists may become shorter."""
    item_columns: tuple[str, ...] = setting((), Mark.RESOLVED)
    """Columns of item_table that are written beside each recommendation."""
    user_table: str | None = setting(None, Mark.RESOLVED, Mark.PATH)
    """A table of users in any format of a log, with ``data.columns.user`` and user_columns."""
    user_columns: tuple[str, ...] = setting((), Mark.RESOLVED)
    """Columns of user_table that are written beside each user."""
    because: int = setting(0, Mark.CONTENT, Mark.LATER)
    """Write for each of the model's recommendations up to so many items of the user's newest 20
    without which its score would be lower, the largest loss first. 0: none. It encodes every
    history up to 20 times more."""
    probability: bool = setting(False, Mark.CONTENT, Mark.LATER)
    """Write beside each of the model's recommendations the calibrated probability that the user's
    next interaction is the item, over what may be recommended to this user. The sum over all items
    costs a pass."""
    buy_again: int = setting(0, Mark.CONTENT, Mark.LATER)
    """Put behind each list of the model up to so many of the items that remove_seen takes away from
    it, the best by score; then the source of every item stands beside it. 0: none."""
    layout: Layout = setting("wide", Mark.CONTENT)
    """wide: one row per user with lists. long: one row per recommendation with its rank; users
    without any have no row."""
    partition_by: Literal["source", "rank"] | None = setting(None, Mark.CONTENT)
    """Write files into directories by this column, named as Hive does (``source=model/``); rank
    needs the long layout."""
    max_users_per_file: int | None = setting(None, Mark.CONTENT)
    """A part with more users becomes several files; null: one file per part of the dataset."""
    users_per_row_group: int = setting(8192, Mark.CONTENT)
    """Users of a row group of the files: what a reader decodes at once."""
    keep_runs: int | None = setting(None, Mark.NO_EFFECT)
    """Finished runs to keep, the newest; older ones are removed after scoring, save those that are
    or lately were published. null keeps all."""
    keep_published: int = setting(3, Mark.NO_EFFECT)
    """Runs that keep_runs leaves whatever their age: those published last, the published one among
    them, which rollbacks go back to."""
    readers_hours: float = setting(24.0, Mark.NO_EFFECT)
    """Hours for which a run stays after another one was published in its place: readers look LATEST
    up once, and then read for a while."""
    table: TableConfig = field(default_factory=TableConfig)
    warn_below: dict[str, float] = made_setting(dict, Mark.NO_EFFECT)
    """Least values of figures of the run report, such as {coverage: 0.05, overlap: 0.3}; less is a
    warning."""
    warn_above: dict[str, float] = made_setting(dict, Mark.NO_EFFECT)
    """Greatest values, such as {fallback_share: 0.2, users_change: 0.5}."""

    def __post_init__(self) -> None:
        at_least("score", self, 1, "popular_days", "k", "batch_size", "num_workers", "min_workers")
        at_least("score", self, 1, "max_users_per_file", "users_per_row_group", "keep_runs")
        at_least("score", self, 1, "keep_published")
        at_least("score", self, 0, "readers_hours")
        at_most("score", self, CENTURY_DAYS * 24, "readers_hours")
        at_most("score", self, CENTURY_DAYS, "popular_days")
        require(
            self.min_workers <= self.num_workers,
            f"score.min_workers={self.min_workers} is more than score.num_workers="
            f"{self.num_workers}, which is the most; lower the one or raise the other",
        )
        columns = self.rules.columns
        require(
            self.item_table is not None or self.eligible_column is None,
            f"score.item_table={self.item_table} and score.eligible_column={self.eligible_column} "
            "need each other; set both or neither",
        )
        require(
            self.item_table is not None or not columns,
            f"score.rules name the columns {', '.join(columns)}; set score.item_table to the table "
            "that has them",
        )
        require(
            self.item_table is None
            or self.eligible_column is not None
            or bool(columns or self.item_columns),
            f"score.item_table={self.item_table} has no effect without score.eligible_column, "
            "score.item_columns or rules by a column; set one of them, or take the table out",
        )
        require(
            self.item_table is not None or not self.item_columns,
            f"score.item_columns={list(self.item_columns)} needs score.item_table, the table that "
            "has them",
        )
        for name, names in (("item", self.item_columns), ("user", self.user_columns)):
            twice = sorted({each for each in names if names.count(each) > 1})
            require(
                not twice,
                f"score.{name}_columns={list(names)} names {', '.join(twice)} twice; give each "
                "column once",
            )
        require(
            (self.user_table is None) == (not self.user_columns),
            f"score.user_table={self.user_table} and score.user_columns={list(self.user_columns)} "
            "need each other; set both or neither",
        )
        require(0 <= self.because <= 20, f"score.because={self.because} is not between 0 and 20")
        at_least("score", self, 0, "buy_again")
        require(
            self.buy_again == 0 or self.remove_seen is not False,
            f"score.buy_again={self.buy_again} needs items that score.remove_seen takes away; it "
            "is false, so seen items are in the lists themselves",
        )
        places: dict[int, str] = {}
        for pin in self.rules.pins:
            place = pin.position if pin.position > 0 else self.k + 1 + pin.position
            require(
                1 <= place <= self.k,
                f"score.rules.pins: item={pin.item} has position={pin.position}, which a list of "
                f"score.k={self.k} items does not have",
            )
            require(
                place not in places,
                f"score.rules.pins: {places.get(place)} and {pin.item} both have place {place} of "
                f"score.k={self.k}",
            )
            places[place] = pin.item
        require(
            self.partition_by != "rank" or LAYOUTS[self.layout].has_row_per_item,
            "score.partition_by=rank needs score.layout=long: a wide row holds all ranks",
        )

    @property
    def recent_days(self) -> list[int]:
        """Lengths, in days, of the windows in which lists count interactions, ascending."""
        popular = set() if self.popular_days is None else {self.popular_days}
        return sorted(popular | self.rules.recent_days)


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarConfig:
    """Lists of similar items; ``score`` says which items may be in them, and under which rules."""

    k: int = setting(20, Mark.CONTENT)
    """Length of the lists."""
    measure: Literal["cosine", "product"] = setting("cosine", Mark.CONTENT)
    """cosine: of the two item vectors. product: longer vectors, of popular items mostly, win."""

    def __post_init__(self) -> None:
        at_least("similar", self, 1, "k")


@dataclass(frozen=True, kw_only=True, slots=True)
class AudienceConfig:
    """Users who want given items most; ``score`` says what may be recommended to whom."""

    k: int = setting(1000, Mark.CONTENT)
    """Users of each item."""
    batch_size: int = setting(1024, Mark.NO_EFFECT)
    """Users scored at once by a task."""

    def __post_init__(self) -> None:
        at_least("audience", self, 1, "k", "batch_size")
