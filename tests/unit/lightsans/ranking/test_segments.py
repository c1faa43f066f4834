import numpy as np

from lightsans.ranking.segments import (
    by_history_length,
    by_newcomers,
    by_target,
    popularity_tenths,
    sum_segments,
)


def labels(segmentation):
    return [segmentation.labels[code] for code in segmentation.codes]


def test_tenths_go_by_popularity_from_the_top():
    popularity = np.array([0, *range(1, 21)])
    tenths = popularity_tenths(popularity)
    assert tenths[0] == 0
    assert tenths[[20, 19, 18, 1]].tolist() == [1, 1, 2, 10]
    assert popularity_tenths(np.array([0, 5])).tolist() == [0, 1]


def test_users_are_told_apart_by_what_came_before_the_target_and_by_the_target():
    assert labels(by_history_length(np.array([1, 4, 5, 19, 20, 49, 50]))) == [
        "1-4 items", "1-4 items", "5-9 items", "10-19 items", "20-49 items", "20-49 items",
        "50 items or more",
    ]  # fmt: skip
    assert labels(by_newcomers(np.array([True, False]))) == ["newcomer", "trained on"]
    assert labels(by_target(np.array([0, 1, 2, 5, 6, 10], np.int32))) == [
        "unknown", "head", "middle", "middle", "tail", "tail",
    ]  # fmt: skip


def test_sums_are_those_of_each_label_and_group():
    segmentation = by_newcomers(np.array([True, False, True]))
    sums = sum_segments(segmentation, np.array([1, 0, 1]), np.array([[0.5], [1.0], [0.25]]), 2)
    assert sums[0].tolist() == [[1, 1.0], [0, 0]]  # trained on
    assert sums[1].tolist() == [[0, 0], [2, 0.75]]  # newcomers
