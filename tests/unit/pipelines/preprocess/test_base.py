"""Sequences of a base that a dataset made from it may take over."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.reading.rejects import RowCounts, describe_rejects
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


def test_refused_rows_of_new_files_are_told_by_places_in_these(tmp_path):
    before = RowCounts(read=9, rejected=Counter(item_missing=4), excluded_found={3})
    before.examples["item_missing"] = ["old:1", "old:2", "old:3"]
    base = Base(local(tmp_path), dataset_manifest(), Interactions(before, "string", "string", []))
    counts = base.counts_to_begin_with()
    new = RowCounts(read=5, valid=4, rejected=Counter(item_missing=1))
    new.examples["item_missing"] = ["new:7"]
    counts.add(new)
    assert (counts.read, counts.rejected["item_missing"], counts.excluded_found) == (14, 5, set())
    assert describe_rejects(base.own_counts(counts)) == "item_missing 1 (such as new:7)"
    assert before.examples["item_missing"] == ["old:1", "old:2", "old:3"]
