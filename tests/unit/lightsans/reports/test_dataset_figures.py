import numpy as np

from lightsans.reports.dataset_figures import (
    BIN_STARTS,
    PartReport,
    describe_dataset,
    describe_popularity,
    histogram,
    quantiles_of,
)
from lightsans.reports.plots import draw_dataset


def report(offsets, times, lengths):
    offsets, times, lengths = (np.array(column) for column in (offsets, times, lengths))
    rows = PartReport.of(offsets, times, exact_duplicates=1, time_range=(0, 199))
    return rows.with_sequences(lengths, num_trainable=len(lengths))


ONE = report([0, 3, 5], [10, 10, 50, 50, 50], [3, 2])
TWO = report([0, 1], [199], [1])


def test_a_small_part_by_hand():
    assert (ONE.rows, ONE.users, ONE.ties, ONE.tied_ends) == (5, 2, 2, 1)
    assert ONE.lengths[2] == ONE.lengths[3] == 1
    assert ONE.rows_at[5] == 2
    assert ONE.rows_at[25] == 3
    assert ONE.interactions == 5


def test_reports_of_parts_add_up_and_survive_storage():
    both = ONE + PartReport.from_dict(TWO.to_dict())
    assert (both.rows, both.users, both.ties, both.interactions) == (6, 3, 2, 6)
    assert both.exact_duplicates == 2
    assert both.rows_at.sum() == 6


def test_bins_hold_every_number_once():
    assert (np.diff(BIN_STARTS) > 0).all()
    values = np.array([0, 1, 10, 11, 12, 13, 999, 10**9])
    assert histogram(values).sum() == len(values)
    assert histogram(values)[:2].tolist() == [1, 1]


def test_quantiles_of_small_numbers_are_exact():
    counts = histogram(np.array([1] * 50 + [2] * 40 + [9] * 10))
    assert quantiles_of(counts) == {"0.1": 1, "0.5": 1, "0.9": 2, "0.99": 9}
    assert quantiles_of(np.zeros_like(counts)) == {}


def test_popularity_by_hand():
    found = describe_popularity(np.array([1, 97, 1, 1]))
    assert (found["most"], found["median"]) == (97, 1.0)
    assert found["top_1_percent_share"] == 0.97
    assert found["count_by_rank"][0] == {"rank": 1, "count": 97}
    assert abs(describe_popularity(np.full(5, 3))["gini"]) < 1e-12
    assert found["gini"] == 2 * (1 + 2 + 3 + 4 * 97) / (4 * 100) - 5 / 4


def test_a_report_is_drawn_as_three_pictures():
    both = describe_dataset(ONE + TWO, np.array([3, 2, 1, 0]), (0, 199), {"valid_from": 100})
    assert (both["items"], both["users"], both["density"]) == (3, 3, 6 / 9)
    assert both["time"]["to"] == "1970-01-01T00:00:00.000199+00:00"
    pictures = draw_dataset(both)
    assert set(pictures) == {"lengths.png", "popularity.png", "time.png"}
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())
