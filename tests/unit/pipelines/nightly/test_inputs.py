"""A night that is repeated reads the files that it read at first, and has the name of its date."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lightsans.config.file import load_config
from lightsans.errors import InputError
from pipelines.nightly.inputs import pin_inputs, report_name
from tests.factories import local

FIFTH, SIXTH = datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 11, 6, tzinfo=UTC)


@pytest.fixture
def logs(tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    for name in ("day-1.csv", "day-2.csv"):
        (directory / name).write_text("user_id,item_id\n")
    return directory


@pytest.fixture
def remembered(tmp_path):
    return local(tmp_path / "reports" / "nightly-2026-11-05.inputs.json")


def read_by(logs, remembered, moment=FIFTH, pattern="*.csv"):
    """Names of the files that the night of a date reads."""
    config = load_config(None, [f"data.input={logs}/{pattern}"]).config
    pinned = pin_inputs(config, remembered, moment)
    if pinned == config:
        return "as configured"
    return [path.rpartition("/")[2] for path in pinned.data.input]


def test_a_file_that_arrives_later_is_left_out_of_the_same_date(logs, remembered, capfd):
    assert read_by(logs, remembered) == "as configured"
    assert read_by(logs, remembered) == "as configured"
    (logs / "day-0.csv").write_text("user_id,item_id\n")
    assert read_by(logs, remembered) == ["day-1.csv", "day-2.csv"]
    said = capfd.readouterr().err
    assert "1 more, such as " in said
    assert "day-0.csv, are left out; remove that file to read what is there now" in said


def test_a_file_that_changed_since_the_first_attempt_is_said(logs, remembered, capfd):
    read_by(logs, remembered)
    (logs / "day-2.csv").write_text("user_id,item_id\nu,i\n")
    assert read_by(logs, remembered) == "as configured"
    said = capfd.readouterr().err
    assert "WARNING: nightly: 1 files of the first attempt" in said
    assert "day-2.csv: this is not the same data again" in said


def test_another_date_or_another_pattern_lists_anew(logs, remembered):
    read_by(logs, remembered)
    (logs / "day-3.csv").write_text("user_id,item_id\n")
    assert read_by(logs, remembered, pattern="day-*.csv") == "as configured"
    assert len(remembered.read_json()["files"]) == 3
    (logs / "day-4.csv").write_text("user_id,item_id\n")
    assert read_by(logs, remembered, SIXTH, "day-*.csv") == "as configured"
    assert len(remembered.read_json()["files"]) == 4


def test_without_its_listing_a_night_reads_what_is_there(logs, remembered):
    read_by(logs, remembered)
    (logs / "day-3.csv").write_text("user_id,item_id\n")
    remembered.delete()
    assert read_by(logs, remembered) == "as configured"


def test_a_pattern_without_files_is_an_error_and_remembers_nothing(logs, remembered):
    with pytest.raises(InputError, match="no file matches"):
        read_by(logs, remembered, pattern="*.parquet")
    assert not remembered.exists()


@pytest.mark.parametrize(
    ("as_of", "moment", "name"),
    [
        ("2026-11-05", FIFTH, "2026-11-05"),
        # Midnight in Berlin: named as it was given.
        ("2026-11-05", datetime(2026, 11, 4, 23, tzinfo=UTC), "2026-11-05"),
        ("2026-11-05 01:30", datetime(2026, 11, 5, 0, 30, tzinfo=UTC), "2026-11-05T013000"),
        # With an offset two spellings mean one moment: one name.
        ("2026-11-05T01:00:00+01:00", FIFTH, "2026-11-05"),
        ("2026-11-05T00:00:00Z", FIFTH, "2026-11-05"),
        ("a form of its own", FIFTH, "2026-11-05"),
    ],
)
def test_the_report_has_the_name_of_the_date_as_given(as_of, moment, name):
    assert report_name(as_of, moment) == name


def test_a_repeated_night_reads_the_version_of_a_table_that_it_read_at_first(tmp_path, remembered):
    table = str(tmp_path / "log")
    rows = pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": [0]})
    write_deltalake(table, rows)
    config = load_config(None, [f"data.input={table}"]).config
    assert pin_inputs(config, remembered, FIFTH) == config
    assert pin_inputs(config, remembered, FIFTH) == config
    write_deltalake(table, rows, mode="append")
    pinned = pin_inputs(config, remembered, FIFTH)
    assert pinned.data.input == (f"delta://{table}@v0",)
