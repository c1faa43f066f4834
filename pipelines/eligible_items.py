"""Which items may be recommended: allow and deny lists, and a boolean column of an item table."""

import hashlib
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lightsans.config import RunConfig
from lightsans.errors import InputError
from lightsans.sequences import Int64
from lightsans.storage import Location, locate
from lightsans.vocabulary import Vocabulary

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class EligibleItems:
    """Raw item ids, as text, by the setting that lists them; lists that are not set are absent."""

    allowed: dict[str, frozenset[str]]
    """An item must be on every one of these."""
    denied: dict[str, frozenset[str]]
    """An item must be on none of these."""

    @property
    def fingerprint(self) -> str:
        """Differs when any list does."""
        digest = hashlib.sha256()
        for kind, lists in (("allowed", self.allowed), ("denied", self.denied)):
            for name, ids in sorted(lists.items()):
                digest.update(repr((kind, name, sorted(ids))).encode())
        return digest.hexdigest()[:16]

    def item_ids(self, items: Vocabulary) -> Int64:
        """Ids of the vocabulary's items that may be recommended, ascending."""
        raw = items.raw_item_ids.cast(pa.string())
        is_eligible = pa.repeat(True, len(raw))
        for ids in self.allowed.values():
            is_eligible = pc.and_(is_eligible, pc.is_in(raw, pa.array(sorted(ids), pa.string())))
        for ids in self.denied.values():
            is_listed = pc.is_in(raw, pa.array(sorted(ids), pa.string()))
            is_eligible = pc.and_(is_eligible, pc.invert(is_listed))
        found: Int64 = is_eligible.to_numpy(zero_copy_only=False).nonzero()[0] + 1
        return found

    def describe(self, items: Vocabulary) -> str:
        """How many items are left, and how many ids of each list the vocabulary does not have."""
        raw = items.raw_item_ids.cast(pa.string())
        unknown = []
        for name, ids in {**self.allowed, **self.denied}.items():
            is_known = pc.is_in(pa.array(sorted(ids), pa.string()), raw)
            count = len(ids) - (pc.sum(is_known).as_py() or 0)
            if count:
                unknown.append(f"{count:,} of {len(ids):,} ids of {name} are unknown to the model")
        left = f"{len(self.item_ids(items)):,} of {items.num_items:,} items are eligible"
        return "; ".join([left, *unknown])


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


def _read_ids(config: RunConfig, setting: str, uri: str) -> frozenset[str]:
    location = locate(uri, config.storage)
    try:
        lines = location.read_bytes().decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{setting}: {location}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{setting}: {location}: not a text file in UTF-8") from None
    return frozenset(line.strip() for line in lines) - {""}


def _read_eligible_column(config: RunConfig, uri: str) -> frozenset[str]:
    location = locate(uri, config.storage)
    if not location.exists():
        raise InputError(f"score.item_table: {location}: no such file")
    table = read_item_table(location)
    table = table.rename_columns([name.split(":")[0] for name in table.column_names])
    item, column = str(config.data.columns.item), str(config.score.eligible_column)
    for setting, name in (("data.columns.item", item), ("score.eligible_column", column)):
        if name not in table.column_names:
            raise InputError(f"{uri}: no column {name!r} ({setting}); found {table.column_names}")
    values = table[column].cast(pa.string()).to_pylist()
    odd = next((v for v in values if v is not None and v.lower() not in _WORDS), None)
    if odd is not None:
        raise InputError(
            f"{uri}: column {column!r} (score.eligible_column) holds {odd!r}; expected booleans, "
            f"or one of {', '.join(_WORDS)}"
        )
    ids = table[item].cast(pa.string()).to_pylist()
    return frozenset(
        key
        for key, value in zip(ids, values, strict=True)
        if key is not None and value is not None and _WORDS[value.lower()]
    )


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
