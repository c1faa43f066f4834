"""Descriptions by `inspect` of an unknown input, and that its settings read it."""

import csv
import json
import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import DataConfig, StorageConfig
from lightsans.config.file import load_config
from lightsans.errors import InputError
from lightsans.inspection.description import inspect_input, settings_yaml
from lightsans.reading.units import plan_reading, read_unit
from lightsans.storage.listing import list_files, list_inputs
from lightsans.storage.table_formats import TableRows, TableVersion
from tests.commands import ROOT
from tests.exports import export
from tests.logs_on_disk import write_bytes

DATA_PAGE = ROOT / "docs/data.md"


def inspect(*paths, **settings):
    names = [str(path) for path in paths]
    return inspect_input(names, list_inputs(names, StorageConfig()).files, DataConfig(**settings))


def read_pasted(found, tmp_path):
    """Valid rows and all rows that the printed settings read."""
    path = tmp_path / "pasted.yaml"
    path.write_text(settings_yaml(found.settings))
    data = load_config(str(path), []).config.data
    files = [file for name in data.input for file in list_files(name, StorageConfig())]
    plan = plan_reading(files, data)
    types = (plan.user_id_type, plan.item_id_type)
    checked = [rows for unit in plan.units for _, rows in read_unit(unit, data, *types)]
    return sum(rows.table.num_rows for rows in checked), sum(rows.num_rows for rows in checked)


def roles(found):
    return {role: column.name for role, column in found.roles.items()}


