"""Hypothesis strategies: what the tests of laws draw. Few values of each kind, so that all collide.

Only what a single test draws stands beside that test.
"""

from collections.abc import Sequence

from hypothesis import strategies as st

from lightsans.config import DataConfig
from lightsans.config import kinds as config_kinds
from lightsans.config.run import SECTIONS, setting_names
from lightsans.dataset.sequences import UserSequences
from lightsans.preparation.derive import SequenceLimits
from tests.factories import users_of_lengths
from tests.logs_on_disk import LEFTOVERS

Row = tuple[str, str, int, float | None]
"""User, item, timestamp and rating."""

# ---- logs and datasets


def written_events() -> st.SearchStrategy[list[tuple[str, str, int]]]:
    """Users, items and times whose ids hold what separates, quotes and escapes values in files."""
    letters = st.sampled_from("bé張 ,;\t|\"'\\#N0-.")
    texts = st.text(letters, min_size=1, max_size=6).filter(lambda t: t.strip() not in ("", "\\N"))
    return st.lists(st.tuples(texts, texts, _seconds()), min_size=1, max_size=6)


def numbered_events() -> st.SearchStrategy[list[tuple[int, int, int]]]:
    """Users, items and times whose ids are whole numbers that a double holds."""
    ids = st.integers(-(2**53) + 1, 2**53 - 1)
    return st.lists(st.tuples(ids, ids, _seconds()), min_size=1, max_size=6)


def words_for_missing() -> st.SearchStrategy[str]:
    """Words that programs write for a missing value."""
    return st.sampled_from(["", "NULL", "\\N", "NA", "null", "NaN", "None"])


def _seconds() -> st.SearchStrategy[int]:
    return st.integers(0, 7_258_118_399)


def logs(
    *,
    users: str = "abcd",
    items: str = "vwxyz",
    last: int = 6,
    ratings: Sequence[float | None] = (1.0, 5.0),
    min_size: int = 1,
    max_size: int = 40,
) -> st.SearchStrategy[list[Row]]:
    """Interactions in order of the input, at the timestamps 0 to ``last``."""
    row = st.tuples(
        st.sampled_from(users),
        st.sampled_from(items),
        st.integers(0, last),
        st.sampled_from(ratings),
    )
    return st.lists(row, min_size=min_size, max_size=max_size)


DAYS = st.lists(
    logs(items="xyz", last=4, ratings=[None], min_size=0, max_size=20), min_size=1, max_size=4
)
"""Logs that arrive one after the other; their rows fall anywhere in time."""

LEAST = st.integers(1, 4)
"""Fewest interactions of a user or an item."""

NUM_PARTS = st.integers(1, 5)

FILTERS = st.builds(
    DataConfig,
    dedupe=st.sampled_from(["none", "first", "last"]),
    min_rating=st.sampled_from([None, 3.0]),
    min_user_interactions=LEAST,
    min_item_interactions=st.integers(1, 3),
)
"""Settings that leave rows out of sequences."""

SEQUENCE_LIMITS = st.sampled_from([None, SequenceLimits(1, None), SequenceLimits(2, 1)])

MOMENTS = st.integers(0, 3 * 10**15)
"""Microseconds, to the year 2065."""

IDS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=12
).filter(lambda text: text.strip() not in DataConfig().missing_values)
"""Ids of any characters; blanks and words for missing values are none."""

ROWS_OF_ANY_TEXT = st.lists(st.tuples(IDS, IDS, st.integers(0, 2**31)), min_size=1, max_size=20)
"""User, item and timestamp."""

CSV_LINES = st.lists(
    st.one_of(
        st.builds(lambda n: f"u{n},i{n},{n}", st.integers(0, 10**9)),
        st.just(""),
        st.just("broken"),
    ),
    max_size=25,
)
"""Rows, blank lines and lines with too few fields."""

# ---- sequences and models

ATTENTIONS = st.sampled_from(list(config_kinds.ATTENTION))


def item_ids(num_items: int, *, least: int = 0, most: int) -> st.SearchStrategy[list[int]]:
    """The history of one user."""
    return st.lists(st.integers(1, num_items), min_size=least, max_size=most)


def batches(num_items: int, *, most: int) -> st.SearchStrategy[list[list[int]]]:
    """Histories of one to four users."""
    return st.lists(item_ids(num_items, most=most), min_size=1, max_size=4)


def _users(lengths: list[int]) -> UserSequences:
    return users_of_lengths(*lengths)


USERS = st.lists(st.integers(0, 25), min_size=1, max_size=8).map(_users)
"""Users whose item ids count up along the tape: later is larger."""

POOLING_LOGITS = st.lists(
    st.sampled_from([0.0, 1.0, -1.0, 25.0, -40.0, 59.0, -100.0, 100.0, -1000.0, 1000.0]),
    min_size=1,
    max_size=90,
)

# ---- events and ids for files and directories

ODD_IDS = st.text(st.sampled_from("0a7é-% /=,"), min_size=1, max_size=4).filter(str.strip)

DAYS_OF_EVENTS = st.lists(
    st.tuples(ODD_IDS, ODD_IDS, st.integers(0, 2), st.integers(0, 86_399)), min_size=1, max_size=8
)
"""User, item, day since 1970, and second of the day."""

DIRECTORY_SHAPES = st.sampled_from(["flat", "nested", "dt", "user", "linked"])
"""Ways in which a log may lie in directories, see `tests.property.test_directory_laws`."""

FILE_ENDINGS = st.sampled_from(["jsonl", "jsonl.gz", "parquet"])

LEFTOVERS_BESIDE = st.sets(st.sampled_from(sorted(LEFTOVERS)))

# ---- settings as their users write them

SETTING_NAMES = st.sampled_from([*setting_names(), *sorted(SECTIONS), "model.num_layers"])

YAML_SCALARS = st.sampled_from(
    [
        "1", "-1", "0.5", "1e999", ".inf", ".nan", "null", "~", "true", "text", "2001-01-01",
        "9" * 400, "9" * 5000, '"\\ud800"', '"\\U00110000"', "'", '"', "!!foo x", "!!binary aGk=",
        "!!int x", "!!int ''", "!!set {a}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!timestamp x",
        "!!timestamp 2001-01-01", "!!python/object:a b", "!!float z", "!!bool z", "!!map x",
        "!!seq x", "!!null x", "!<tag:yaml.org,2002:int> z", "&a 1", "*a", "? 1", "- 1", "|", "%",
        "@", "`", "\x00", "\x85", "=", "<<", "1_000", "0x1f", "0b1", "1:30",
    ]
)  # fmt: skip

YAML_SCRAPS = st.text(st.sampled_from("[]{}:,!&*?|>-'\"%@`# \\ax1.~<="), max_size=12)


def _nested(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(values, values), max_size=2)
    return st.one_of(
        st.lists(values, max_size=3).map(lambda found: f"[{', '.join(found)}]"),
        pairs.map(lambda found: f"{{{', '.join(f'{key}: {value}' for key, value in found)}}}"),
        values.map(lambda value: f"{{? {value} : 1}}"),
        values.map(lambda value: f"&a [{value}, *a]"),
    )


YAML_VALUES = st.recursive(st.one_of(YAML_SCALARS, YAML_SCRAPS), _nested, max_leaves=5)

OVERRIDES = st.one_of(
    st.builds(lambda name, value: f"{name}={value}", SETTING_NAMES, YAML_VALUES),
    st.builds(lambda name, value: f"{name}={value}", YAML_SCRAPS, YAML_VALUES),
    YAML_SCRAPS,
)
"""Words after ``--set``."""
