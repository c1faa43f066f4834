"""The same events make the same dataset, whoever wrote them in whichever format and types."""

import csv
import json
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans

from tests.logs_on_disk import fingerprint_of, read_log
from tests.strategies import numbered_events, words_for_missing, written_events

NAMES = ("user_id", "item_id", "timestamp")
Events = list[tuple[object, object, int]]
few = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def table_of(events: Events) -> pa.Table:
    return pa.table(dict(zip(NAMES, map(list, zip(*events, strict=True)), strict=True)))


def by_hand(events: Events, field: Callable[[str], str], separator: str = ",") -> bytes:
    rows = [NAMES, *events]
    lines = [separator.join(field(str(value)) for value in row) for row in rows]
    return "".join(f"{line}\n" for line in lines).encode()


def python_csv(events: Events, path: Path, delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([NAMES, *events])


def spark(text: str) -> str:
    """A backslash before quotes and backslashes, within quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def doubled(text: str) -> str:
    """R's write.csv and Snowflake with FIELD_OPTIONALLY_ENCLOSED_BY."""
    return '"' + text.replace('"', '""') + '"'


def duck(table: pa.Table, path: Path, options: str) -> None:
    with duckdb.connect() as connection:
        connection.register("events", table)
        connection.execute(f"COPY (SELECT * FROM events) TO '{path}' ({options})")


def text_writers(events: Events) -> dict[str, Callable[[Path], object]]:
    """Who writes a file, and its name."""
    table = table_of(events)
    frame, rows = pl.DataFrame(table), table.to_pandas()
    return {
        "arrow.csv": lambda path: pyarrow.csv.write_csv(table, path),
        "arrow.parquet": lambda path: pq.write_table(table, path),
        "dictionary.parquet": lambda path: pq.write_table(
            table.set_column(0, NAMES[0], table[NAMES[0]].dictionary_encode()), path
        ),
        "pandas.csv": lambda path: rows.to_csv(path, index=False),
        "pandas.tsv": lambda path: rows.to_csv(path, index=False, sep="\t"),
        "pandas.csv.xz": lambda path: rows.to_csv(path, index=False),
        "pandas.csv.zip": lambda path: rows.to_csv(path, index=False),
        "pandas.json": lambda path: rows.to_json(path, orient="records"),
        "indented.json": lambda path: rows.to_json(path, orient="records", indent=2),
        "pandas.jsonl": lambda path: rows.to_json(path, orient="records", lines=True),
        "polars.csv": lambda path: frame.write_csv(path),
        "polars.parquet": lambda path: frame.write_parquet(path),
        "polars.ndjson": lambda path: frame.write_ndjson(path),
        "duck.csv": lambda path: duck(table, path, "FORMAT csv, HEADER"),
        "duck.csv.gz": lambda path: duck(table, path, "FORMAT csv, HEADER, COMPRESSION gzip"),
        "duck.parquet": lambda path: duck(table, path, "FORMAT parquet, COMPRESSION zstd"),
        "duck.jsonl": lambda path: duck(table, path, "FORMAT json"),
        "array.json": lambda path: duck(table, path, "FORMAT json, ARRAY true"),
        "python.txt": lambda path: python_csv(events, path, ";"),
        "r.csv": lambda path: path.write_bytes(by_hand(events, doubled)),
        "utf16.csv": lambda path: path.write_bytes(
            by_hand(events, doubled).decode().encode("utf-16")
        ),
    }


@settings(max_examples=4)
@given(written_events())
def test_text_ids_are_the_same_in_every_format(events: Events) -> None:
    settings_of = {"spark.csv": {"escape": "\\"}, "gb.csv": {"encoding": "gb18030"}}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for file, write in text_writers(events).items():
            write(directory / file)
        (directory / "spark.csv").write_bytes(by_hand(events, spark))
        (directory / "gb.csv").write_bytes(by_hand(events, doubled).decode().encode("gb18030"))
        found = {}
        for path in sorted(directory.iterdir()):
            given_settings = settings_of.get(path.name, {})
            assert read_log(path, **given_settings).rows == events, path.name
            found[path.name] = fingerprint_of(path, directory / "root", **given_settings)
    assert len(set(found.values())) == 1, found


@few
@given(numbered_events())
def test_numbers_as_ids_keep_their_value_through_every_type(tmp_path: Path, events: Events) -> None:
    expected = [(str(user), str(item), time) for user, item, time in events]
    users, items, times = map(list, zip(*events, strict=True))
    kinds: dict[str, Callable[[list[int]], pa.Array]] = {
        "int64": pa.array,
        "double": lambda ids: pa.array(map(float, ids), pa.float64()),
        "decimal": lambda ids: pa.array(map(Decimal, ids), pa.decimal128(38, 0)),
        "scaled": lambda ids: pa.array(map(Decimal, ids), pa.decimal128(30, 4)),
        "large": lambda ids: pa.array(map(str, ids), pa.large_string()),
        "view": lambda ids: pa.array(map(str, ids), pa.string_view()),
        "dictionary": lambda ids: pa.array(ids).dictionary_encode(),
    }
    path, fingerprints = tmp_path / "a.parquet", set()
    for name, make in kinds.items():
        seconds = pa.array(times)
        stamps = [seconds, seconds.cast(pa.float64()), seconds.cast(pa.decimal128(38, 0))]
        stamps += [
            seconds.cast(pa.timestamp("s", "UTC")).cast(pa.timestamp(unit, "UTC"))
            for unit in ("s", "ms", "us")
        ]
        for stamp in stamps:
            columns = dict(zip(NAMES, (make(users), make(items), stamp), strict=True))
            pq.write_table(pa.table(columns), path)
            read = read_log(path, user_id_type="string", item_id_type="string")
            assert read.rows == expected, (name, stamp.type)
        with tempfile.TemporaryDirectory() as root:
            types = {"user_id_type": "string", "item_id_type": "string"}
            fingerprints.add(fingerprint_of(path, Path(root), **types))
    assert len(fingerprints) == 1


@few
@given(numbered_events())
def test_integers_with_gaps_are_themselves_in_pandas_csv_and_json(
    tmp_path: Path, events: Events
) -> None:
    """A missing id makes doubles of a column: 7 is written 7.0."""
    frame = pd.DataFrame([*events, (None, None, 5)], columns=[*NAMES])
    frame.to_csv(tmp_path / "a.csv", index=False, float_format="%.1f")
    frame.to_parquet(tmp_path / "a.parquet")
    records = [dict(zip(NAMES, row, strict=True)) for row in frame.values.tolist()]
    lines = "\n".join(json.dumps(record) for record in records)
    (tmp_path / "a.jsonl").write_text(lines)
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        read = read_log(tmp_path / name, user_id_type="int64", item_id_type="int64")
        assert read.rows == events, name
        assert [reason for _, reason in read.rejects] == ["user_missing"], name


@few
@given(written_events(), words_for_missing(), booleans())
def test_words_for_missing_values_are_missing_quoted_or_not(
    tmp_path: Path, events: Events, word: str, is_quoted: bool
) -> None:
    field = f'"{word}"' if is_quoted else word
    content = by_hand(events, doubled) + f"{field},i,5\n".encode()
    (tmp_path / "a.csv").write_bytes(content)
    log = read_log(tmp_path / "a.csv")
    assert log.rows == events
    assert [reason for _, reason in log.rejects] == ["user_missing"]
