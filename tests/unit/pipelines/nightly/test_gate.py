import math

import pytest

from lightsans.config import NightlyConfig
from pipelines.nightly.gate import Check, check_data, check_quality


def metrics(model, popular=0.05, successor=0.08, hit=0.3):
    return {
        "model": {"valid": {"ndcg@10": 9.0}, "test": {"ndcg@10": model, "hit@10": hit}},
        "popular": {"valid": {"ndcg@10": 9.0}, "test": {"ndcg@10": popular}},
        "successor": {"valid": {"ndcg@10": 9.0}, "test": {"ndcg@10": successor}},
    }


def failures(checks):
    return [str(check) for check in checks if not check.passed]


def test_a_model_above_both_baselines_and_near_the_published_one_passes():
    checks = check_quality(NightlyConfig(), metrics(0.100), metrics(0.105))
    assert len(checks) == 3
    assert failures(checks) == []  # 0.100 >= 0.95 * 0.105 = 0.09975


def test_worse_than_the_published_model_by_more_than_the_tolerance_fails_and_says_the_numbers():
    config = NightlyConfig(max_relative_drop=0.1)
    assert failures(check_quality(config, metrics(0.09), metrics(0.101))) == [
        "test ndcg@10, against 0.101 of the published model, is 0.09, must be at least 0.0909 "
        "(nightly.max_relative_drop)"
    ]


def test_the_tolerance_is_inclusive_and_null_does_not_compare():
    config = NightlyConfig(max_relative_drop=0.5)
    assert failures(check_quality(config, metrics(0.25), metrics(0.5))) == []
    config = NightlyConfig(max_relative_drop=None)
    assert failures(check_quality(config, metrics(0.09), metrics(0.9))) == []


def test_zero_tolerance_accepts_an_equal_model_and_no_worse_one():
    config = NightlyConfig(max_relative_drop=0.0)
    assert failures(check_quality(config, metrics(0.1), metrics(0.1))) == []
    assert len(failures(check_quality(config, metrics(0.0999), metrics(0.1)))) == 1


def test_a_baseline_must_be_beaten_not_met():
    assert failures(check_quality(NightlyConfig(), metrics(0.08, successor=0.08), None)) == [
        "test ndcg@10, against the successor baseline, is 0.08, must be above 0.08 "
        "(nightly.beat_baselines)"
    ]


def test_only_the_baselines_that_are_named_count():
    config = NightlyConfig(beat_baselines=("popular",))
    assert failures(check_quality(config, metrics(0.06, successor=0.5), None)) == []
    config = NightlyConfig(beat_baselines=())
    assert check_quality(config, metrics(0.0), None) == []


def test_floors_hold_for_any_metric_whatever_is_published():
    config = NightlyConfig(floors={"ndcg@10": 0.1, "hit@10": 0.5})
    assert failures(check_quality(config, metrics(0.1, hit=0.4), None)) == [
        "test hit@10 is 0.4, must be at least 0.5 (nightly.floors)"
    ]


def test_another_metric_can_decide():
    values = {name: {"test": {"hit@10": v}} for name, v in (("model", 0.4), ("popular", 0.5))}
    config = NightlyConfig(metric="hit@10", beat_baselines=("popular",))
    assert [check.passed for check in check_quality(config, values, values)] == [False, True]


@pytest.mark.parametrize("strict", [True, False])
def test_what_is_not_a_number_never_passes(strict):
    assert not Check("x", math.nan, 0.0, "s", strict).passed
    assert not Check("x", 1.0, math.nan, "s", strict).passed


def test_too_few_users_or_too_large_a_drop_of_users_fails():
    config = NightlyConfig(min_users=100, max_user_drop=0.25)
    assert failures(check_data(config, 150, 200)) == []
    assert failures(check_data(config, 149, 200)) == [
        "users, against 200 in the published run's dataset, is 149, must be at least 150 "
        "(nightly.max_user_drop)"
    ]
    assert failures(check_data(config, 99, None)) == [
        "users is 99, must be at least 100 (nightly.min_users)"
    ]


def test_without_a_published_run_or_with_null_users_are_not_compared():
    assert len(check_data(NightlyConfig(), 1, None)) == 1
    assert len(check_data(NightlyConfig(max_user_drop=None), 1, 1000)) == 1
