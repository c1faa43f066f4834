import math
from datetime import UTC, datetime
from typing import get_args

import pytest

from lightsans.config import EvaluateConfig, NightlyConfig, RunConfig
from lightsans.errors import ConfigError
from lightsans.ranking.bootstrap import Estimate
from lightsans.reports.agreement import Agreement
from pipelines.nightly.gate import (
    Check,
    Quality,
    Rule,
    check_age,
    check_data,
    check_quality,
    check_refit,
)
from pipelines.refit.checks import RefitFigures

AHEAD = Estimate(0.03, 0.02, 0.04)


def quality(*, drop=None, popular=AHEAD, successor=AHEAD, recent=AHEAD, **metrics):
    values = {"ndcg@10": 0.1, "hit@10": 0.3, **metrics}
    return Quality(
        metrics=values,
        intervals={name: (value - 0.01, value + 0.01) for name, value in values.items()},
        leads={"popular": popular, "popular_recent": recent, "successor": successor},
        drop=drop,
    )


def failures(checks):
    return [str(check) for check in checks if not check.passed]


def test_a_model_ahead_of_both_baselines_and_near_the_published_one_passes():
    checks = check_quality(NightlyConfig(), quality(drop=Estimate(0.04, -0.01, 0.09)))
    assert len(checks) == 3
    assert failures(checks) == []


def test_a_drop_that_is_surely_beyond_the_bound_fails_and_says_the_numbers():
    config = NightlyConfig(max_relative_drop=0.1)
    assert failures(check_quality(config, quality(drop=Estimate(0.2, 0.11, 0.29)))) == [
        "relative drop of test ndcg@10 below the published model is 0.2 (95 % interval 0.11 to "
        "0.29), the lower end must be at most 0.1 (nightly.max_relative_drop)"
    ]


def test_a_drop_beyond_the_bound_that_may_be_chance_passes_unless_the_gate_is_strict():
    drop = Estimate(0.2, 0.05, 0.35)
    assert failures(check_quality(NightlyConfig(max_relative_drop=0.1), quality(drop=drop))) == []
    strict = NightlyConfig(max_relative_drop=0.1, gate="strict")
    assert failures(check_quality(strict, quality(drop=drop))) == [
        "relative drop of test ndcg@10 below the published model is 0.2 (95 % interval 0.05 to "
        "0.35), the upper end must be at most 0.1 (nightly.max_relative_drop)"
    ]
    small = Estimate(0.02, -0.05, 0.09)
    assert failures(check_quality(strict, quality(drop=small))) == []


@pytest.mark.parametrize("gate", ["lenient", "strict"])
def test_the_tolerance_is_inclusive_and_null_does_not_compare(gate):
    config = NightlyConfig(max_relative_drop=0.5, gate=gate)
    assert failures(check_quality(config, quality(drop=Estimate(0.5, 0.5, 0.5)))) == []
    assert len(failures(check_quality(config, quality(drop=Estimate(0.6, 0.51, 0.7))))) == 1
    config = NightlyConfig(max_relative_drop=None, gate=gate)
    assert failures(check_quality(config, quality(drop=Estimate(0.9, 0.8, 1.0)))) == []


def test_zero_tolerance_accepts_an_equal_model():
    config = NightlyConfig(max_relative_drop=0.0, gate="strict")
    assert failures(check_quality(config, quality(drop=Estimate(0, 0, 0)))) == []
    assert len(failures(check_quality(config, quality(drop=Estimate(0.001, 0, 0.002))))) == 1


def test_a_baseline_must_be_beaten_beyond_chance():
    for lead in (Estimate(0, 0, 0), Estimate(0.02, 0, 0.04), Estimate(0.02, -0.001, 0.041)):
        assert len(failures(check_quality(NightlyConfig(), quality(successor=lead)))) == 1
    assert failures(
        check_quality(NightlyConfig(), quality(successor=Estimate(0.02, -0.001, 0.041)))
    ) == [
        "lead in test ndcg@10 over the successor baseline is 0.02 (95 % interval -0.001 to "
        "0.041), the lower end must be above 0 (nightly.beat_baselines)"
    ]


