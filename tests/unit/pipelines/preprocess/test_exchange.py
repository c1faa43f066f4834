import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig, StorageConfig
from lightsans.preparation.packing import PACKED_SCHEMA, PART, pack_rows, unpack_rows
from lightsans.reading.input_files import InputFile
from lightsans.reading.units import ReadPlan, ReadUnit, Slice
from lightsans.storage.location import FileInfo, locate
from pipelines.preprocess import exchange
from pipelines.preprocess.exchange import cut_by_writer, is_exchanged_by_tasks
from pipelines.preprocess.identity import Source, choose_num_parts


@pytest.mark.parametrize(
    ("name", "megabytes", "units", "by_tasks"),
    [
        ("day.csv", 200, 7, True),
        ("month.csv", 1_500, 24, True),
        ("month.csv", 1, 200, False),  # each unit costs a task
        ("year.csv", 10_000, 160, False),
        ("day.csv.gz", 60, 1, True),
        ("year.csv.gz", 10_000, 1, False),  # a single unit, read as a stream
    ],
)
def test_the_driver_counts_what_tasks_exchange_of_small_inputs_only(
    name, megabytes, units, by_tasks
):
    file = FileInfo(locate(f"/logs/{name}", StorageConfig()), megabytes * 2**20, "etag")
    plan = ReadPlan([ReadUnit(n, ()) for n in range(units)], "string", "string")
    parts = choose_num_parts([file], DataConfig())
    source = Source(DataConfig(), [file], [])
    assert is_exchanged_by_tasks(plan, source, parts, parts) == by_tasks


@pytest.mark.parametrize(
    ("num_files", "num_parts", "by_tasks"),
    [
        (3_000, 4, True),
        (3_000, 512, True),  # 75 MB packed: another round for each of 512 writers
        (100_000, 4, True),
        (100_000, 512, False),  # 2.6 GB packed of 10 MB
    ],
)
def test_small_files_count_by_what_they_take_packed(num_files, num_parts, by_tasks):
    """Each row of a file of 100 bytes goes to another part, in a stretch of its own."""
    file = FileInfo(locate("/logs/a.csv", StorageConfig()), 100, "etag")
    small = Slice(object.__new__(InputFile), 0, 0, 100, num_bytes=100)
    plan = ReadPlan([ReadUnit(0, (small,) * num_files)], "string", "string")
    source = Source(DataConfig(), [file] * num_files, [])
    assert is_exchanged_by_tasks(plan, source, num_parts, num_parts) == by_tasks


def small_files(num_files, num_parts):
    """Packed rows of files of five, and the empty table that ends a unit; the rows themselves."""
    tables = [
        pa.table(
            {
                "user_id": [f"u{file}-{row}" for row in range(5)],
                "raw_item_id": [f"i{row}" for row in range(5)],
                "timestamp": pa.array(range(5), pa.int64()),
                "rating": [1.0] * 5,
                "order_key": pa.array([(file << 40) + row for row in range(5)], pa.int64()),
            }
        )
        for file in range(num_files)
    ]
    return [*(pack_rows(table, num_parts) for table in tables), PACKED_SCHEMA.empty_table()]


def rows_of(packed):
    return {number: rows.to_pylist() for number, rows in unpack_rows(packed)}


def test_many_small_files_make_one_object_for_each_writer():
    stretches = small_files(300, num_parts=7)
    cut = list(cut_by_writer(iter(stretches), num_writers=3))
    assert len(cut) == 3
    assert [set((np.unique(table[PART]) % 3).tolist()) for table in cut] == [{0}, {1}, {2}]
    assert all(column.num_chunks <= 1 for table in cut for column in table.columns)


def test_what_a_task_gathers_is_bounded_and_its_rows_keep_their_order(monkeypatch):
    stretches = small_files(300, num_parts=7)
    least = max(stretch.nbytes for stretch in stretches)
    monkeypatch.setattr(exchange, "GATHERED_BYTES", 10 * least)
    cut = list(cut_by_writer(iter(stretches), num_writers=3))
    rounds = [cut[first : first + 3] for first in range(0, len(cut), 3)]
    sizes = [sum(table.nbytes for table in tables) for tables in rounds]
    assert len(rounds) > 10
    assert max(sizes) < 11 * least
    assert rows_of(pa.concat_tables(cut)) == rows_of(pa.concat_tables(stretches))


def test_a_unit_without_rows_has_an_empty_table_for_each_writer():
    cut = list(cut_by_writer(iter([PACKED_SCHEMA.empty_table()]), num_writers=2))
    assert cut == [PACKED_SCHEMA.empty_table()] * 2
