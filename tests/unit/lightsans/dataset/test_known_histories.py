"""Fingerprints of histories, and the times beside them that a model is given."""

from dataclasses import replace

import numpy as np
import pytest

from lightsans.dataset.known_histories import KnownHistories, times_of
from lightsans.dataset.sequences import ItemTimes, UserSequences
from lightsans.errors import ConfigError
from tests.factories import sequences_of
from tests.models import small_model

TIMES = np.array([10, 20, 30, 40, 50])


def known(times: list[int] | None, seen: list[int]) -> KnownHistories:
    users = sequences_of([1, 2, 3])
    if times is not None:
        users = replace(users, times=ItemTimes(np.array(times)))
    return KnownHistories(users, sequences_of(seen))


def test_fingerprints_differ_with_the_times_that_a_model_reads():
    fingerprints = [
        int(known(times, seen).fingerprints[0])
        for times, seen in (
            (None, [5]), ([1, 2, 3], [5]), ([1, 2, 4], [5]), ([1, 2, 3], [6]), ([1, 2, 3], [5]),
        )
    ]  # fmt: skip
    assert len(set(fingerprints)) == 4
    assert fingerprints[1] == fingerprints[4]


def timed() -> UserSequences:
    users: UserSequences = sequences_of([1, 2, 3], [4, 5])
    return replace(users, times=ItemTimes(TIMES))


def test_a_model_is_given_the_times_that_it_reads():
    begin, lengths = np.array([1, 3]), np.array([2, 2])
    read = {
        gaps: times_of(small_model(9, gaps=gaps), timed(), begin, lengths, 45)
        for gaps in ("none", "input", "request")
    }
    assert read["none"] == []
    assert [each.tolist() for each in read["input"]] == [[[20, 30], [40, 50]]]
    # The second history goes on after the request.
    assert [each.tolist() for each in read["request"]] == [[[20, 30], [40, 50]], [45, 50]]


@pytest.mark.parametrize(("has_times", "missing"), [(False, "times of the items"), (True, "now")])
def test_what_is_missing_is_named(has_times, missing):
    users = timed() if has_times else replace(timed(), times=None)
    with pytest.raises(ConfigError, match=rf"\(model\.gaps, .*\) and was not given .*{missing}"):
        times_of(small_model(9, gaps="request"), users, np.array([0]), np.array([1]), None)
