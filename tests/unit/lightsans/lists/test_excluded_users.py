"""Users whom a dataset has left out are known by hashes of their ids, whatever their type."""

import numpy as np
import pyarrow as pa
import pytest

from lightsans.lists.excluded_users import ExcludedIds
from lightsans.lists.id_lists import id_list_of
from tests.factories import local


@pytest.mark.parametrize(
    ("user_type", "ids", "known"),
    [("string", ["ann", "007"], ["007", "ann"]), ("int64", [7, 42], [7])],
)
def test_a_list_is_compared_with_those_who_were_left_out(tmp_path, user_type, ids, known):
    dataset = local(tmp_path / "dataset")
    ExcludedIds.none().with_users(pa.array(ids)).with_users(None).save(dataset)
    listed = id_list_of("a list", dataset, pa.array(["ann", "007", "zoe"]))
    found = ExcludedIds.of(dataset).known(listed, user_type)
    assert sorted(found.to_pylist()) == known
    assert b"ann" not in (dataset / "excluded.parquet").read_bytes()
    more = ExcludedIds.of(dataset).with_users(pa.array(["zoe"]))
    assert len(more.hashes) == len(ids) + 1
    assert (np.diff(more.hashes.astype(object)) > 0).all()


def test_a_dataset_that_left_out_nobody_has_no_file(tmp_path):
    dataset = local(tmp_path / "dataset")
    ExcludedIds.none().save(dataset)
    assert not (dataset / "excluded.parquet").exists()
    assert len(ExcludedIds.of(dataset).hashes) == 0
