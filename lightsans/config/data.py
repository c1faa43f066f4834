"""Settings of preprocessing: what is read, and which interactions are trained on."""

import codecs
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar, Literal

from lightsans.conditions import columns_of, parse_condition
from lightsans.config.checks import at_least, at_most, fraction, require
from lightsans.config.kinds import SPLIT_METHODS, FormatSetting, SplitMethod
from lightsans.config.marks import Mark, made_setting, setting

IdType = Literal["auto", "string", "int64"]
TimeUnit = Literal["s", "ms", "us", "ns", "yyyymmdd"]

MOST_PARTS = 4096
"""Number of the buckets of users (`columns.hashing.NUM_BUCKETS`)."""
MISSING_VALUES = ("", "NULL", "null", "\\N", "NA", "N/A", "<NA>", "None", "NaN", "nan", "NaT")
"""Words for a missing value in files of databases, R, pandas and Python."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnsConfig:
    """Columns of the log: names, or positions from 0 where there is no header."""

    user: str | int = "user_id"
    item: str | int = "item_id"
    timestamp: str | int = "timestamp"
    rating: str | int | None = "rating"
    """Null when there is none. A column that is absent is only an error when min_rating is set."""
    event: str | int | None = setting(None, Mark.LATER)
    """Column of the event, such as view or purchase; data.events says what each counts for."""

    def required(self) -> tuple[str | int, str | int, str | int]:
        """Columns that every log has."""
        return self.user, self.item, self.timestamp


@dataclass(frozen=True, kw_only=True, slots=True)
class EventConfig:
    """Uses of the rows of one event; without any of them they count for nothing."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    input: bool = False
    """Predictions are made from it."""
    target: bool = False
    """Is predicted: the next target event, from the inputs before it. Popularity counts it."""
    seen: bool = False
    """Makes its item one that is not recommended again (score.remove_seen)."""
    weight: float = 1.0
    """Weight in the loss, relative to other targets."""


MOST_EVENTS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFeaturesConfig:
    """Columns of ``data.item_table`` by what they hold; without any, items have no features."""

    categorical: tuple[str, ...] = ()
    """Columns of words, such as brand or genre; a cell may have several."""
    numeric: tuple[str, ...] = ()
    """Columns of numbers, such as price; a cell may be empty."""
    vector: tuple[str, ...] = ()
    """Columns of lists of numbers, all of one length, such as embeddings of titles."""
    separators: dict[str, str] = field(default_factory=dict)
    """Text between the values of a cell, by categorical column, such as {genre: "|"}; lists in
    parquet and jsonl need none."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are named."""
        return tuple(dict.fromkeys((*self.categorical, *self.numeric, *self.vector)))

    def __post_init__(self) -> None:
        for kind in ("categorical", "numeric", "vector"):
            named = Counter(getattr(self, kind))
            twice = [name for name, often in named.items() if often > 1]
            require(not twice, f"data.item_features.{kind} names {twice} twice")
        for name, separator in self.separators.items():
            require(
                name in self.categorical,
                f"data.item_features.separators has {name!r}, which is no categorical column: "
                f"{', '.join(self.categorical) or 'there is none'}",
            )
            require(separator != "", f"data.item_features.separators.{name} is empty")


