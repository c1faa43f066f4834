"""The stage around a search: its id, and the run that its winner becomes."""

from dataclasses import replace
from typing import Any

from lightsans.config.file import load_config
from lightsans.search.space import build_space
from pipelines.tune.stage import search_id, shortened
from tests.searches import make_search


def test_a_base_with_other_settings_is_another_search(tmp_path):
    space = make_search(tmp_path).space
    base = space.base

    def id_with(**changes: Any) -> str:
        changed = replace(base, tune=replace(base.tune, **changes))
        return search_id(replace(space, base=changed), "dataset")

    assert id_with(max_trials=3, max_minutes=1.0, target=0.5, max_concurrent=1) == id_with()
    assert id_with(seed=1) != id_with()
    assert id_with(scheduler="none") != id_with()
    other = build_space({"k_interests": [1, 2]}, base, "tune.space")
    assert search_id(other, "dataset") != id_with()
    assert search_id(space, "another") != id_with()


def test_a_winner_that_was_ended_early_is_a_run_of_fewer_epochs():
    config = load_config(None, ["train.epochs=9", "train.warmup_epochs=2"]).config
    shorter = shortened(config, 3)
    assert shorter is not None
    assert shorter.train == replace(config.train, epochs=3)


def test_a_winner_that_was_ended_within_its_warm_up_needs_all_its_epochs():
    """`warmup_epochs` must be less than `epochs`: no shorter run is a valid configuration."""
    config = load_config(None, ["train.epochs=9", "train.warmup_epochs=2"]).config
    assert shortened(config, 2) is None
    assert shortened(config, 1) is None
    cosine = load_config(None, ["train.epochs=9", "train.schedule=cosine"]).config
    assert shortened(cosine, 3) is None