EXAMPLES = {
    "yoochoose": ("yoochoose-clicks-100k.txt", 70_278, 70_278),
    "diginetica": ("diginetica-sample.csv", 12_391, 12_391),
    "movielens": ("ml-small-ratings.csv", 100_004, 100_004),
    "watches": ("personalize-events.csv", 61_716, 158_371),
    "journey": ("transactions.parquet", 1_469_307, 1_469_307),
}
"""File, valid rows and all rows of the worked examples in docs/data.md."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_worked_examples_paste_what_inspect_prints(tmp_path, monkeypatch, name):
    file, num_valid, num_rows = EXAMPLES[name]
    path = export(file)
    blocks = re.findall(r"```yaml\n# (\w+)\.yaml\n(.*?)```", DATA_PAGE.read_text(), re.DOTALL)
    (tmp_path / file).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    found = inspect(file)
    assert settings_yaml(found.settings) == dict(blocks)[name].rstrip("\n")
    assert read_pasted(found, tmp_path) == (num_valid, num_rows)


def test_events_are_proposed_with_the_column_and_can_be_pasted(tmp_path):
    events = ["view", 'buy: "now"']
    rows = [["u", f"i{n}", str(1_600_000_000 + n), events[n % 2]] for n in range(20)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["user_id", "item_id", "ts", "event_type"], *rows])
    found = inspect(tmp_path / "a.csv")
    assert found.settings["columns"]["event"] == "event_type"
    assert read_pasted(found, tmp_path) == (20, 20)
    assert any("would predict buy" in remark for remark in found.remarks)
    printed = settings_yaml(found.settings)
    assert '    "view": {input: true}' in printed
    assert '    "buy: \\"now\\"": {input: true, target: true, seen: true}' in printed


LINES = ["u1{s}i1{s}5{s}1600000000", "u2{s}i2{s}3{s}1600000100", "u2{s}i1{s}4{s}1600000100"]


@pytest.mark.parametrize("separator", [",", "::", "\t", ";"])
def test_a_log_without_a_header_is_told_by_its_values(tmp_path, separator):
    text = "\n".join(LINES).replace("{s}", separator).encode()
    found = inspect(write_bytes(tmp_path / "u.data", text))
    assert found.settings["header"] is False
    assert found.settings["columns"] == {"user": 0, "item": 1, "timestamp": 3, "rating": 2}
    assert found.figures is not None
    assert found.figures.same_user_and_time == pytest.approx(0.3333)
    assert read_pasted(found, tmp_path) == (3, 3)


@pytest.mark.parametrize(
    ("times", "setting"),
    [
        (["1600000000000", "1600000100000"], {"timestamp_unit": "ms"}),
        (["20200913", "20200914"], {"timestamp_unit": "yyyymmdd"}),
        (["2020-09-13 10:00:00", "2020-09-14"], {}),
    ],
)
def test_the_unit_of_times_is_found(tmp_path, times, setting):
    text = "customer_id,sku,created_at\n" + "".join(f"c,{n},{t}\n" for n, t in enumerate(times))
    found = inspect(write_bytes(tmp_path / "a.csv", text.encode()))
    expected = {"timestamp_unit": setting["timestamp_unit"]} if setting else {}
    assert {k: v for k, v in found.settings.items() if k == "timestamp_unit"} == expected
    assert read_pasted(found, tmp_path) == (2, 2)


def test_encoding_escapes_blanks_and_doubles_become_settings(tmp_path):
    rows = [r'Zoë  ,"5\" disk",12.0,1600000000', "Åsa,ham,13.0,1600000001", "Jö ,x,14.0,1600000002"]
    text = "\n".join(["visitor,title,item_id,ts", *rows])
    found = inspect(write_bytes(tmp_path / "a.csv", (text + "\n").encode("latin-1")))
    assert found.settings["encoding"] == "latin-1"
    assert found.settings["escape"] == "\\"
    assert found.settings["strip_ids"] is True
    assert found.settings["item_id_type"] == "int64"
    assert read_pasted(found, tmp_path) == (3, 3)


def test_a_store_is_no_user_and_a_price_no_time(tmp_path):
    text = b"store_id,item_id,price,sold_at\n" + b"7,i,1600000000,never\n" * 3
    found = inspect(write_bytes(tmp_path / "a.csv", text))
    assert roles(found) == {"item": "item_id"}
    assert found.settings == {}
    assert "the user or the timestamp" in found.remarks[-1]


def test_files_that_differ_from_the_first_are_all_named(tmp_path):
    header = b"user_id,item_id,timestamp\nu,i,1600000000\n"
    first = write_bytes(tmp_path / "a.csv", header)
    second = write_bytes(tmp_path / "b.csv", header.replace(b"user_id", b"user"))
    third = write_bytes(tmp_path / "c.csv", b"ORC and more")
    remarks = inspect(first, second, third).remarks
    assert any("b.csv" in each and "without 'user_id'; more: 'user'" in each for each in remarks)
    assert any("c.csv" in each and "ORC" in each for each in remarks)


def test_only_a_sample_of_a_large_input_is_looked_at(tmp_path, monkeypatch):
    table = pa.table(
        {"user_id": range(50), "item_id": range(50), "timestamp": [1_600_000_000] * 50}
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    monkeypatch.setattr("lightsans.inspection.sample.SAMPLE_ROWS", 25)
    found = inspect(tmp_path / "a.parquet")
    assert (found.sample.num_rows, found.sample.is_whole) == (25, False)
    assert inspect(tmp_path / "a.parquet").to_json()["is_sample"] is True
    assert json.dumps(found.to_json())


def test_nested_columns_are_shown_and_no_log_is_unreadable_for_them(tmp_path):
    columns = {"user_id": ["u"], "item_id": ["i"], "ts": [1_600_000_000], "tags": [["a", "b"]]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = inspect(tmp_path / "a.parquet")
    assert roles(found) == {"user": "user_id", "item": "item_id", "timestamp": "ts"}
    assert found.columns[3].kind.startswith("list")


def test_an_unreadable_input_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match="web page"):
        inspect(write_bytes(tmp_path / "a.csv", b"<!DOCTYPE html>\n"))


def test_of_two_columns_of_a_name_the_position_is_printed(tmp_path):
    rows = "".join(f"u,v,i{n},{1_600_000_000 + n}\n" for n in range(5))
    text = f"user_id,user_id,item_id,ts\n{rows}"
    found = inspect(write_bytes(tmp_path / "a.csv", text.encode()))
    assert found.settings["columns"]["user"] == 0
    assert read_pasted(found, tmp_path) == (5, 5)


@pytest.mark.parametrize("time", ["13.09.2020", "09/13/2020 05:45 PM", "44087", "1.600.000.000"])
def test_times_that_are_written_in_another_way_are_told(tmp_path, time):
    text = "user_id,item_id,timestamp\n" + f"u,i,{time}\n" * 5
    found = inspect(write_bytes(tmp_path / "a.csv", text.encode()))
    assert found.settings == {}
    assert any("'timestamp' would be the timestamp, but" in r and time in r for r in found.remarks)


def test_a_header_without_rows_is_told(tmp_path):
    found = inspect(write_bytes(tmp_path / "a.csv", b"user_id,item_id,timestamp\n"))
    assert "there is a header and no row" in found.remarks


def test_a_column_without_any_type_is_empty(tmp_path):
    table = pa.table({"user_id": ["u"], "item_id": ["i"], "why": pa.nulls(1), "timestamp": [10**9]})
    pq.write_table(table, tmp_path / "a.parquet")
    [empty] = [column for column in inspect(tmp_path / "a.parquet").columns if column.name == "why"]
    assert (empty.kind, empty.missing, empty.distinct) == ("empty", 1, 0)


def json_log(path, others):
    """A log of JSON lines, more than Arrow is asked to read again, each with something else."""
    lines = [
        f'{{"user":{n % 3},"item":{n % 5},"ts":{1_700_000_000 + n},{others(n)}}}\n'
        for n in range(3000)
    ]
    return write_bytes(path, "".join(lines).encode())


@pytest.mark.parametrize(
    "others",
    [
        lambda n: '"tags":["a"],"at":{"x":1}',
        lambda n: '"tags":' + ("[1]" if n == 2500 else "1"),
        lambda n: '"new":' + ("true" if n < 2500 else "1"),
        lambda n: '"new":true' if n < 2999 else "cut off",
    ],
)
def test_what_is_nested_or_of_another_type_in_json_lines_hides_no_log(tmp_path, others):
    found = inspect(json_log(tmp_path / "log.jsonl", others))
    assert roles(found) == {"user": "user", "item": "item", "timestamp": "ts"}
    assert found.sample.num_rows + found.sample.num_broken == 3000


def test_what_is_all_nested_or_has_no_columns_is_told(tmp_path):
    path = write_bytes(tmp_path / "a.json", b'{"data":[{"user":1}]}')
    assert "no column is likely the user" in inspect(path).remarks[-1]
    pq.write_table(pa.table({}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="has no columns"):
        inspect(tmp_path / "b.parquet")


def test_columns_that_a_table_tells_of_its_files_are_looked_at(tmp_path):
    pq.write_table(pa.table({"item_id": ["i"], "ts": [1_600_000_000]}), tmp_path / "a.parquet")
    [file] = list_files(str(tmp_path / "a.parquet"), StorageConfig())
    table = TableVersion(kind="iceberg", uri=str(tmp_path), version=1)
    listed = replace(file, rows=TableRows(table, 0, {"user_id": "ann"}))
    found = inspect_input(["iceberg://log"], [listed], DataConfig())
    assert roles(found) == {"user": "user_id", "item": "item_id", "timestamp": "ts"}
