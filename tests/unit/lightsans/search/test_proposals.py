"""Engines: every combination once, the same draws after an interruption, better than chance."""

import math
import random
from dataclasses import replace

import pytest

from lightsans.config import RunConfig
from lightsans.errors import ConfigError
from lightsans.search.proposals import STARTUP_TRIALS, Observation, Proposer
from lightsans.search.space import build_space

FINITE = {"k_interests": [5, 10, 15], "n_heads": [1, 2, 3], "learning_rate": [0.01, 0.001]}
ENDLESS = {
    "learning_rate": {"loguniform": [1e-5, 1e-1]},
    "hidden_dropout_prob": {"uniform": [0, 0.9]},
}


def space_of(raw):
    return build_space(raw, RunConfig(), "tune.space")


def quality(values):
    """Best at a learning rate of 1e-3 and little dropout."""
    rate = values.get("train.learning_rate", 1e-3)
    dropout = values.get("model.hidden_dropout_prob", 0)
    return math.exp(-((math.log10(rate) + 3) ** 2)) * (1 - dropout)


def search(proposer, trials):
    """A search without concurrency: every trial ends before the next is drawn."""
    observed: list[Observation] = []
    for _ in range(trials):
        values = proposer.next(observed)
        if values is None:
            break
        observed.append(Observation(values, "finished", {1: quality(values)}))
    return observed


def search_at_once(proposer, trials, at_once, seed=0):
    """Values of a search in which some trials run at a time and end in any order."""
    generator, running = random.Random(seed), set[int]()
    observed: list[Observation] = []
    while len(observed) < trials or running:
        while len(running) < at_once and len(observed) < trials:
            values = proposer.next(observed)
            if values is None:
                trials = len(observed)
                break
            running.add(len(observed))
            observed.append(Observation(values, "running", {1: quality(values)}))
        if running:
            ended = generator.choice(sorted(running))
            running.remove(ended)
            observed[ended] = replace(observed[ended], status="finished")
    return [observation.values for observation in observed]


@pytest.mark.parametrize(
    ("engine", "raw"), [("grid", FINITE), ("random", FINITE), ("random", ENDLESS)]
)
def test_how_many_run_at_once_changes_no_draw_of_grid_and_random(engine, raw):
    proposer = Proposer(space_of(raw), engine, seed=3)
    alone = search_at_once(proposer, 15, at_once=1)
    for at_once in (2, 5, 15):
        assert search_at_once(proposer, 15, at_once, seed=at_once) == alone


def test_optuna_draws_ten_whatever_runs_at_once_and_then_by_what_has_ended():
    proposer = Proposer(space_of(ENDLESS), "optuna", seed=3)
    alone, together = (search_at_once(proposer, 12, at_once) for at_once in (1, 8))
    assert alone == search_at_once(proposer, 12, at_once=1, seed=7)
    assert together[:STARTUP_TRIALS] == alone[:STARTUP_TRIALS]
    assert together != alone  # so the setting is not marked as one without effect


@pytest.mark.parametrize("engine", ["grid", "random", "optuna"])
def test_every_valid_combination_is_tried_once_and_then_it_ends(engine):
    space = space_of(FINITE)
    observed = search(Proposer(space, engine, seed=1), 100)
    keys = [space.key(o.values) for o in observed]
    assert len(keys) == len(set(keys)) == 12  # three heads do not divide 64
    assert all(heads != 3 for _, heads, _ in keys)


def test_grid_goes_in_the_order_of_the_file():
    space = space_of({"k_interests": [5, 10], "n_heads": [1, 2]})
    keys = [space.key(o.values) for o in search(Proposer(space, "grid", seed=1), 9)]
    assert keys == [(5, 1), (5, 2), (10, 1), (10, 2)]


@pytest.mark.parametrize("engine", ["random", "optuna"])
@pytest.mark.parametrize("raw", [FINITE, ENDLESS], ids=["finite", "endless"])
def test_a_new_process_goes_on_drawing_what_the_old_one_would_have(engine, raw):
    space = space_of(raw)
    whole = search(Proposer(space, engine, seed=3), 12)
    for known in (1, 5, 11):
        drawn = Proposer(space, engine, seed=3).next(whole[:known])
        assert drawn == whole[known].values


def test_seeds_draw_differently():
    space = space_of(ENDLESS)
    first = {seed: Proposer(space, "random", seed).next([]) for seed in (1, 2)}
    assert first[1] != first[2]


def test_optuna_learns_where_good_trials_are():
    space = space_of(ENDLESS)
    late = {
        engine: [quality(o.values) for o in search(Proposer(space, engine, seed=0), 40)[-15:]]
        for engine in ("optuna", "random")
    }
    assert sum(late["optuna"]) > 1.5 * sum(late["random"])


def test_failed_stopped_and_running_trials_are_no_bad_scores():
    """A failed trial must not scare the engine away from where it was."""
    space = space_of(ENDLESS)
    scored = search(Proposer(space, "optuna", seed=0), 12)
    best = max(scored, key=lambda o: o.curve[1])
    failed = Observation({**best.values, "model.hidden_dropout_prob": 0.0}, "failed")
    running = Observation({**best.values, "model.hidden_dropout_prob": 0.01}, "running")
    stopped = Observation({**best.values, "model.hidden_dropout_prob": 0.8}, "stopped", {1: 0.01})
    drawn = Proposer(space, "optuna", seed=0).next([*scored, failed, running, stopped])
    assert drawn is not None
    assert space.is_valid(drawn)


def test_a_grid_over_a_range_is_refused():
    with pytest.raises(ConfigError, match=r"engine=grid needs combinations .*learning_rate"):
        Proposer(space_of(ENDLESS), "grid", seed=0)
