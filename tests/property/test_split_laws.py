"""Laws of temporal splits and limits: slow Python agrees, and the future changes nothing."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import assume, given
from hypothesis import strategies as st

from lightsans.config import DataConfig
from lightsans.preparation.derive import SequenceLimits, derive_sequences
from lightsans.preparation.selection import select_rows
from lightsans.preparation.temporal import Cutoffs
from tests import strategies
from tests.factories import k_core_of, sorted_part, vocabulary_of_counts

CUTOFFS = Cutoffs(valid_from=3, test_from=5)
LATE = Cutoffs(valid_from=4, test_from=6)
"""Cut-offs that leave k-core more of a log."""
LOGS = strategies.logs()


def derive(log, data, cutoffs=None, limits=None):
    """Vocabulary and rows of ``sequences/`` by user; None when k-core leaves nothing."""
    rows = select_rows(sorted_part(log), data, None, cutoffs)
    least = data.min_user_interactions
    counts = k_core_of([rows], least, data.min_item_interactions)
    if not counts:
        return None
    vocabulary = vocabulary_of_counts(counts)
    derived = derive_sequences(rows, vocabulary, least, limits, cutoffs).to_pylist()
    return vocabulary, {row["user_id"]: row for row in derived}


@given(LOGS, LOGS, strategies.FILTERS, strategies.SEQUENCE_LIMITS)
def test_what_comes_after_the_cutoff_changes_nothing_of_training(log, other, data, limits):
    """Replace the future by another one: vocabulary, counts, training items and users stay."""
    past = [row for row in log if row[2] < LATE.valid_from]
    assume(past)
    future = [row for row in other if row[2] >= LATE.valid_from]
    made = derive(past, data, LATE, limits)
    assume(made is not None)
    for rows in (log, past + future):
        vocabulary, users = derive(rows, data, LATE, limits)
        assert vocabulary.table() == made[0].table()
        for user, row in made[1].items():
            length = row["train_length"]
            assert users[user]["train_length"] == length
            assert users[user]["item_ids"][:length] == row["item_ids"]
            assert users[user]["trainable"] == row["trainable"]


@given(LOGS, st.sampled_from([None, 1, 2]))
def test_targets_are_the_first_of_their_period(log, keep_last):
    made = derive(log, DataConfig(), CUTOFFS, SequenceLimits(keep_last, None))
    assume(made is not None)
    vocabulary, users = made
    ids = {raw: number for number, raw in enumerate(vocabulary.raw_item_ids.to_pylist(), 1)}
    assert set(ids) == {row[1] for row in log if row[2] < 3}
    for user, row in users.items():
        own = sorted((r for r in log if r[0] == user), key=lambda r: r[2])
        valid = [ids.get(r[1], 0) for r in own if 3 <= r[2] < 5]
        test = [ids.get(r[1], 0) for r in own if r[2] >= 5]
        assert row["valid_target"] == (valid[0] if valid else -1)
        assert row["test_target"] == (test[0] if test else -1)
        train = sum(r[2] < 3 for r in own)
        between = sum(3 <= r[2] < 5 and r[1] in ids for r in own)
        kept = [
            length if keep_last is None else min(length, keep_last) for length in (train, between)
        ]
        assert row["train_length"] == kept[0]
        assert row["test_length"] == sum(kept)
        assert row["trainable"] == (row["train_length"] > 0)


@given(LOGS, strategies.FILTERS, st.integers(1, 4), st.integers(0, 6))
def test_limits_shorten_sequences_and_nothing_else(log, data, keep_last, keep_since):
    whole = derive(log, data)
    assume(whole is not None)
    kept = derive(log, data, limits=SequenceLimits(keep_last, keep_since))
    assert kept[0].table() == whole[0].table()
    for user, row in kept[1].items():
        full = whole[1][user]
        pairs = list(zip(full["item_ids"], full["timestamps"], strict=True))
        expected = [pair for pair in pairs if pair[1] >= keep_since][-keep_last:]
        assert list(zip(row["item_ids"], row["timestamps"], strict=True)) == expected
        assert row["trainable"] == (full["trainable"] and bool(expected))
        everything = set(full["item_ids"]) | set(full["also_seen"])
        assert set(row["item_ids"]) | set(row["also_seen"]) == everything
        assert not set(row["item_ids"]) & set(row["also_seen"])


@given(LOGS, LOGS)
def test_an_extended_vocabulary_keeps_numbers_and_marks_the_dead(log, more):
    old, new = (Counter(row[1] for row in rows) for rows in (log, more))
    base = vocabulary_of_counts(old)
    extended = base.extended(pa.array(list(new)), np.array(list(new.values())))
    assert extended.extends(base)
    raw = extended.raw_item_ids.to_pylist()
    assert dict(zip(raw, extended.counts.tolist(), strict=True)) == {
        **dict.fromkeys(old, 0), **new
    }  # fmt: skip
    living = extended.encode_living(extended.raw_item_ids)
    assert living.tolist() == [i if item in new else 0 for i, item in enumerate(raw, 1)]
