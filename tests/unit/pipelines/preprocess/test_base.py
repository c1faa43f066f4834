"""Sequences of a base that a dataset made from it may take over."""

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.reading.rejects import RowCounts
from lightsans.storage.manifest_kinds import DatasetPart
from pipelines.preprocess.base import Base, find_unchanged
from pipelines.preprocess.records import Interactions, PartNote
from tests.factories import local
from tests.manifests import dataset_manifest

PART = DatasetPart(
    name="part-00000.parquet",
    rows=4,
    users=2,
    trainable=2,
    interactions=4,
    fingerprint="f",
    buckets=(0, 4096),
)


def vocabulary(counts, listed=None):
    ids = pa.array([f"i{n}" for n in range(len(counts))])
    is_listed = None if listed is None else np.array(listed, bool)
    return Vocabulary(ids, np.array(counts), is_listed=is_listed)


def changed_items(tmp_path, before, after):
    interactions = Interactions(RowCounts(), "string", "string", [])
    base = Base(local(tmp_path), dataset_manifest(parts=(PART,)), interactions)
    note = PartNote(0, 1, 4, 0, 1, is_linked=True)
    found = find_unchanged(base, [note], DataConfig(), before, after)
    assert found is not None
    return found.changed_items.to_pylist()


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (([3, 2],), ([9, 2],), []),
        (([3, 2],), ([3, 0],), ["i1"]),
        (([3, 0],), ([3, 1],), ["i1"]),
        (([3, 2],), ([3, 2, 1],), ["i2"]),
        # An item that counts 0 is seen by who met it while the table of features has it.
        (([3, 0], [1, 0]), ([3, 0], [1, 1]), ["i1"]),
        (([3, 0],), ([3, 0], [0, 1]), ["i1"]),
        (([3, 0], [1, 1]), ([3, 0], [1, 1]), []),
        (([3, 2], [1, 1]), ([3, 2], [0, 0]), []),
    ],
)
def test_parts_with_items_that_are_known_or_seen_otherwise_now_are_derived_anew(
    tmp_path, before, after, changed
):
    assert changed_items(tmp_path, vocabulary(*before), vocabulary(*after)) == changed
