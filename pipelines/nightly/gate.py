"""Checks that a night's run must pass to be published: pure decisions on numbers.

Models are compared on the test items of the night's own dataset. The model's epoch was chosen on
valid, so valid would flatter it; and the published model, trained on an earlier log with its last
interactions held out, cannot have learnt from any user's last interaction of tonight. A refit holds
nothing out, so it is not compared with (`pipelines.nightly.comparison`).

Comparisons are decided by the 95 % interval of a paired difference (`lightsans.ranking.bootstrap`).
Chance moves a metric by some per cent from night to night: a bound on the value alone would refuse
good nights, and let models pass that are better by luck.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

from lightsans.config import NightlyConfig
from lightsans.ranking.bootstrap import Estimate
from pipelines.operations.checks import check_text
from pipelines.refit.checks import RefitFigures

Rule = Literal["at least", "at most", "low above", "low at most", "high at most"]
"""Figure that is held against the bound: the value, or an end of its interval."""


@dataclass(frozen=True, slots=True)
class Check:
    """One decision: what was measured, with its 95 % interval if it has one, and its bound."""

    name: str
    value: float
    bound: float
    setting: str
    """The setting that asks for it."""
    rule: Rule = "at least"
    low: float | None = None
    high: float | None = None

    @property
    def passed(self) -> bool:
        """False also for a value that is not a number."""
        if self.rule == "at least":
            return self.value >= self.bound
        if self.rule == "at most":
            return self.value <= self.bound
        assert self.low is not None
        assert self.high is not None
        if self.rule == "low above":
            return self.low > self.bound
        return (self.low if self.rule == "low at most" else self.high) <= self.bound

    def __str__(self) -> str:
        return check_text(asdict(self))


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of the model on the test items of the night's dataset."""

    metrics: Mapping[str, float]
    """Test metrics of the night's model."""
    intervals: Mapping[str, tuple[float, float]]
    """Their 95 % intervals."""
    leads: Mapping[str, Estimate]
    """Differences of ``nightly.metric`` by baseline: the model's minus the baseline's."""
    drop: Estimate | None = None
    """How far the metric lies below the published model's, as a share of it; None when there is
    nothing to compare."""


def check_data(config: NightlyConfig, users: int, published_users: int | None) -> list[Check]:
    """Check that the dataset is worth training on.

    Args:
        config: The bounds.
        users: Users of the night's dataset.
        published_users: Users of the published run's dataset; None when there is none.
    """
    checks = [Check("users", users, config.min_users, "nightly.min_users")]
    if published_users is not None and config.max_user_drop is not None:
        least = (1 - config.max_user_drop) * published_users
        name = f"users, against {published_users} in the published run's dataset,"
        checks.append(Check(name, users, least, "nightly.max_user_drop"))
    return checks


def check_age(config: NightlyConfig, newest: datetime | None, night: datetime) -> list[Check]:
    """Check that the log still arrives.

    Args:
        config: The bounds.
        newest: Time of the newest row before the night; None where there is none.
        night: Date of the night.
    """
    if config.max_age is None:
        return []
    age = math.inf if newest is None else (night - newest) / timedelta(days=1)
    name = f"age in days of the newest row, of {newest.isoformat() if newest else 'never'},"
    return [Check(name, age, config.max_age, "nightly.max_age", "at most")]


def check_scored(config: NightlyConfig, users: int, published_users: int | None) -> list[Check]:
    """Check that as many users got lists as in the published run.

    Args:
        config: The bounds.
        users: Users with lists in the night's run.
        published_users: Users of the published run; None when there is nothing to compare.
    """
    if published_users is None or config.max_user_drop is None:
        return []
    least = (1 - config.max_user_drop) * published_users
    name = f"scored users, against {published_users} in the published run,"
    return [Check(name, users, least, "nightly.max_user_drop")]


def check_quality(config: NightlyConfig, quality: Quality) -> list[Check]:
    """Check that the model is worth publishing.

    Args:
        config: The bounds.
        quality: Figures of the model.
    """
    metric = config.metric
    if not quality.metrics:  # nothing is known of the model, so nothing speaks for it
        return [Check("users who could be evaluated on test", 0, 1, "data.split")]
    checks = []
    for name, floor in config.floors.items():
        low, high = quality.intervals[name]
        value = quality.metrics[name]
        checks.append(Check(f"test {name}", value, floor, "nightly.floors", "at least", low, high))
    for baseline in config.beat_baselines:
        name = f"lead in test {metric} over the {baseline} baseline"
        lead = quality.leads[baseline]
        checks.append(_interval_check(name, lead, 0.0, "nightly.beat_baselines", "low above"))
    if quality.drop is not None and config.max_relative_drop is not None:
        name = f"relative drop of test {metric} below the published model"
        rule: Rule = "high at most" if config.gate == "strict" else "low at most"
        setting = "nightly.max_relative_drop"
        drop = _interval_check(name, quality.drop, config.max_relative_drop, setting, rule)
        checks.append(drop)
    return checks


def check_refit(config: NightlyConfig, figures: RefitFigures) -> list[Check]:
    """Check that the refit is a model like the one that was judged in its place.

    Args:
        config: The bounds.
        figures: Findings on the refit.
    """
    checks = [
        Check("weights of the refit that are not finite", figures.infinite_weights, 0,
              "nightly.refit", "at most")
    ]  # fmt: skip
    lists = figures.lists
    if lists is None or not lists.users:  # nothing that both models know
        return checks
    if config.min_refit_overlap is not None:
        name = f"overlap of the lists of the refit and the judged model, of {lists.users} users,"
        checks.append(
            Check(name, lists.overlap, config.min_refit_overlap, "nightly.min_refit_overlap")
        )
    if config.max_coverage_drop is not None:
        name = f"items in the lists of the refit, against {lists.items_before} of the judged model,"
        least = (1 - config.max_coverage_drop) * lists.items_before
        checks.append(Check(name, lists.items, least, "nightly.max_coverage_drop"))
    return checks


def _interval_check(name: str, found: Estimate, bound: float, setting: str, rule: Rule) -> Check:
    return Check(name, found.value, bound, setting, rule, found.low, found.high)