@dataclass(frozen=True, kw_only=True, slots=True)
class TemporalConfig:
    """Cut-offs of ``split: temporal``: two times, or two shares of the rows."""

    valid_from: str | None = None
    """ISO date or time from which on interactions are for validation."""
    test_from: str | None = None
    """ISO date or time from which on interactions are for testing."""
    valid_fraction: float | None = None
    """Share of all interactions that are for validation, at most; cut at a whole second."""
    test_fraction: float | None = None
    """Share of all interactions, the newest, that are for testing, at most."""

    def __post_init__(self) -> None:
        fraction("data.temporal", self, "valid_fraction", "test_fraction")
        times = [self.valid_from, self.test_from]
        shares = [self.valid_fraction, self.test_fraction]
        given = [value is not None for value in (*times, *shares)]
        require(
            given in ([False] * 4, [True, True, False, False], [False, False, True, True]),
            "data.temporal needs both valid_from and test_from, or both valid_fraction and "
            f"test_fraction, and not all; found {', '.join(map(str, (*times, *shares)))}",
        )
        require(
            shares[0] is None or shares[1] is None or 0 < shares[0] + shares[1] < 1,
            f"data.temporal leaves nothing to split: valid_fraction={shares[0]} and "
            f"test_fraction={shares[1]} add up to 0, or to 1 and more",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Input files, and which of their interactions are trained on."""

    input: tuple[str, ...] = setting((), Mark.RESOLVED, Mark.PATH)
    """Files, directories or globs, local or s3://; Delta and Iceberg tables, delta://DIR and
    iceberg://DIR. Their order breaks ties between timestamps."""
    format: FormatSetting = setting("auto", Mark.CONTENT, Mark.READS_ROWS)
    """auto goes by the first bytes and the file name. Compressed text is recognised by its bytes:
    gzip, bzip2, zstd, lz4, xz, and zip with one file in it."""
    encoding: str = setting("utf-8", Mark.CONTENT, Mark.READS_ROWS)
    """Encoding of text files, such as gb18030 or latin-1. UTF-16 with a byte order mark is
    recognised. Files in another encoding than UTF-8 cannot be read in pieces."""
    separator: str | None = setting(None, Mark.CONTENT, Mark.READS_ROWS)
    """Separator of fields in a line of csv or .inter; null finds it among , ; tab | :: and blanks.
    "\\t" and "::" work, and \\s+ is any run of blanks and tabs."""
    header: bool = setting(True, Mark.CONTENT, Mark.READS_ROWS)
    """False: columns are given by position, e.g. columns: {user: 0, item: 1, timestamp: 3}."""
    quote_char: str | None = setting('"', Mark.CONTENT, Mark.READS_ROWS)
    """Character around csv values that contain the separator; null when quotes are plain text."""
    escape: str | None = setting(None, Mark.CONTENT, Mark.READS_ROWS)
    """Character that takes the meaning from the next one in a csv line: a backslash in files of
    Spark, Hive and MySQL. Null when there is none."""
    newlines_in_values: bool = setting(False, Mark.CONTENT, Mark.READS_ROWS)
    """True when quoted csv values span lines. Such files cannot be read in pieces."""
    columns: ColumnsConfig = made_setting(ColumnsConfig, Mark.CONTENT, Mark.READS_ROWS)
    user_id_type: IdType = setting("auto", Mark.CONTENT, Mark.READS_ROWS)
    """auto keeps parquet's and jsonl's own type; csv and .inter ids are strings ("007" stays).
    Whole numbers in a column of doubles or decimals become integers."""
    item_id_type: IdType = setting("auto", Mark.CONTENT, Mark.READS_ROWS)
    strip_ids: bool = setting(False, Mark.CONTENT, Mark.READS_ROWS)
    """Take blanks around ids away, as in columns of type CHAR(n)."""
    missing_values: tuple[str, ...] = setting(MISSING_VALUES, Mark.CONTENT, Mark.READS_ROWS)
    """Words that mean that there is no value, with or without blanks around them; null and NaN
    always do. A row without user, item or time is refused, and the report counts each word."""
    max_id_bytes: int = setting(1024, Mark.CONTENT, Mark.READS_ROWS)
    """Longer ids are refused: they are nearly always a broken line."""
    timestamp_unit: TimeUnit = setting("s", Mark.CONTENT, Mark.READS_ROWS)
    """Unit of numeric timestamps. Text and datetime columns carry their own. yyyymmdd takes numbers
    such as 20260913, and 20260913235959, in data.timezone."""
    timezone: str = setting("UTC", Mark.CONTENT, Mark.READS_ROWS)
    """Time zone of timestamps that name none, such as Europe/Berlin. Of a time that clocks show
    twice, the first is meant."""
    where: str | None = setting(None, Mark.CONTENT, Mark.READS_ROWS, Mark.LATER)
    """Take only rows of which this is true, such as price > 0 and country in ['de', 'at']. Any
    column may be named (docs/data.md); other rows count for nothing, and the report counts them."""
    events: dict[str, EventConfig] = made_setting(
        dict, Mark.CONTENT, Mark.READS_ROWS, Mark.MAKES_SEQUENCES, Mark.LATER
    )
    """Uses of rows by event (data.columns.event), such as {purchase: {input: true, target: true,
    seen: true, weight: 1}, view: {input: true}}. Rows of other events count nowhere but in the
    report. Empty: every row is an input, a target, and seen."""
    item_table: str | None = setting(None, Mark.RESOLVED, Mark.PATH)
    """A table of items in any format of a log, with columns.item and the columns of item_features.
    Its items may be recommended without an interaction."""
    item_features: ItemFeaturesConfig = made_setting(ItemFeaturesConfig, Mark.CONTENT, Mark.LATER)
    """Columns of item_table that item vectors are made of, such as {categorical: [genre], numeric:
    [price], vector: [title_embedding]}: an item that nobody met has a vector by them alone."""
    as_of: str | None = setting(None, Mark.CONTENT, Mark.MAKES_SEQUENCES)
    """Ignore interactions from this moment on (ISO date or time): backfills, idempotent nights."""
    partition_time: str | None = setting(None, Mark.RESOLVED)
    """Name of the Hive partition that is the time of its events, such as dt of ``dt=2026-01-31/``:
    files of partitions that begin at as_of or later are not read. Null where a partition may be the
    day of arrival."""
    exclude_users: str | None = setting(None, Mark.RESOLVED, Mark.PATH)
    """A list of users to be left out entirely (erasure requests): one id a line, or a table with
    the column of columns.user."""
    allow_unmatched: bool = setting(False, Mark.NO_EFFECT)
    """A list in exclude_users that matches nobody is a warning; otherwise it is an error."""
    min_rating: float | None = setting(None, Mark.CONTENT, Mark.MAKES_SEQUENCES)
    """Interactions rated lower are not learnt from, but still count as seen."""
    min_user_interactions: int = setting(1, Mark.CONTENT, Mark.MAKES_SEQUENCES)
    """k-core: users with fewer are not trained on (they are still scored)."""
    min_item_interactions: int = setting(1, Mark.CONTENT)
    """k-core: items with fewer do not enter the vocabulary."""
    dedupe: Literal["none", "first", "last"] = setting("none", Mark.CONTENT, Mark.MAKES_SEQUENCES)
    """Interactions to keep of a user's several with the same item."""
    split: SplitMethod = setting("leave_one_out", Mark.CONTENT)
    """leave_one_out: each user's last interaction is test, the one before valid, the rest train.
    temporal: by time; later rows do not influence vocabulary, counts or k-core. none: nothing is
    held out, and train.refit_epochs says for how long to train: what a refit is made of."""
    temporal: TemporalConfig = made_setting(TemporalConfig, Mark.CONTENT)
    keep_last: int | None = setting(None, Mark.CONTENT, Mark.MAKES_SEQUENCES)
    """Sequences keep only a user's newest so many items. Counts and k-core see all interactions,
    and what is dropped still counts as seen."""
    keep_since: str | None = setting(None, Mark.CONTENT, Mark.MAKES_SEQUENCES)
    """Sequences keep only items from this moment on (ISO date or time); like keep_last."""
    base: str | None = setting(None, Mark.CONTENT)
    """Id of a dataset to add to: only files that it does not list are read, and items keep their
    ids. ``preprocess --base ID`` sets it."""
    keep_reject_values: bool = setting(False, Mark.CONTENT)
    """rejects/ also holds the values of refused rows, not only their positions and reasons."""
    max_reject_fraction: float | None = setting(0.05, Mark.NO_EFFECT)
    """Refusing a larger share of the rows is an error; null turns the check off."""
    num_parts: int | None = setting(None, Mark.CONTENT)
    """Files a dataset is cut into; null chooses by the size of the input. No effect on results."""
    read_unit_bytes: int = setting(32 * 2**20, Mark.NO_EFFECT)
    """Largest piece of a text file that one task reads. No effect on results."""

    def __post_init__(self) -> None:
        at_least("data", self, 1, "min_user_interactions", "min_item_interactions", "num_parts")
        at_most("data", self, MOST_PARTS, "num_parts")
        at_least("data", self, 1, "max_id_bytes", "read_unit_bytes", "keep_last")
        require(
            self.read_unit_bytes <= 2**30,
            f"data.read_unit_bytes={self.read_unit_bytes} is larger than a task can parse at once; "
            "the most is 1 GiB",
        )
        limit = self.max_reject_fraction
        require(
            limit is None or 0 <= limit <= 1,
            f"data.max_reject_fraction={limit} is not in [0, 1]; null turns the check off",
        )
        is_cut = self.temporal != TemporalConfig()
        require(
            is_cut == self.cuts_by_time,
            "data.split=temporal needs data.temporal, such as {valid_from: 2026-10-01, test_from: "
            "2026-11-01} or {valid_fraction: 0.1, test_fraction: 0.1}"
            if not is_cut
            else f"data.temporal has no effect with data.split={self.split}; set data.split to "
            "temporal",
        )
        self._check_text()
        self._check_where()
        self._check_events()
        self._check_item_features()
        columns = self.columns
        used = [columns.user, columns.item, columns.timestamp, columns.rating, columns.event]
        named = [c for c in used if c is not None]
        below = [c for c in named if isinstance(c, int) and c < 0]
        require(not below, f"data.columns has the position {below}; positions count from 0")
        require(len(set(named)) == len(named), f"data.columns names a column twice: {named}")
        if not self.header:
            by_name = [c for c in named if isinstance(c, str) and not c.isdigit()]
            require(
                not by_name or by_name == ["rating"],
                f"data.header is false, so data.columns needs positions such as 0; found {by_name}",
            )
        require(
            self.min_rating is None or columns.rating is not None,
            "data.min_rating is set but data.columns.rating is null; name the rating column",
        )

    @property
    def cuts_by_time(self) -> bool:
        """Whether ``temporal`` divides train, valid and test."""
        return SPLIT_METHODS[self.split].cuts_by_time

    @property
    def event_names(self) -> tuple[str, ...]:
        """Events in the order of their codes, which count from 1."""
        return tuple(sorted(self.events))

    def _check_events(self) -> None:
        events, column = self.events, self.columns.event
        require(
            bool(events) == (column is not None),
            f"data.columns.event={column} and data.events={sorted(events)} need each other; set "
            "both or neither",
        )
        if not events:
            return
        require(
            len(events) <= MOST_EVENTS,
            f"data.events has {len(events)} entries; the most is {MOST_EVENTS}",
        )
        for role in ("input", "target"):
            require(
                any(getattr(event, role) for event in events.values()),
                f"data.events has no {role}: {sorted(events)}; give one of them {role}: true",
            )
        for name, event in events.items():
            require(name == name.strip() != "", f"data.events has the name {name!r}: blanks")
            require(
                0 < event.weight < inf,
                f"data.events.{name}.weight={event.weight} is not above 0",
            )
            require(
                event.target or event.weight == 1,
                f"data.events.{name} has a weight, and is no target: nothing weighs",
            )
        require(
            self.min_rating is None,
            "data.min_rating and data.events exclude each other, as views have no rating; say it "
            f"by data.where, such as {column} != 'rating' or rating >= {self.min_rating}",
        )

    def _check_item_features(self) -> None:
        columns = self.item_features.columns
        require(
            (self.item_table is None) == (not columns),
            f"data.item_table={self.item_table} and data.item_features={list(columns)} need each "
            "other; set both or neither",
        )
        require(
            self.columns.item not in columns,
            f"data.item_features names {self.columns.item!r}, the id of items (data.columns.item), "
            "which is no feature",
        )

    def _check_where(self) -> None:
        if self.where is None:
            return
        named = columns_of(parse_condition(self.where, "data.where"))
        by_name = [name for name in named if not name.isdecimal()]
        require(
            self.header or not by_name,
            f"data.header is false, so data.where needs positions in backticks such as `3`; found "
            f"{by_name}",
        )

    def _check_text(self) -> None:
        separator = self.separator
        require(separator != "", "data.separator is empty; null finds it")
        for name in ("quote_char", "escape"):
            value = getattr(self, name)
            require(
                value is None or (len(value) == 1 and value.isascii()),
                f"data.{name}={value!r} is not a single ASCII character or null",
            )
            require(
                value is None or value != separator,
                f"data.{name} and data.separator are both {value!r}",
            )
        require(
            self.escape is None or self.escape != self.quote_char,
            f"data.escape is the quote_char {self.escape!r}, which is doubled within quotes as it "
            "is; set data.escape to null",
        )
        require(
            not self.newlines_in_values or separator is None or len(separator.encode()) == 1,
            f"data.newlines_in_values needs a separator of one byte; data.separator is "
            f"{separator!r}",
        )
        try:
            b"a,\n".decode(self.encoding)  # is it one of text?
            codecs.getincrementaldecoder(self.encoding)("surrogateescape").decode(b"a,\n")
        except UnicodeDecodeError:
            pass
        except (LookupError, UnicodeError):
            require(
                False,
                f"data.encoding={self.encoding!r} is unknown; expected a name such as utf-8, "
                "latin-1, cp1252, gb18030, shift_jis or utf-16",
            )
