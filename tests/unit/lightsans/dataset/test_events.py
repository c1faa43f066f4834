"""Targets of logs with events: what was just viewed, refits, pieces that are put together."""

import numpy as np
import pytest

from lightsans.config import EventConfig
from lightsans.dataset.events import HOUR
from lightsans.dataset.held_out import hold_out, translate
from lightsans.dataset.loading import load_timed, load_trainable
from lightsans.dataset.samples import cut_windows, distinct_targets
from lightsans.dataset.sequences import UserSequences, for_refit
from lightsans.ranking.evaluation import rank_targets
from tests.event_logs import SHOP, Row, event_data, items_of, write_part

VIEWED = [
    Row("a", 1, 0, "view"),
    Row("a", 1, 10, "purchase"),
    Row("a", 2, 20, "view"),
    Row("a", 2, 20 + HOUR, "purchase"),
    Row("a", 3, 30 + HOUR, "view"),
    Row("a", 3, 31 + 2 * HOUR, "purchase"),
]


def test_a_target_is_viewed_if_it_was_within_the_hour_before(tmp_path):
    users = load_trainable(write_part(tmp_path / "a", VIEWED, event_data(SHOP)))
    valid, test = hold_out(users, "valid"), hold_out(users, "test")
    assert valid.target_ids.tolist() == [2]
    assert test.target_ids.tolist() == [3]
    assert valid.is_viewed is not None
    assert test.is_viewed is not None
    assert (valid.is_viewed.tolist(), test.is_viewed.tolist()) == ([True], [False])
    assert test.times is not None
    assert test.times.tolist() == [31 + 2 * HOUR]


def test_only_seen_items_leave_the_ranking_of_a_target(tmp_path):
    """Items 1 and 2 were bought, 3 was viewed only; another vocabulary changes nothing."""
    held_out = hold_out(
        load_trainable(write_part(tmp_path / "a", VIEWED, event_data(SHOP))), "test"
    )
    mapping = np.array([0, 4, 0, 1], np.int32)  # item 2 is unknown there

    def scores(batch):
        import torch

        return torch.ones(len(batch.lengths), 6)

    ranked = rank_targets(scores, held_out, num_items=5, remove_seen=True)
    assert ranked.candidates.tolist() == [3]
    other = translate(held_out, mapping)
    assert items_of(other.item_ids) == [4, 4, 1]
    ranked = rank_targets(scores, other, num_items=5, remove_seen=True)
    assert (ranked.candidates.tolist(), other.target_ids.tolist()) == ([4], [1])


def test_a_refit_learns_all_targets(tmp_path):
    users = load_trainable(write_part(tmp_path / "a", VIEWED, event_data(SHOP)))
    assert distinct_targets(users) == 1
    everything = for_refit(users)
    assert distinct_targets(everything) == 3
    assert len(hold_out(everything, "test").lengths) == 0


def test_users_of_several_parts_are_put_together(tmp_path):
    more = [row._replace(user="b") for row in VIEWED[:4]]
    parts = [
        load_trainable(write_part(tmp_path / name, rows, event_data(SHOP)))
        for name, rows in (("a", VIEWED), ("b", more))
    ]
    both = UserSequences.concatenate(parts)
    whole = load_trainable(write_part(tmp_path / "c", [*VIEWED, *more], event_data(SHOP)))
    assert both.targets is not None
    assert whole.targets is not None
    by_user = np.argsort(np.diff(whole.offsets), kind="stable")[::-1]  # parts go by bucket
    assert both.lengths.tolist() == whole.lengths[by_user].tolist() == [6, 4]
    assert both.targets.train_counts.tolist() == whole.targets.train_counts[by_user].tolist()
    assert both.targets.weights.tolist() == [2.0] * 5
    assert distinct_targets(both) == distinct_targets(whole) == 1


@pytest.mark.parametrize("where", ["before", "behind"])
def test_what_is_only_seen_is_no_input_and_no_target(tmp_path, where):
    like = Row("a", 3, 0 if where == "before" else 2 * HOUR, "like")
    rows = [like, *VIEWED[:2]]
    timed = load_timed(write_part(tmp_path / "a", rows, event_data(SHOP)), None, None)
    assert timed.sequences.item_ids.tolist() == [1, 1]
    assert timed.sequences.targets is not None
    assert timed.sequences.targets.item_ids.tolist() == [1]


def test_dedupe_keeps_the_view_and_the_purchase_of_an_item(tmp_path):
    rows = [*VIEWED[:2], Row("a", 1, 11, "view"), Row("a", 1, 12, "purchase")]
    first = write_part(tmp_path / "a", rows, event_data(SHOP, dedupe="first"))
    assert load_timed(first, None, None).timestamps.tolist() == [0, 10]
    last = write_part(tmp_path / "b", rows, event_data(SHOP, dedupe="last"))
    assert load_timed(last, None, None).timestamps.tolist() == [11, 12]


def test_a_target_that_is_no_input_may_follow_the_same_input_as_another(tmp_path):
    events = {"view": EventConfig(input=True), "purchase": EventConfig(target=True)}
    rows = [Row("a", 1, 0, "view"), Row("a", 2, 1, "purchase"), Row("a", 3, 2, "purchase")]
    users = load_trainable(write_part(tmp_path / "a", rows, event_data(events)))
    assert users.targets is not None
    assert users.targets.positions.tolist() == [1, 1]
    assert hold_out(users, "test").lengths.tolist() == [1]


def test_a_window_has_no_target_of_the_user_before(tmp_path):
    """The last target of each user stands behind all inputs, where the next user's begin."""
    events = {"view": EventConfig(input=True), "purchase": EventConfig(target=True)}
    rows = [
        Row(user, item, item, "view" if item % 2 else "purchase")
        for user, first in (("a", 1), ("b", 11), ("c", 21))
        for item in (first, first + 1)
    ]
    users = load_trainable(write_part(tmp_path / "a", rows, event_data(events)))
    assert users.targets is not None
    windows = cut_windows(users, 3, 1, np.ones(3, np.int64))
    assert windows.first_targets is not None
    assert windows.num_targets is not None
    assert windows.num_targets.tolist() == [1, 1, 1]
    inputs = users.item_ids[windows.starts]
    assert users.targets.item_ids[windows.first_targets].tolist() == (inputs + 1).tolist()
