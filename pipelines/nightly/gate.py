"""Checks that a night's run must pass to be published: pure decisions on numbers.

Models are compared on the test items of the night's own dataset. The model's epoch was chosen on
valid, so valid would flatter it; and the published model, trained on an earlier log with its last
interactions held out, cannot have learnt from any user's last interaction of tonight. A refit holds
nothing out, so it is not compared with (`pipelines.nightly.comparison`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lightsans.config import NightlyConfig

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metrics by scorer, split and name: ``metrics["model"]["test"]["ndcg@10"]``."""


@dataclass(frozen=True, slots=True)
class Check:
    """One decision: what was measured and what it had to reach."""

    name: str
    value: float
    bound: float
    setting: str
    """The setting that asks for it."""
    strict: bool = False
    """The value must be above the bound; equal is not enough."""

    @property
    def passed(self) -> bool:
        """False also for a value that is not a number."""
        return self.value > self.bound if self.strict else self.value >= self.bound

    def __str__(self) -> str:
        needed = "must be above" if self.strict else "must be at least"
        return f"{self.name} is {self.value:.6g}, {needed} {self.bound:.6g} ({self.setting})"


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


def check_scored(config: NightlyConfig, users: int, published_users: int | None) -> list[Check]:
    """Did as many users get lists as in the published run?

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


def check_quality(
    config: NightlyConfig, metrics: Metrics, published: Metrics | None
) -> list[Check]:
    """Check that the model is worth publishing.

    Args:
        config: The bounds.
        metrics: The night's model and the baselines on the night's dataset.
        published: The published model on the same dataset; None when there is nothing to compare.
    """
    own = metrics["model"]["test"]
    metric = config.metric
    checks = [
        Check(f"test {name}", own[name], floor, "nightly.floors")
        for name, floor in config.floors.items()
    ]
    for baseline in config.beat_baselines:
        bound = metrics[baseline]["test"][metric]
        name = f"test {metric}, against the {baseline} baseline,"
        checks.append(Check(name, own[metric], bound, "nightly.beat_baselines", strict=True))
    if published is not None and config.max_relative_drop is not None:
        there = published["model"]["test"][metric]
        bound = (1 - config.max_relative_drop) * there
        name = f"test {metric}, against {there:.6g} of the published model,"
        checks.append(Check(name, own[metric], bound, "nightly.max_relative_drop"))
    return checks
