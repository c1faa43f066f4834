"""Tasks beside each other, of an exchange or over parts: what fails leaves none running."""

import pickle
import time
from contextlib import closing

import pyarrow as pa
import pytest

from lightsans.errors import InputError
from lightsans.preparation.packing import PACKED_SCHEMA, PART
from lightsans.reading.units import ReadUnit
from pipelines.preprocess.exchange import exchange_by_tasks
from pipelines.session.ray_session import original_errors
from pipelines.session.tasks import remote, run_tasks
from tests.commands import wait_until

pytestmark = pytest.mark.usefixtures("ray_cluster")

UNITS = [ReadUnit(number, ()) for number in range(2)]
LONG_S = 120


def rows_for_two(_):
    """Rows for either of two writers."""
    columns = [pa.array([0, 1], pa.int32()), [0, 0], pa.array([b"", b""], pa.large_binary())]
    yield pa.table(columns, schema=PACKED_SCHEMA)


def wait_long(directory, name):
    """Note that a task has begun, and how it ended before its time."""
    (directory / f"{name}-began").touch()
    try:
        for _ in range(LONG_S * 10):
            time.sleep(0.1)
    except BaseException:
        (directory / f"{name}-cancelled").touch()
        raise


def fail_once_the_other_works(directory, name):
    while not (directory / f"{name}-began").exists():
        time.sleep(0.05)
    raise InputError("b.csv is damaged")


def test_the_first_file_that_is_damaged_is_told_while_others_are_read(tmp_path):
    def read(batch):
        if pickle.loads(batch["unit"][0].as_py()).index == 0:
            wait_long(tmp_path, "reader")
        fail_once_the_other_works(tmp_path, "reader")
        yield PACKED_SCHEMA.empty_table()

    begun = time.monotonic()
    with pytest.raises(InputError, match="damaged"), original_errors():
        list(exchange_by_tasks(UNITS, read, lambda packed: packed, 2, 1.0))
    assert time.monotonic() - begun < LONG_S / 2
    assert wait_until((tmp_path / "reader-cancelled").exists, timeout_s=60)


def test_a_part_that_cannot_be_written_ends_those_that_write(tmp_path):
    def write(packed):
        if packed[PART][0].as_py() == 0:
            wait_long(tmp_path, "writer")
        fail_once_the_other_works(tmp_path, "writer")

    with pytest.raises(InputError, match="damaged"), original_errors():
        list(exchange_by_tasks(UNITS, rows_for_two, write, 2, 1.0))
    assert wait_until((tmp_path / "writer-cancelled").exists, timeout_s=60)


def test_who_asks_for_no_more_ends_those_that_write(tmp_path):
    """As Ctrl-C does."""

    def write(packed):
        if packed[PART][0].as_py() == 0:
            wait_long(tmp_path, "writer")
        while not (tmp_path / "writer-began").exists():
            time.sleep(0.05)
        return packed

    with closing(exchange_by_tasks(UNITS, rows_for_two, write, 2, 1.0)) as tables:
        assert next(tables)[PART].to_pylist() == [1, 1]
    assert wait_until((tmp_path / "writer-cancelled").exists, timeout_s=60)


def test_a_part_on_which_a_task_fails_ends_the_tasks_on_others(tmp_path):
    def work(part):
        if part == "first":
            wait_long(tmp_path, part)
        fail_once_the_other_works(tmp_path, "first")

    with pytest.raises(InputError, match="damaged"):
        list(run_tasks(remote(work).remote, ["first", "second"], "parts"))
    assert wait_until((tmp_path / "first-cancelled").exists, timeout_s=60)
