"""Parts that are gone, damaged or replaced are errors that name them, whoever reads them."""

import pickle
from collections.abc import Callable

import pyarrow as pa
import pytest

from lightsans.dataset.bucket_cursor import read_batches
from lightsans.dataset.loading import load_evaluated, load_trainable
from lightsans.errors import InputError, LightSANsError
from lightsans.preparation.part_files import load_interactions
from lightsans.storage.location import Location
from lightsans.storage.parts import SequencePart, sequence_parts
from lightsans.synthetic.directories import write_synthetic_dataset
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


def parts_of(directory, seed=0) -> list[SequencePart]:
    """Two parts of a dataset of 20 users."""
    dataset = local(directory)
    made = write_synthetic_dataset(dataset, 20, 9, history=3, num_parts=2, newcomers=0, seed=seed)
    return sequence_parts(dataset, made)


PART_READERS: dict[str, Callable[[Location], object]] = {
    **{name: reader for name, reader in READERS.items() if reader is not load_interactions},
    "one user": Location.read_table,
    "a process that it was sent to": lambda part: pickle.loads(pickle.dumps(part)).read_table(),
}


def test_a_part_of_a_dataset_that_is_gone_is_named(tmp_path):
    first, _ = parts_of(tmp_path)
    first.delete()
    with pytest.raises(InputError, match=r"part-00000\.parquet: the file is gone; make"):
        first.read_table()


@pytest.mark.parametrize("reader", PART_READERS)
@pytest.mark.parametrize("how", ["of another dataset", "of other users", "of fewer users"])
def test_a_part_that_was_replaced_is_named(tmp_path, reader, how):
    first, second = parts_of(tmp_path / "a")
    if how == "of another dataset":  # the same users, with as many interactions
        other = parts_of(tmp_path / "b", seed=1)[0].read_table()
    else:
        other = second.read_table() if how == "of other users" else first.read_table()[:-1]
    first.write_table(other)
    with pytest.raises(LightSANsError, match=r"part-00000\.parquet: another file than the dataset"):
        PART_READERS[reader](first)
    PART_READERS[reader](second)


def test_a_part_without_fingerprints_is_none_of_a_dataset(tmp_path):
    first, _ = parts_of(tmp_path)
    first.write_table(first.read_table().drop_columns(["fingerprint"]))
    with pytest.raises(InputError, match="another file than the dataset was made with"):
        first.read_table(["user_id"])
