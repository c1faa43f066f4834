import itertools

import numpy as np
import pyarrow as pa
import pytest

from lightsans.columns.arrow import number_distinct


@pytest.mark.parametrize("kind", ["text", "whole numbers", "a dictionary"])
@pytest.mark.parametrize("share_a_hash", [False, True])
def test_distinct_ids_are_numbered_within_each_stretch(kind, share_a_hash):
    """As a Python dict does it; texts that share a hash stay apart."""
    rng = np.random.default_rng(0)
    names = [f"ü{n}" if n % 3 else "" for n in rng.integers(0, 900, 3000)]
    ids = pa.array([number_of(name) if kind == "whole numbers" else name for name in names])
    if kind == "a dictionary":
        ids = ids.dictionary_encode()
    order, starts = rng.permutation(3000), np.array([0, 1000, 1000, 3000])
    hashes = np.zeros(3000, np.uint64) if share_a_hash else None
    numbers, found, found_starts = number_distinct(ids, order, starts, hashes)
    values = ids.to_pylist()
    expected: list[object] = []
    expected_starts = [0]
    for first, end in itertools.pairwise(starts):
        seen: dict[object, int] = {}
        stretch = [seen.setdefault(values[row], len(seen)) for row in order[first:end]]
        assert numbers[first:end].tolist() == stretch
        expected += seen
        expected_starts.append(len(expected))
    assert found.to_pylist() == expected
    assert found_starts.tolist() == expected_starts


def number_of(name: str) -> int:
    """A whole number of its own for each of the names."""
    return int(name[1:] or 0) - 450
