"""Files that change while they are read."""

import pytest

from lightsans.config import DataConfig, StorageConfig
from lightsans.errors import InputError
from lightsans.reading.units import plan_reading, read_unit
from lightsans.storage.listing import list_files
from tests.logs_on_disk import write_csv, write_jsonl, write_parquet


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.jsonl", "log.parquet"])
def test_a_file_replaced_between_two_units_is_an_error_that_names_it(tmp_path, name):
    old = [(f"u{number}", "old", 1_600_000_000 + number) for number in range(20)]
    new = [(user, "new", time) for user, _, time in old]
    write = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}[name.split(".")[1]]
    path = write(tmp_path / name, old)
    data = DataConfig(input=(str(path),), read_unit_bytes=300)
    plan = plan_reading(list_files(str(path), StorageConfig()), data)
    first = next(iter(read_unit(plan.units[0], data, "string", "string")))[1].table
    assert set(first["raw_item_id"].to_pylist()) == {"old"}
    (tmp_path / "next").mkdir()
    write(tmp_path / "next" / name, new).replace(path)
    with pytest.raises(InputError, match=rf"{name}: the file changed while it was being read"):
        list(read_unit(plan.units[-1], data, "string", "string"))


def test_a_file_truncated_while_it_is_read_is_an_error_that_names_it(tmp_path):
    rows = [(f"u{number}", "i", 1_600_000_000 + number) for number in range(20)]
    path = write_csv(tmp_path / "log.csv", rows)
    data = DataConfig(input=(str(path),), read_unit_bytes=100)
    plan = plan_reading(list_files(str(path), StorageConfig()), data)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(InputError, match=r"log\.csv: the file changed .* 150 bytes, etag \d+ now"):
        list(read_unit(plan.units[0], data, "string", "string"))
