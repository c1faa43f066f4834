"""The command `inspect`, without Ray."""

import json

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from typer.testing import CliRunner

from pipelines.commands.app import app, main
from tests.logs_on_disk import write_bytes

LOG = b"user_id;item_id;ts;note\nann;tea;1600000000;\x1b[31mred\nbob;jam;1600000100;x\n"


def test_inspect_prints_columns_roles_and_settings_without_control_characters(tmp_path):
    path = write_bytes(tmp_path / "a.csv.gz", LOG)
    shown = CliRunner().invoke(app, ["inspect", str(path)]).output
    assert "csv, gzip, utf-8, separator ';'" in shown
    assert 'columns: {user: "user_id", item: "item_id", timestamp: "ts", rating: null}' in shown
    assert "\x1b[31m" not in shown
    assert "users: 2, items: 2" in shown


@pytest.mark.parametrize("control", ["\x9b2J", "\x85", "\u202e", "\x07"], ids=ascii)
def test_names_of_files_reach_a_terminal_as_escapes_in_settings_too(tmp_path, control):
    path = write_bytes(tmp_path / f"a{control}.csv", LOG)
    shown = CliRunner().invoke(app, ["inspect", str(path)]).output
    assert f'input: ["{tmp_path}/a\\' in shown
    assert control[0] not in shown


def test_inspect_as_json_is_one_object(tmp_path):
    path = write_bytes(tmp_path / "a.csv", LOG)
    shown = CliRunner().invoke(app, ["inspect", str(path), "--json"]).output
    content = json.loads(shown.splitlines()[-1])
    assert (content["format"], content["separator"], content["files"]) == ("csv", ";", 1)
    assert [column["role"] for column in content["columns"]] == ["user", "item", "timestamp", None]
    assert content["settings"]["data"]["input"] == [str(path)]


def test_a_missing_file_is_a_mistake_of_the_user(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["inspect", str(tmp_path / "typo.csv")])
    assert left.value.code == 2
    assert "typo.csv" in capsys.readouterr().err


def test_a_table_of_a_warehouse_is_looked_at_under_its_address(tmp_path):
    rows = pa.table({"user": ["a", "b"] * 9, "item": ["x", "y"] * 9, "ts": [1_700_000_000] * 18})
    write_deltalake(tmp_path / "log", rows)
    shown = CliRunner().invoke(app, ["inspect", f"delta://{tmp_path}/log"])
    assert shown.exit_code == 0, shown.output
    assert f"delta://{tmp_path}/log" in shown.output
