"""Files of runs for tables: the types and names of columns that every warehouse has."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError, InputError
from lightsans.warehouse.output import RunKey, plain_type, table_schema, write_table_file
from lightsans.warehouse.tables import open_output
from tests.factories import local
from tests.run_tables import commit, key_of, run_rows
from tests.warehouses import made_catalog

PRICES = pa.array([[7, None]], pa.list_(pa.uint16()))
BESIDE = {
    "reasons": pa.array([[["a"], []]], pa.list_(pa.list_(pa.string()))),
    "prices": PRICES,
    "colour": pa.array(["red"]).dictionary_encode(),
    "joined": pa.array([1_000], pa.timestamp("ns", "Europe/Berlin")),
    "born": pa.array([datetime.date(2000, 1, 2)], pa.date64()),
    "name": pa.array(["Ann"], pa.large_string()),
}


@pytest.mark.parametrize("uri", ["delta://{}/lists", "iceberg://prod/shop.lists"])
def test_columns_beside_lists_come_back_from_a_table(tmp_path, monkeypatch, uri):
    made_catalog(monkeypatch, tmp_path)
    rows = run_rows("ann")
    for name, column in BESIDE.items():
        rows = rows.append_column(name, column)
    table = open_output(uri.format(tmp_path), StorageConfig())
    commit(tmp_path, table, key_of("r1"), "append", rows)
    commit(tmp_path, table, key_of("r2"), "append", rows)
    [file, _] = sorted(tmp_path.rglob("r?-abc-part-00000.parquet"))
    [row] = pq.ParquetFile(file).read().to_pylist()
    moment = datetime.datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=datetime.UTC)
    assert (row["reasons"], row["prices"], row["colour"]) == ([["a"], []], [7, None], "red")
    assert (row["joined"], row["born"], row["name"]) == (moment, datetime.date(2000, 1, 2), "Ann")


def test_types_of_tables_are_those_that_both_formats_have():
    assert plain_type(pa.uint8()) == pa.int32()
    assert plain_type(pa.uint64()) == pa.int64()
    assert plain_type(pa.large_list(pa.float16())).value_type == pa.float32()
    assert plain_type(pa.timestamp("ns")) == pa.timestamp("us")


def test_a_value_that_no_table_can_hold_is_refused(tmp_path):
    rows = pa.table({"user_id": pa.array([2**63], pa.uint64())})
    pq.write_table(rows, tmp_path / "part.parquet")
    schema = pa.schema([("user_id", pa.int64())])
    with pytest.raises(InputError, match=r"part\.parquet: does not fit the table"):
        write_table_file(local(tmp_path / "part.parquet"), local(tmp_path / "o"), schema, {})
    assert not (tmp_path / "o").exists()


def test_a_column_with_the_name_of_one_of_the_table_is_refused():
    with pytest.raises(ConfigError, match="called as_of"):
        table_schema(pa.schema([("as_of", pa.string())]), {})


def test_files_of_two_makings_of_a_run_have_different_names():
    names = {RunKey("r", 1, digest).file_name("source=model/part-00001.parquet") for digest in "ab"}
    assert names == {"r-a-source-model-part-00001.parquet", "r-b-source-model-part-00001.parquet"}
