"""The same events and lists are read alike, in whatever directories and files they lie."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsans.config import ColumnsConfig, DataConfig, RunConfig
from lightsans.lists.id_lists import read_id_list
from tests.logs_on_disk import (
    LEFTOVERS,
    Row,
    fingerprint_of,
    read_log,
    write_bytes,
    write_csv,
    write_jsonl,
    write_parquet,
)
from tests.strategies import (
    DAYS_OF_EVENTS,
    DIRECTORY_SHAPES,
    FILE_ENDINGS,
    LEFTOVERS_BESIDE,
    ODD_IDS,
)

WRITERS = {"parquet": write_parquet, "jsonl": write_jsonl, "jsonl.gz": write_jsonl}


def quoted(name: str) -> str:
    """A value in the name of a directory, as Hive writes it."""
    return quote(name, safe=" é-").replace(".", "%2E")


def write_directory(
    log: Path, rows: list[Row], shape: str, ending: str, leftovers: set[str]
) -> ColumnsConfig:
    """Write events into files of a directory; the columns by which they are read."""
    for user, day in sorted({(user, time // 86_400) for user, _, time in rows}):
        chosen: list[Row] = [row for row in rows if row[0] == user and row[2] // 86_400 == day]
        directory = log / directory_of(shape, user, day)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"part-{len(list(directory.iterdir()))}.{ending}"
        WRITERS[ending](path, chosen)
        if shape == "linked":
            (directory / f"again-{path.name}").symlink_to(path.name)
            os.link(path, directory / f"hard-{path.name}")
    for leftover in leftovers:
        place = path.parent / leftover
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(LEFTOVERS[leftover])
    return ColumnsConfig(user="who") if shape == "user" else ColumnsConfig()


@settings(max_examples=40)
@given(DAYS_OF_EVENTS, DIRECTORY_SHAPES, FILE_ENDINGS, LEFTOVERS_BESIDE)
def test_events_are_the_same_in_every_shape_of_directory(events, shape, ending, leftovers):
    rows = sorted((user, item, 86_400 * day + time) for user, item, day, time in events)
    with TemporaryDirectory() as name:
        columns = write_directory(Path(name) / "log[1]", rows, shape, ending, leftovers)
        assert sorted(read_log(Path(name) / "log[1]", columns=columns).rows) == rows


@settings(max_examples=5)
@given(DAYS_OF_EVENTS, DIRECTORY_SHAPES, FILE_ENDINGS, LEFTOVERS_BESIDE)
def test_every_shape_of_directory_makes_the_same_dataset(events, shape, ending, leftovers):
    rows = sorted((user, item, 86_400 * day + time) for user, item, day, time in events)
    with TemporaryDirectory() as name:
        columns = write_directory(Path(name) / "log[1]", rows, shape, ending, leftovers)
        one = write_parquet(Path(name) / "one.parquet", rows)
        found = fingerprint_of(Path(name) / "log[1]", Path(name) / "root", columns=columns)
        assert found == fingerprint_of(one, Path(name) / "root")


def directory_of(shape: str, user: str, day: int) -> str:
    """The directory below the log in which a user's events of a day lie."""
    return {
        "flat": ".",
        "nested": f"2026/{day}",
        "dt": f"dt=2026-01-0{day + 1}/shop=__HIVE_DEFAULT_PARTITION__",
        "user": f"dt=2026-01-0{day + 1}/who={quoted(user)}",
        "linked": f"{day}",
    }[shape]


def write_list(directory: Path, shape: str, ids: Sequence[str]) -> Path:
    """A list of ids in one of the shapes that people keep lists in."""
    path = directory / f"list.{shape}"
    match shape:
        case "txt" | "txt.gz":
            write_bytes(path, "".join(f"{each}\n" for each in ids).encode())
        case "csv":
            values = "".join(f'"{each}",gone\n' for each in ids)
            path.write_text(f'"user_id","why"\n{values}')
        case "parquet":
            pq.write_table(pa.table({"user_id": pa.array(ids).dictionary_encode()}), path)
        case "jsonl":
            write_jsonl(path, [(each, "i", 1) for each in ids])
        case "directory":
            path.mkdir()
            for number, each in enumerate(ids):
                write_csv(path / f"part-{number}.csv.gz", [(f'"{each}"', "i", 1)])
            (path / "part-99.csv").touch()
    return path


@settings(max_examples=30)
@given(
    st.lists(ODD_IDS, min_size=1, max_size=4, unique=True),
    st.lists(ODD_IDS, max_size=3),
    st.sampled_from(["txt", "txt.gz", "csv", "parquet", "jsonl", "directory"]),
)
def test_a_list_is_the_same_in_every_shape(ids, others, shape):
    with TemporaryDirectory() as name:
        path = write_list(Path(name), shape, ids)
        listed = read_id_list("a list", str(path), RunConfig(data=DataConfig()), "user")
    stripped = {each.strip() for each in ids}
    assert set(listed.ids.to_pylist()) == set(ids) | stripped
    assert len(listed) == len(stripped)
    known = pa.array([*others, ids[0]])
    assert listed.num_found(known) == len(
        {each.strip() for each in ids if {each, each.strip()} & set(known.to_pylist())}
    )
