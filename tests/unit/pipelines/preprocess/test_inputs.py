"""Partitions prune by time where a setting says that they are event time, and only there."""

from pathlib import Path
from typing import Any

import pytest

from lightsans.config import DataConfig, RunConfig
from lightsans.errors import ConfigError, InputError
from pipelines.preprocess.inputs import list_log

JANUARY_2 = 1_767_312_000_000_000
VALUES = ["dt=2026-01-01", "dt=2026-01-02", "dt=2026-01-03", "dt=__HIVE_DEFAULT_PARTITION__"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for value in VALUES:
        (tmp_path / value).mkdir()
        (tmp_path / value / "a.csv").write_text("x")
    return tmp_path


def listed(log: Path, as_of: int | None, **settings: Any) -> list[str]:
    data = DataConfig(input=(str(log),), as_of="unused", **settings)
    return [file.location.parent.name for file in list_log(RunConfig(data=data), as_of)]


def test_partitions_from_as_of_on_are_left_out_where_they_are_event_time(log, capfd):
    missing, *dates = sorted(VALUES, key=lambda value: "_" not in value)
    assert listed(log, JANUARY_2) == [*dates, missing]
    assert listed(log, None, partition_time="dt") == [*dates, missing]
    assert listed(log, JANUARY_2, partition_time="dt") == [dates[0], missing]
    assert "2 files are left out: their partitions dt begin at" in capfd.readouterr().err
    assert listed(log, JANUARY_2 + 1, partition_time="dt") == [*dates[:2], missing]


@pytest.mark.parametrize(
    ("value", "is_kept"),
    [
        ("20260101", True),
        ("20260102", False),
        ("2026-01", True),
        ("202602", False),
        ("2025", True),
        ("2026-01-01-23", True),
        ("2026010123", True),
        ("2026-01-02T00", False),
        ("2026-01-01 23%3A59%3A59", True),
        ("2026-01-01T23%3A00%3A00-05%3A00", False),
    ],
)
def test_times_of_partitions_have_many_forms(tmp_path, value, is_kept):
    for name in (f"dt={value}", "dt=1999-01-01"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("x")
    found = listed(tmp_path, JANUARY_2, partition_time="dt")
    assert (f"dt={value}" in found) == is_kept
    assert "dt=1999-01-01" in found


def test_a_partition_of_local_days_begins_by_the_clock_of_the_log(log):
    in_berlin = JANUARY_2 - 3600 * 10**6
    found = listed(log, in_berlin, partition_time="dt", timezone="Europe/Berlin")
    assert found[0] == "dt=2026-01-01"
    assert "dt=2026-01-02" not in found
    assert "dt=2026-01-02" in listed(
        log, in_berlin + 1, partition_time="dt", timezone="Europe/Berlin"
    )


def test_a_partition_that_is_not_there_or_no_time_is_an_error(log):
    with pytest.raises(ConfigError, match=r"data\.partition_time=day: no file .*found dt$"):
        listed(log, JANUARY_2, partition_time="day")
    (log / "dt=soon").mkdir()
    (log / "dt=soon/a.csv").write_text("x")
    with pytest.raises(InputError, match=r"dt=soon \(data\.partition_time\) is no date or time"):
        listed(log, JANUARY_2, partition_time="dt")
