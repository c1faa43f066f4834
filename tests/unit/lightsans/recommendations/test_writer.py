from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.columns.hashing import NUM_BUCKETS, bucket_range, user_buckets
from lightsans.config import StorageConfig
from lightsans.dataset.bucket_cursor import BucketCursor, overlapping_parts
from lightsans.recommendations.reader import RunRows
from lightsans.recommendations.tables import to_long, to_wide
from lightsans.recommendations.writer import FileLayout, PartFiles
from lightsans.storage.location import locate
from lightsans.storage.parts import part_name
from lightsans.storage.schemas import recommendations_schema

SCHEMA = recommendations_schema(pa.string(), pa.int64())
PART = part_name(0)


def make_rows(num_users: int) -> pa.Table:
    """Lists of 1 to 3 items, in order of bucket."""
    users = pa.array([f"u{i}" for i in range(num_users)])
    users = users.take(pa.array(np.argsort(user_buckets(users), kind="stable")))
    lists = [[10 * i + rank for rank in range(1 + i % 3)] for i in range(num_users)]
    scores = [[float(-item) for item in items] for items in lists]
    source = ["popular" if i % 5 == 0 else "model" for i in range(num_users)]
    return pa.table([users, lists, scores, source], names=SCHEMA.names).cast(SCHEMA)


@pytest.fixture
def run(tmp_path):
    return locate(str(tmp_path / "run"), StorageConfig())


def write(run, rows, batch, **layout):
    chosen = {"layout": "wide", "partition_by": None, "max_users_per_file": None}
    laid_out = FileLayout(**{**chosen, "users_per_row_group": 8, **layout})
    with PartFiles(run, PART, SCHEMA, laid_out, {"run_id": "r"}) as files:
        for first in range(0, rows.num_rows, batch):
            files.write(rows.slice(first, batch))
    return files.files


def read(run, files, layout="wide") -> list[dict[str, Any]]:
    manifest = {"user_id_type": "string", "item_id_type": "int64", "layout": layout, "k": 3}
    manifest["parts"] = [{"name": PART, "files": files}]
    found = []
    cursor = RunRows(run, manifest, [PART], 7)
    for first in range(0, NUM_BUCKETS, 512):
        found += cursor.between(first, first + 511).to_pylist()
    return found


@pytest.mark.parametrize("max_users_per_file", [None, 9])
@pytest.mark.parametrize(
    ("layout", "partition_by"),
    [("wide", None), ("wide", "source"), ("long", None), ("long", "source"), ("long", "rank")],
)
def test_rows_come_back_as_they_were_written(run, layout, partition_by, max_users_per_file):
    rows = make_rows(50)
    files = write(
        run, rows, 11, layout=layout, partition_by=partition_by,
        max_users_per_file=max_users_per_file,
    )  # fmt: skip
    by_user = {row["user_id"]: row for row in read(run, files, layout)}
    assert by_user == {row["user_id"]: row for row in rows.to_pylist()}
    if partition_by is None:
        assert len(files) == (1 if max_users_per_file is None else 6)


def test_files_do_not_depend_on_how_rows_came(run, tmp_path):
    other = locate(str(tmp_path / "other"), StorageConfig())
    rows, layout = make_rows(50), {"max_users_per_file": 20, "partition_by": "source"}
    first, second = write(run, rows, 50, **layout), write(other, rows, 50, **layout)
    assert first == second
    uneven = write(other, rows, 7, **layout)
    paths = [(file["path"], file["rows"]) for file in first]
    assert [(file["path"], file["rows"]) for file in uneven] == paths


def test_row_groups_are_of_the_size_asked_for(run):
    write(run, make_rows(50), 5, users_per_row_group=20)
    metadata = pq.read_metadata((run / PART).path)
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [20, 20, 10]
    assert metadata.metadata[b"run_id"] == b"r"


def test_a_part_without_rows_is_a_file_with_columns(run):
    (file,) = write(run, make_rows(0), 1)
    assert file["rows"] == 0
    assert pq.read_schema((run / PART).path).names == SCHEMA.names


def test_after_an_error_no_file_appears(run):
    files = PartFiles(run, PART, SCHEMA, FileLayout("wide", None, None, 2), {})

    def fail() -> None:
        with files:
            files.write(make_rows(5))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert run.children() == []


def test_long_rows_have_ranks_and_leave_out_empty_lists():
    rows = pa.table(
        [
            ["a", "b", "c"],
            [[7, 8], [], [9]],
            [[2.0, 1.0], [], [3.0]],
            ["model", "model", "popular"],
        ],
        names=SCHEMA.names,
    ).cast(SCHEMA)
    long = to_long(rows)
    assert list(long.to_pydict().values()) == [
        ["a", "a", "c"], [1, 2, 1], [7, 8, 9], [2.0, 1.0, 3.0], ["model", "model", "popular"]
    ]  # fmt: skip
    shuffled = long.take(pa.array([1, 2, 0]))
    assert to_wide(shuffled, SCHEMA).to_pylist() == rows.take(pa.array([0, 2])).to_pylist()
    assert to_wide(long.slice(0, 0), SCHEMA) == SCHEMA.empty_table()
    assert to_long(rows.slice(2)).to_pydict()["rank"] == [1]


def test_a_cursor_finds_rows_of_buckets_whatever_the_tables_are_cut_into():
    rows = make_rows(200)
    buckets = user_buckets(rows["user_id"])
    for size in (1, 13, 200):
        tables = iter([rows.slice(first, size) for first in range(0, 200, size)])
        cursor = BucketCursor(tables)
        for first, last in ((0, 99), (99, 99), (99, 1000), (1500, 4095), (4095, 4095)):
            found = cursor.between(first, last)
            assert found is not None
            expected = rows.filter(pa.array((buckets >= first) & (buckets <= last)))
            assert found["user_id"].to_pylist() == expected["user_id"].to_pylist()
    assert BucketCursor(iter([])).between(0, 1) is None


def test_overlapping_parts_have_the_buckets_of_a_part_and_others_none():
    names = [part_name(index) for index in range(5)]
    for index in range(3):
        own = set(range(*bucket_range(index, 3)))
        found = overlapping_parts(part_name(index), 3, names, 5)
        for other, name in enumerate(names):
            assert (name in found) == bool(own & set(range(*bucket_range(other, 5))))
