"""Which items may be recommended: allow and deny lists, and a boolean column of an item table."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lightsans.arrays import Int64
from lightsans.columns.hashing import hash_ids, mix
from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.storage.location import Location, locate

_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")


@dataclass(frozen=True, slots=True)
class EligibleItems:
    """Raw item ids, as text and each once, by the setting that lists them."""

    allowed: dict[str, pa.Array]
    """An item must be on every one of these."""
    denied: dict[str, pa.Array]
    """An item must be on none of these."""

    @property
    def fingerprint(self) -> str:
        """Differs when any list does; the order of a list does not count."""
        lists = [(name, *entry) for name, entry in sorted(self._lists.items())]
        sums = [
            (name, is_allowed, len(ids), int(mix(hash_ids(ids)).sum()))
            for name, is_allowed, ids in lists
        ]
        return hashlib.sha256(repr(sums).encode()).hexdigest()[:16]

    @property
    def _lists(self) -> dict[str, tuple[bool, pa.Array]]:
        allowed = {name: (True, ids) for name, ids in self.allowed.items()}
        return allowed | {name: (False, ids) for name, ids in self.denied.items()}

    def item_ids(self, items: Vocabulary) -> Int64:
        """Ids of the vocabulary's items that may be recommended, ascending."""
        raw = items.raw_item_ids.cast(pa.string())
        is_eligible = np.ones(len(raw), bool)
        for is_allowed, ids in self._lists.values():
            is_eligible &= pc.is_in(raw, ids).to_numpy(zero_copy_only=False) == is_allowed
        return is_eligible.nonzero()[0] + 1

    def describe(self, items: Vocabulary) -> str:
        """How many items are left, and how many ids of each list the vocabulary does not have."""
        raw = items.raw_item_ids.cast(pa.string())
        said = [f"{len(self.item_ids(items)):,} of {items.num_items:,} items are eligible"]
        for name, (_, ids) in self._lists.items():
            unknown = len(ids) - (pc.sum(pc.is_in(ids, raw)).as_py() or 0)
            if unknown:
                said.append(f"{unknown:,} of {len(ids):,} ids of {name} are unknown to the model")
        return "; ".join(said)


def read_eligible_items(config: RunConfig) -> EligibleItems | None:
    """The lists that ``score`` names; None when it names none.

    Raises:
        InputError: A file is missing or unreadable, or a column is not there or not boolean.
    """
    score = config.score
    allowed, denied = {}, {}
    if score.allow_items is not None:
        allowed["score.allow_items"] = _read_ids(config, "score.allow_items", score.allow_items)
    if score.item_table is not None:
        allowed["score.item_table"] = _read_eligible_column(config, score.item_table)
    if score.deny_items is not None:
        denied["score.deny_items"] = _read_ids(config, "score.deny_items", score.deny_items)
    return EligibleItems(allowed, denied) if allowed or denied else None


def _read_ids(config: RunConfig, setting: str, uri: str) -> pa.Array:
    location = locate(uri, config.storage)
    try:
        lines = location.read_bytes().decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{setting}: {location}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{setting}: {location}: not a text file in UTF-8") from None
    return _each_once(pc.utf8_trim_whitespace(pa.array(lines, pa.string())))


def _read_eligible_column(config: RunConfig, uri: str) -> pa.Array:
    location = locate(uri, config.storage)
    if not location.exists():
        raise InputError(f"score.item_table: {location}: no such file")
    table = read_item_table(location)
    table = table.rename_columns([name.split(":")[0] for name in table.column_names])
    item, column = str(config.data.columns.item), str(config.score.eligible_column)
    for setting, name in (("data.columns.item", item), ("score.eligible_column", column)):
        if name not in table.column_names:
            raise InputError(f"{uri}: no column {name!r} ({setting}); found {table.column_names}")
    words = table[column].cast(pa.string())
    lower = pc.utf8_lower(words)
    is_yes = pc.is_in(lower, pa.array(_YES))
    is_no = pc.is_in(lower, pa.array([*_NO, "", None]))
    odd = words.filter(pc.invert(pc.or_(is_yes, is_no)))
    if len(odd):
        raise InputError(
            f"{uri}: column {column!r} (score.eligible_column) holds {odd[0].as_py()!r}; expected "
            f"booleans, or one of {', '.join(_YES + _NO)}"
        )
    return _each_once(table[item].cast(pa.string()).filter(is_yes))


def _each_once(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    found = pc.unique(ids).drop_null()
    return found.filter(pc.not_equal(found, ""))


def read_item_table(location: Location) -> pa.Table:
    """A table of items: parquet, csv, tab-separated, or RecBole's ``.item``; csv as text."""
    if location.name.endswith(".parquet"):
        return location.read_table()
    is_tab = location.name.endswith((".item", ".tsv"))
    parse = pyarrow.csv.ParseOptions(
        delimiter="\t" if is_tab else ",", quote_char=False if is_tab else '"'
    )
    with location.open() as file:
        header = file.readline().decode("utf-8-sig").rstrip("\r\n")
    # Ids must stay text ("007"), whatever they look like.
    columns = {name: pa.string() for name in header.split("\t" if is_tab else ",")}
    convert = pyarrow.csv.ConvertOptions(column_types=columns)
    with location.open() as file:
        return pyarrow.csv.read_csv(file, parse_options=parse, convert_options=convert)
