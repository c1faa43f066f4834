import pytest

from lightsans.config import DataConfig, StorageConfig
from lightsans.reading.units import ReadPlan, ReadUnit
from lightsans.storage.location import FileInfo, locate
from pipelines.preprocess.exchange import is_exchanged_by_tasks
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
    writers = choose_num_parts([file], DataConfig())
    source = Source(DataConfig(), [file], [])
    assert is_exchanged_by_tasks(plan, source, writers) == by_tasks
