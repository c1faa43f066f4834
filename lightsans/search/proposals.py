"""Proposals of the next trial: grid, random, or Optuna's TPE.

A draw is a function of the seed and of the trials so far, and of nothing else. So an engine has no
state to save: a search that was interrupted draws what it would have drawn.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lightsans.config.kinds import ENGINES, Engine
from lightsans.errors import ConfigError
from lightsans.search.space import Dimension, SearchSpace, Values

Status = Literal["running", "finished", "stopped", "failed"]

STARTUP_TRIALS = 10
"""Random trials before Optuna's model of the space begins to count; its own default."""
MOST_ATTEMPTS = 1000


@dataclass(frozen=True, slots=True)
class Observation:
    """Values, status and learning curve of a trial."""

    values: Values
    status: Status
    curve: dict[int, float] = field(default_factory=dict)
    """Best valid metric up to each epoch."""


class Proposer:
    """Proposes valid combinations that were not tried yet.

    Raises:
        ConfigError: The engine is not installed, or the space does not suit it.
    """

    def __init__(self, space: SearchSpace, engine: Engine, seed: int) -> None:
        self._space, self._engine, self._seed = space, ENGINES[engine], seed
        self.combinations = space.combinations()
        if self._engine.lists_combinations and self.combinations is None:
            names = [d.name for d in space.dimensions if d.num_options is None]
            reason = (
                f"{', '.join(names)} may be any number" if names else f"{space.size:,} are many"
            )
            raise ConfigError(
                f"tune.engine=grid needs combinations that can be listed, and {reason}; use choice "
                "or quniform, or another engine"
            )
        if self._engine.learns:
            _import_optuna()

    def next(self, observed: Sequence[Observation]) -> Values | None:
        """The values of the next trial; None when every combination was tried."""
        tried = {self._space.key(observation.values) for observation in observed}
        if self.combinations is not None and len(tried) >= len(self.combinations):
            return None
        if self._engine.lists_combinations:
            return next(self._untried(range(len(self.combinations or ())), tried), None)
        if self._engine.learns:
            for attempt in range(MOST_ATTEMPTS // 50):
                seed = _mix(self._seed, len(observed), attempt)
                values = _draw_with_optuna(self._space, seed, observed)
                if self._space.key(values) not in tried and self._space.is_valid(values):
                    return values
        return self._draw_at_random(len(observed), tried)

    def _draw_at_random(self, number: int, tried: set[tuple[Any, ...]]) -> Values | None:
        if self.combinations is not None:
            order = np.random.default_rng(self._seed).permutation(len(self.combinations))
            return next(self._untried(order, tried), None)
        rng = np.random.default_rng(_mix(self._seed, number, 0))
        for _ in range(MOST_ATTEMPTS):
            values = {d.name: d.draw(rng) for d in self._space.dimensions}
            if self._space.key(values) not in tried and self._space.is_valid(values):
                return values
        self._space.configure(values)  # says what is wrong with the last one
        raise ConfigError(
            f"tune.space: none of {MOST_ATTEMPTS} draws was valid and new; widen the ranges"
        )

    def _untried(self, order: Any, tried: set[tuple[Any, ...]]) -> Any:
        assert self.combinations is not None
        for index in order:
            if self._space.key(self.combinations[index]) not in tried:
                yield dict(self.combinations[index])


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


# ---- Optuna --------------------------------------------------------------------------------------


def _import_optuna() -> Any:
    try:
        import optuna  # half a second to import, and an extra
    except ImportError:
        raise ConfigError(
            "tune.engine=optuna needs the package optuna: pip install 'lightsans[tune]', or set "
            "tune.engine=random"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def make_study(space: SearchSpace, observed: Sequence[Observation], seed: int = 0) -> Any:
    """An Optuna study in memory that holds these trials."""
    optuna = _import_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls the constant liar experimental
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states = optuna.trial.TrialState
    state_of = {
        "running": states.RUNNING,
        "finished": states.COMPLETE,
        "stopped": states.PRUNED,  # ranked below the finished, by how far they came
        "failed": states.FAIL,
    }
    distributions = _distributions(space)
    for observation in observed:
        curve = observation.curve
        is_scored = observation.status in ("finished", "stopped")
        study.add_trial(
            optuna.trial.create_trial(
                state=state_of[observation.status],
                value=max(curve.values()) if is_scored else None,
                params={
                    d.name: _to_optuna(d, observation.values[d.name]) for d in space.dimensions
                },
                distributions=distributions,
                intermediate_values=curve if is_scored else {},
            )
        )
    return study


def _draw_with_optuna(space: SearchSpace, seed: int, observed: Sequence[Observation]) -> Values:
    drawn = make_study(space, observed, seed).ask(_distributions(space)).params
    return {d.name: _from_optuna(d, drawn[d.name]) for d in space.dimensions}


def _distributions(space: SearchSpace) -> dict[str, Any]:
    return {dimension.name: _distribution(dimension) for dimension in space.dimensions}


def _distribution(dimension: Dimension) -> Any:
    distributions = _import_optuna().distributions
    if dimension.kind == "choice":
        return distributions.CategoricalDistribution(dimension.arguments)
    low, high = dimension.arguments[:2]
    if dimension.kind == "quniform":  # in steps
        step = dimension.arguments[2]
        return distributions.IntDistribution(round(low / step), round(high / step))
    return distributions.FloatDistribution(low, high, log=dimension.kind == "loguniform")


def _to_optuna(dimension: Dimension, value: Any) -> Any:
    return round(value / dimension.arguments[2]) if dimension.kind == "quniform" else value


def _from_optuna(dimension: Dimension, value: Any) -> Any:
    return dimension.multiple(value) if dimension.kind == "quniform" else value
