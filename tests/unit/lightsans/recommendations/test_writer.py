from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.errors import InputError
from lightsans.recommendations.reader import RunRows
from lightsans.recommendations.writer import FileLayout, PartFiles
from lightsans.storage.parts import part_name
from lightsans.storage.schemas import recommendations_schema
from tests.factories import local, make_lists
from tests.manifests import run_manifest, run_part

SCHEMA = recommendations_schema(pa.string(), pa.int64())
PART = part_name(0)


@pytest.fixture
def run(tmp_path):
    return local(tmp_path / "run")


def write(run, rows, batch, **layout):
    chosen = {"layout": "wide", "partition_by": None, "max_users_per_file": None}
    laid_out = FileLayout(**{**chosen, "users_per_row_group": 8, **layout})
    with PartFiles(run, PART, SCHEMA, laid_out, {"run_id": "r"}) as files:
        for first in range(0, rows.num_rows, batch):
            files.write(rows.slice(first, batch))
    return files.files


def read(run, files, layout="wide") -> list[dict[str, Any]]:
    manifest = run_manifest(
        item_id_type="int64",
        settings={"layout": layout, "k": 3},
        parts=(run_part(PART, files=tuple(files)),),
    )
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
    rows = make_lists(50)
    files = write(
        run, rows, 11, layout=layout, partition_by=partition_by,
        max_users_per_file=max_users_per_file,
    )  # fmt: skip
    by_user = {row["user_id"]: row for row in read(run, files, layout)}
    assert by_user == {row["user_id"]: row for row in rows.to_pylist()}
    if partition_by is None:
        assert len(files) == (1 if max_users_per_file is None else 6)


def test_files_do_not_depend_on_how_rows_came(run, tmp_path):
    other = local(tmp_path / "other")
    rows, layout = make_lists(50), {"max_users_per_file": 20, "partition_by": "source"}
    first, second = write(run, rows, 50, **layout), write(other, rows, 50, **layout)
    assert first == second
    uneven = write(other, rows, 7, **layout)
    paths = [(file.path, file.rows) for file in first]
    assert [(file.path, file.rows) for file in uneven] == paths


def test_row_groups_are_of_the_size_asked_for(run):
    write(run, make_lists(50), 5, users_per_row_group=20)
    metadata = pq.read_metadata((run / PART).path)
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [20, 20, 10]
    assert metadata.metadata[b"run_id"] == b"r"


def test_a_part_without_rows_is_a_file_with_columns(run):
    (file,) = write(run, make_lists(0), 1)
    assert file.rows == 0
    assert pq.read_schema((run / PART).path).names == SCHEMA.names


def test_after_an_error_no_file_appears(run):
    files = PartFiles(run, PART, SCHEMA, FileLayout("wide", None, None, 2), {})

    def fail() -> None:
        with files:
            files.write(make_lists(5))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert run.children() == []


def test_a_file_that_was_replaced_is_named(run):
    """Another one of as many rows takes its place."""
    files = write(run, make_lists(20), 20)
    table = (run / files[0].path).read_table()
    (run / files[0].path).write_table(table.set_column(0, "user_id", table["user_id"][::-1]))
    with pytest.raises(InputError, match=r"part-00000\.parquet: another file than the run's manif"):
        read(run, files)