def test_only_the_baselines_that_are_named_count():
    behind = Estimate(-0.3, -0.4, -0.2)
    config = NightlyConfig(beat_baselines=("popular",))
    assert failures(check_quality(config, quality(successor=behind, recent=behind))) == []
    config = NightlyConfig(beat_baselines=("popular_recent",))
    assert len(failures(check_quality(config, quality(recent=behind)))) == 1
    assert check_quality(NightlyConfig(beat_baselines=()), quality(popular=behind)) == []


def test_floors_hold_for_the_value_of_any_metric_whatever_is_published():
    config = NightlyConfig(floors={"ndcg@10": 0.1, "hit@10": 0.5})
    assert failures(check_quality(config, quality(**{"hit@10": 0.4}))) == [
        "test hit@10 is 0.4 (95 % interval 0.39 to 0.41), must be at least 0.5 (nightly.floors)"
    ]


@pytest.mark.parametrize("rule", get_args(Rule))
def test_what_is_not_a_number_never_passes(rule):
    assert not Check("x", math.nan, 0.0, "s", rule, math.nan, math.nan).passed
    assert not Check("x", 1.0, math.nan, "s", rule, 1.0, 1.0).passed


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


def test_a_baseline_of_the_gate_must_be_known_and_evaluated():
    with pytest.raises(ConfigError, match="expected some of popular, popular_recent, successor"):
        NightlyConfig(beat_baselines=("newest",))
    nightly = NightlyConfig(beat_baselines=("popular_recent",))
    assert RunConfig(nightly=nightly).evaluate.popular_days == 7
    with pytest.raises(
        ConfigError, match=r"names popular_recent, but evaluate\.popular_days is null"
    ):
        RunConfig(nightly=nightly, evaluate=EvaluateConfig(popular_days=None))


def test_a_model_that_nobody_could_be_evaluated_with_fails_whatever_is_asked_for():
    nobody = Quality(metrics={}, intervals={}, leads={})
    for settings in (
        {"floors": {"hit@10": 0.1}},
        {"beat_baselines": (), "max_relative_drop": None},
    ):
        assert failures(check_quality(NightlyConfig(**settings), nobody)) == [
            "users who could be evaluated on test is 0, must be at least 1 (data.split)"
        ]


def figures_of(lists):
    return RefitFigures(infinite_weights=0, lists=lists)


def test_a_refit_must_be_finite_and_recommend_like_the_judged_model():
    config = NightlyConfig(min_refit_overlap=0.4, max_coverage_drop=0.25)
    like = figures_of(Agreement(users=9, overlap=0.4, items=75, items_before=100))
    assert failures(check_refit(config, like)) == []
    assert len(check_refit(config, like)) == 3
    unlike = figures_of(Agreement(users=9, overlap=0.39, items=74, items_before=100))
    assert failures(check_refit(config, unlike)) == [
        "overlap of the lists of the refit and the judged model, of 9 users, is 0.39, must be at "
        "least 0.4 (nightly.min_refit_overlap)",
        "items in the lists of the refit, against 100 of the judged model, is 74, must be at least "
        "75 (nightly.max_coverage_drop)",
    ]
    anything = NightlyConfig(min_refit_overlap=None, max_coverage_drop=None)
    assert failures(check_refit(anything, unlike)) == []
    assert failures(check_refit(anything, RefitFigures(infinite_weights=3))) == [
        "weights of the refit that are not finite is 3, must be at most 0 (nightly.refit)"
    ]


def test_where_nobody_is_known_to_both_models_lists_are_not_compared():
    nobody = figures_of(Agreement(users=0, overlap=0.0, items=0, items_before=0))
    assert failures(check_refit(NightlyConfig(), nobody)) == []


def test_the_newest_row_may_not_be_older_than_asked_for():
    night = datetime(2025, 11, 5, tzinfo=UTC)
    newest = datetime(2025, 11, 3, 12, tzinfo=UTC)
    assert check_age(NightlyConfig(), None, night) == []
    assert failures(check_age(NightlyConfig(max_age=1.5), newest, night)) == []
    assert failures(check_age(NightlyConfig(max_age=1), newest, night)) == [
        "age in days of the newest row, of 2025-11-03T12:00:00+00:00, is 1.5, must be at most 1 "
        "(nightly.max_age)"
    ]
    assert len(failures(check_age(NightlyConfig(max_age=9), None, night))) == 1
