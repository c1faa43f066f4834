"""Settings of the search for hyper-parameters."""

from dataclasses import dataclass

from lightsans.config.checks import at_least, require
from lightsans.config.kinds import Engine, Scheduler
from lightsans.config.marks import Mark, made_setting, setting

Space = dict[str, dict[str, list[int | float | str | bool | None]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneConfig:
    """Search for hyper-parameters; ``train.valid_metric`` is its objective."""

    space: Space = made_setting(dict, Mark.RESOLVED)
    """Setting to its values: {choice: [..]}, {uniform: [low, high]}, {loguniform: [low, high]}
    or {quniform: [low, high, step]}. ``tune --space FILE`` fills it in."""
    engine: Engine = setting("optuna", Mark.CONTENT)
    """optuna: its TPE sampler, which learns from finished trials; grid: every combination."""
    scheduler: Scheduler = setting("asha", Mark.CONTENT)
    """Early stopping of poor trials, by their valid metric after each epoch."""
    grace_epochs: int = setting(2, Mark.CONTENT)
    """Epochs that every trial gets; the first rung of asha."""
    reduction_factor: int = setting(3, Mark.CONTENT)
    """asha: the best 1/reduction_factor of the trials go on from a rung to one this many times as
    far."""
    max_trials: int | None = setting(None, Mark.BUDGET)
    """Trials of the whole search; null: all combinations, where they can be counted."""
    max_minutes: float | None = setting(None, Mark.BUDGET)
    """Time of the whole search, interruptions not counted; null: no limit."""
    target: float | None = setting(None, Mark.BUDGET)
    """The search ends once a trial reaches this valid metric."""
    num_workers: int = setting(1, Mark.NO_EFFECT)
    """Processes that train a trial together; takes the place of train.num_workers."""
    max_concurrent: int | None = setting(None, Mark.NO_EFFECT)
    """Trials at a time; null: as many as the cluster has room for."""
    seed: int = setting(2020, Mark.CONTENT)
    """Seed of the draws; train.seed is that of the trials."""

    def __post_init__(self) -> None:
        at_least("tune", self, 1, "grace_epochs", "max_trials", "num_workers", "max_concurrent")
        at_least("tune", self, 2, "reduction_factor")
        at_least("tune", self, 0, "seed")
        require(
            self.max_minutes is None or self.max_minutes > 0,
            f"tune.max_minutes={self.max_minutes} must be positive; null sets no limit",
        )
