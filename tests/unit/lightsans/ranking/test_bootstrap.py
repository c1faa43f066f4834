import numpy as np
import pytest

from lightsans.ranking.bootstrap import (
    Estimate,
    estimate_differences,
    estimate_drops,
    estimate_means,
    resample,
    sum_groups,
)

GROUPS = 512


def grouped(values, generator, groups=None):
    """Sums of users who are spread over the groups at random, and their replicates."""
    if groups is None:
        groups = generator.integers(0, GROUPS, len(values))
    sums = sum_groups(groups, np.asarray(values, float)[:, None], GROUPS)
    return sums, resample(sums, replicates=300)


def test_sums_count_users_and_add_their_values():
    sums = sum_groups(np.array([1, 0, 1]), np.array([[0.5], [2.0], [1.0]]), 3)
    assert sums.tolist() == [[1, 2], [2, 1.5], [0, 0]]


def test_the_interval_of_a_mean_covers_the_truth_in_about_95_of_100_samples():
    """1,500 users in 512 groups: users of a group are drawn together, which costs no coverage."""
    generator, covered, widths = np.random.default_rng(0), 0, []
    for _ in range(120):
        [found] = estimate_means(*grouped(generator.random(1500) < 0.2, generator))
        covered += found.low <= 0.2 <= found.high
        widths.append(found.high - found.low)
    assert 0.89 <= covered / 120 <= 0.99
    expected = 2 * 1.96 * np.sqrt(0.2 * 0.8 / 1500)
    assert np.mean(widths) == pytest.approx(expected, rel=0.05)


def test_a_paired_difference_is_covered_and_narrower_than_two_means_apart():
    generator, covered, ratios = np.random.default_rng(1), 0, []
    for _ in range(120):
        groups = generator.integers(0, GROUPS, 1500)
        ease = generator.random(1500)  # of a user, for both scorers
        ours, theirs = (
            grouped(ease + 0.1 * generator.random(1500) < level, generator, groups)
            for level in (0.25, 0.20)
        )
        [found] = estimate_differences(ours, theirs)
        covered += found.low <= 0.05 <= found.high
        [one], [other] = estimate_means(*ours), estimate_means(*theirs)
        apart = np.hypot(one.high - one.low, other.high - other.low)
        ratios.append((found.high - found.low) / apart)
    assert 0.89 <= covered / 120 <= 0.99
    assert np.mean(ratios) < 0.6


def test_a_drop_is_relative_to_theirs():
    sums = np.tile([[4.0, 1.0, 2.0]], (GROUPS, 1))  # equal groups: no spread at all
    ours, theirs = sums[:, [0, 1]], sums[:, [0, 2]]
    pair = [(each, resample(each, replicates=50)) for each in (ours, theirs)]
    [drop] = estimate_drops(*pair)
    assert (drop.value, *drop.interval) == pytest.approx((0.5, 0.5, 0.5))
    [rise] = estimate_drops(*pair[::-1])
    assert rise.value == pytest.approx(-1.0)


def test_nothing_is_lost_where_there_was_nothing():
    sums = np.tile([[1.0, 0.0]], (GROUPS, 1))
    pair = (sums, resample(sums, replicates=50))
    assert estimate_drops(pair, pair) == [Estimate(0, 0, 0)]


def test_equal_seeds_draw_equal_weights_and_other_seeds_do_not():
    sums = np.random.default_rng(0).random((GROUPS, 2))
    first = resample(sums, replicates=300)
    np.testing.assert_array_equal(resample(sums, replicates=300), first)
    assert not np.allclose(resample(sums, replicates=300, seed=1), first)
    # What stands beside a column changes none of its weights.
    wider = np.concatenate([sums, sums], axis=1)
    np.testing.assert_allclose(resample(wider, replicates=300)[:, 2:], first)


def test_replicates_that_drew_nobody_are_left_out():
    sums = np.zeros((GROUPS, 2))
    sums[3] = [1, 0.5]  # one user: a third of the replicates draw no one
    assert estimate_means(sums, resample(sums)) == [Estimate(0.5, 0.5, 0.5)]


def test_no_users_have_no_spread():
    sums = np.zeros((GROUPS, 2))
    assert estimate_means(sums, resample(sums, replicates=10)) == [Estimate(0, 0, 0)]


def test_other_users_make_no_pairs():
    sums = np.ones((GROUPS, 2))
    other = sums.copy()
    other[0, 0] = 2
    with pytest.raises(ValueError, match="ranked different users"):
        estimate_differences(
            (sums, resample(sums, replicates=5)), (other, resample(other, replicates=5))
        )


def test_an_estimate_is_written_with_its_interval():
    assert f"{Estimate(0.05, -0.01, 0.1):+.2f}" == "+0.05 [-0.01, +0.10]"


def test_groups_without_users_leave_the_weights_of_the_others_as_they_are():
    """Two scorers are compared in pairs, also where users of one group were not ranked by both."""
    whole = np.random.default_rng(0).random((40, 3))
    early, late = whole.copy(), whole.copy()
    early[25:], late[:25] = 0, 0
    assert not np.allclose(resample(early), resample(late))
    np.testing.assert_allclose(resample(early) + resample(late), resample(whole))
    assert not resample(np.zeros((40, 3))).any()
