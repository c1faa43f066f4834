import numpy as np

from lightsans.ranking.baselines import TransitionCounts, popular_scores, successor_scores
from tests.factories import sequences_of

# Training part: [1, 2, 1, 2], [3, 2], [2, 4] (the last two of the first user are held out).
USERS = sequences_of([1, 2, 1, 2, 9, 9], [3, 2], [2, 4])


def split_counts() -> TransitionCounts:
    first = sequences_of([1, 2, 1, 2, 9, 9])
    rest = sequences_of([3, 2], [2, 4])
    return TransitionCounts.count(first, 9) + TransitionCounts.count(rest, 9)


def test_only_training_interactions_are_counted():
    counts = TransitionCounts.count(USERS, 9)
    assert counts.popularity.tolist() == [0, 2, 4, 1, 1, 0, 0, 0, 0, 0]
    pairs = dict(zip(counts.pairs.tolist(), counts.pair_counts.tolist(), strict=True))
    assert pairs == {12: 2, 21: 1, 32: 1, 24: 1}  # item * 10 + next


def test_parts_counted_apart_add_up_and_survive_storage():
    whole, merged = TransitionCounts.count(USERS, 9), split_counts()
    merged = TransitionCounts.from_bytes(merged.to_bytes())
    assert merged.num_items == 9
    for name in ("popularity", "pairs", "pair_counts"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))


def test_popularity_ignores_the_history():
    scores = popular_scores(split_counts(), np.array([[1], [4]], np.int32), np.array([1, 1]))
    assert scores.tolist() == [[0, 2, 4, 1, 1, 0, 0, 0, 0, 0]] * 2


def test_successors_rank_by_count_then_by_popularity():
    scores = successor_scores(
        split_counts(), np.array([[3, 2], [9, 0]], np.int32), np.array([2, 1])
    )
    # After 2 came 1 and 4 once each; 1 is more popular. The rest by popularity.
    assert (-scores[0]).argsort(kind="stable").tolist()[:4] == [1, 4, 2, 3]
    # Nothing ever followed 9: popularity alone.
    assert (-scores[1]).argsort(kind="stable").tolist()[:2] == [2, 1]
