"""Interaction logs as files, and all that reading them gives, without Ray."""

import bz2
import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import DataConfig, RunConfig, StorageConfig
from lightsans.errors import InputError
from lightsans.in_process.dataset import make_dataset
from lightsans.reading.units import order_keys, plan_reading, read_unit
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import read_manifest
from lightsans.warehouse.tables import list_log_inputs

Row = tuple[Any, Any, Any]
"""User, item and timestamp."""


ROWS: list[Row] = [("u1", "i1", 10), ("u2", "i,2", 20), ("ü3", "i3", 30.25), ("007", "i1", 20)]
PLAIN: list[Row] = [(user, item.replace(",", ";"), time) for user, item, time in ROWS]
"""Rows that need no quotes in a csv file."""


LEFTOVERS = {
    "_SUCCESS": b"",
    ".part-0.csv.crc": b"crc",
    "part-0.crc": b"crc",
    "_temporary/0/part-9.jsonl": b"{",
    ".ipynb_checkpoints/x-checkpoint.jsonl": b"{",
    "day_$folder$": b"",
    "README.md": b"About",
    "part-7.parquet": b"",
    "part-8.csv": b"user_id,item_id,timestamp\n",
    "part-9.csv": b"\n",
}
"""Files that programs leave beside data, by name."""


class ReadLog(NamedTuple):
    """Rows of a log, in the order in which it was read."""

    rows: list[Row]
    """Timestamps in seconds."""
    rejects: list[tuple[int, str]]
    order_keys: list[int]
    num_units: int


def read_log(paths: Path | str | Sequence[Path], **settings: Any) -> ReadLog:
    """Read files as the pipeline does, one unit after the other."""
    addresses: list[Path | str] = [paths] if isinstance(paths, Path | str) else list(paths)
    data = DataConfig(input=tuple(map(str, addresses)), **settings)
    files = list_log_inputs(data.input, StorageConfig()).files
    plan = plan_reading(files, data)
    rows: list[Row] = []
    rejects: list[tuple[int, str]] = []
    keys: list[int] = []
    for unit in plan.units:
        for piece, checked in read_unit(unit, data, plan.user_id_type, plan.item_id_type):
            table = checked.table
            columns = (table[name].to_pylist() for name in ("user_id", "raw_item_id"))
            times = [time / 1e6 for time in table["timestamp"].to_pylist()]
            rows += zip(*columns, times, strict=True)
            keys += order_keys(piece, table["position"].to_numpy()).tolist()
            positions = checked.reject_positions.tolist()
            rejects += zip(positions, checked.reject_reasons, strict=True)
    return ReadLog(rows, sorted(rejects), keys, len(plan.units))


def fingerprint_of(path: Path, root: Path, **settings: Any) -> str:
    """Fingerprint of the dataset of a file or directory, which is made in this process."""
    data = DataConfig(input=(str(path),), **settings)
    name = make_dataset(RunConfig(root=str(root / path.name), data=data))
    dataset = locate(str(root / path.name / "datasets" / name), StorageConfig())
    made = read_manifest(DatasetManifest, dataset)
    assert made is not None
    return made.fingerprint


def reading_fails(message: Sequence[str], paths: Path | Sequence[Path], **settings: Any) -> None:
    """Require that files are refused with a message that has all the words in it."""
    with pytest.raises(InputError) as caught:
        read_log(paths, **settings)
    for part in message:
        assert part in str(caught.value), str(caught.value)


def write_csv(path: Path, rows: Iterable[Row], separator: str = ",", header: bool = True) -> Path:
    """A csv file, compressed when the name says so."""
    lines = [separator.join(("user_id", "item_id", "timestamp"))] if header else []
    lines += [separator.join(map(str, row)) for row in rows]
    return write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    """JSON lines, compressed when the name says so."""
    names = ("user_id", "item_id", "timestamp")
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    return write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def write_parquet(path: Path, rows: Iterable[Row], row_group_size: int | None = None) -> Path:
    """A parquet file with Arrow's types for the values."""
    columns = zip(*rows, strict=True)
    table = pa.table(dict(zip(("user_id", "item_id", "timestamp"), columns, strict=True)))
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """A file, compressed as its name says."""
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".bz2":
        content = bz2.compress(content)
    elif path.suffix in (".zst", ".lz4"):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, path.suffix[1:].replace("zst", "zstd")) as stream:
            stream.write(content)
        content = sink.getvalue().to_pybytes()
    path.write_bytes(content)
    return path


def rows(first: int, count: int = 4) -> pa.Table:
    """Rows of two users, each with an item and a time of its own."""
    numbers = range(first, first + count)
    return pa.table(
        {
            "user_id": [f"u{n % 2}" for n in numbers],
            "item_id": [f"i{n}" for n in numbers],
            "timestamp": list(numbers),
        }
    )
