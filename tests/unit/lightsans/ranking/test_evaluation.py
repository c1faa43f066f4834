import pytest
import torch

from lightsans.dataset.held_out import hold_out
from lightsans.ranking.evaluation import SCORES_BUDGET, from_histories, rank_held_out
from tests.factories import sequences_of

NUM_ITEMS = 6
# Targets on test: 3 after [1, 2], 5 after [4, 1, 6].
USERS = sequences_of([1, 2, 3], [4, 1, 6, 5])


def by_item_id(item_ids, lengths):
    """Higher ids score higher: the rank of item i is NUM_ITEMS + 1 - i."""
    return torch.arange(NUM_ITEMS + 1, dtype=torch.float32).repeat(len(lengths), 1)


def rank(scorer, **settings):
    chosen = {"ks": (1, 2, 3, 10), "num_items": NUM_ITEMS, **settings}
    return rank_held_out(from_histories(scorer, 2), hold_out(USERS, "test"), **chosen).metrics()


def test_ranks_are_those_of_the_targets():
    metrics = rank(by_item_id)  # target 3 ranks 4th, target 5 ranks 2nd
    assert metrics["hit@1"] == 0
    assert metrics["hit@2"] == 0.5
    assert metrics["mrr@10"] == pytest.approx((1 / 4 + 1 / 2) / 2)


def test_removed_seen_items_no_longer_rank_ahead():
    metrics = rank(by_item_id, remove_seen=True)  # 6 was seen by the second user
    assert metrics["hit@1"] == 0.5
    assert metrics["mrr@10"] == pytest.approx((1 / 4 + 1) / 2)


def test_a_constant_scorer_hits_nothing():
    metrics = rank(lambda ids, lengths: torch.zeros(len(lengths), NUM_ITEMS + 1), ks=(5,))
    assert metrics["hit@5"] == 0


def test_the_scorer_sees_the_newest_items_before_the_target():
    seen = {}

    def remember(item_ids, lengths):
        for row, length in zip(item_ids, lengths, strict=True):
            seen[tuple(row[:length].tolist())] = True
        return by_item_id(item_ids, lengths)

    rank(remember)
    assert set(seen) == {(1, 2), (1, 6)}


def test_neither_batches_nor_the_memory_budget_change_a_metric(monkeypatch):
    whole = rank(by_item_id)
    assert rank(by_item_id, batch_size=1) == whole
    monkeypatch.setattr("lightsans.ranking.evaluation.SCORES_BUDGET", 1)
    assert rank(by_item_id) == whole
    assert SCORES_BUDGET > 1


def test_a_target_the_model_does_not_know_is_a_miss():
    held_out = hold_out(USERS, "test")
    held_out.target_ids[:] = 0
    scorer = from_histories(by_item_id, 2)
    totals = rank_held_out(scorer, held_out, ks=(10,), num_items=NUM_ITEMS)
    assert totals.users == 2
    assert totals.metrics()["hit@10"] == 0
