"""Parts that are gone or damaged are errors that name them, whoever reads them."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from lightsans.dataset.bucket_cursor import read_batches
from lightsans.dataset.loading import load_evaluated, load_trainable
from lightsans.errors import InputError
from lightsans.preparation.part_files import load_interactions
from lightsans.storage.location import Location
from tests.factories import local

READERS: dict[str, Callable[[Location], object]] = {
    "training": load_trainable,
    "evaluation": load_evaluated,
    "scoring": lambda part: list(read_batches(part, ["user_id"], 10)),
    "a later dataset": load_interactions,
}


@pytest.fixture
def part(tmp_path) -> Location:
    part = local(tmp_path) / "sequences" / "part-00001.parquet"
    part.write_table(pa.table({"user_id": [f"u{number}" for number in range(1000)]}))
    return part


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("length", [0, 3, 8, 100, -1])
def test_a_part_that_was_cut_off_is_named(part, reader, length):
    part.write_bytes(part.read_bytes()[:length])
    with pytest.raises(InputError, match=r"part-00001.parquet: not a readable .* damaged: make"):
        READERS[reader](part)


@pytest.mark.parametrize("reader", READERS)
def test_a_part_that_is_gone_is_named(part, reader):
    part.delete()
    with pytest.raises(InputError, match=r"part-00001.parquet: the file is gone; make"):
        READERS[reader](part)
