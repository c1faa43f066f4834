"""Work of a pool done by one task, and what Ray says about pools."""

import os
import signal
from typing import Any

import pyarrow as pa
import pytest
import ray

from lightsans.errors import InputError
from pipelines.console.raw_lines import spend_warning_on_arguments
from pipelines.session.ray_session import original_errors
from pipelines.session.tasks import run_in_one_task


class Holder:
    """Holds what it was made with."""

    def __init__(self, held):
        self._held = held

    def read(self):
        return self._held[0]


class Half:
    """Halves numbers; its first process dies at the second of them."""

    def __init__(self, directory):
        self._directory = directory

    def __call__(self, row):
        number = row["number"][0].as_py()
        if number % 2:
            raise InputError(f"{number} is odd")
        with (self._directory / "calls").open("a") as calls:
            calls.write(f"{number} ")
        if number == 4 and not (self._directory / "died").exists():
            (self._directory / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return pa.table({"half": [number // 2]})


def halves(directory, *numbers):
    return run_in_one_task(Half, [directory], [{"number": number} for number in numbers])


def test_ray_says_nothing_between_our_lines_about_actors_with_arguments(ray_cluster, capfd):
    """First in this file: Ray warns once a process, and then this would prove nothing."""
    spend_warning_on_arguments()
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Holder)
    holder = actor.remote(ray.put([5]))
    assert ray.get(holder.read.remote()) == 5
    assert "core_worker.cc" not in capfd.readouterr().err


def test_a_process_that_dies_is_replaced_and_each_row_comes_once(ray_cluster, tmp_path):
    assert [row["half"] for row in halves(tmp_path, 2, 4, 6)] == [1, 2, 3]
    assert (tmp_path / "calls").read_text() == "2 4 2 4 6 "


def test_rows_come_before_an_error_and_the_error_is_our_own(ray_cluster, tmp_path):
    found = halves(tmp_path, 2, 3)
    assert next(found)["half"] == 1
    with pytest.raises(InputError, match="3 is odd"), original_errors():
        next(found)
