"""A temperature fitted on valid, and what its probabilities are worth on test."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightsans import ConfigError, Recommender
from lightsans.config.score import SeenRule
from lightsans.recommendations.item_choice import read_item_choice
from lightsans.stages import calibration
from lightsans.stages.calibration import calibrate
from lightsans.synthetic.logs import generate_log

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "k_interests": 2,
    "model": {"max_seq_len": 10, "hidden_size": 16, "inner_size": 16, "n_layers": 1},
}


@pytest.fixture(scope="module")
def log():
    made = generate_log(150, 30, 2500, seed=1)
    names = [f"u{user}" for user in made.user_ids]
    return pa.table({"user_id": names, "item_id": made.item_ids, "timestamp": made.timestamps})


@pytest.fixture(scope="module")
def fitted(log):
    return Recommender(**SETTINGS, probability=True).fit(log)


def calibrated(fitted, **score):
    inside = fitted._require()
    config = replace(inside.config, score=replace(inside.config.score, **score))
    return calibrate(config, inside.model, read_item_choice(config))


def test_the_loss_on_valid_is_that_of_every_target_in_its_softmax(log, fitted):
    """Items before the target are taken away; users whose target is among them are left out."""
    found, maker = fitted.calibration, fitted._maker(10)
    losses, users = [], 0
    rows = log.to_pandas().sort_values("timestamp", kind="stable")
    for _, history in rows.groupby("user_id")["item_id"]:
        if len(history) < 3:
            continue
        users += 1
        items = maker.items.encode(pa.array(history.to_numpy())).tolist()
        before, target = items[:-2], items[-2]
        if target in before:
            continue
        ids, lengths = torch.tensor([before[-10:]]), torch.tensor([min(10, len(before))])
        with torch.no_grad():
            scores = maker._model.score_items(ids, lengths)[0].double() / found.temperature
        scores[[0, *before]] = -torch.inf
        losses.append(float(scores.logsumexp(0) - scores[target]))
    assert found.valid.users == len(losses)
    assert found.valid.share == pytest.approx(len(losses) / users)
    assert found.valid.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.valid.loss <= found.valid.loss_before
    assert found.temperature != 1.0


def test_reliability_counts_first_places_and_lists_of_test_users(fitted):
    found = fitted.calibration
    assert found.first.pairs == found.test.users
    # The lists are whole catalogues: all is promised, and every target is in one.
    assert found.listed.hits == found.test.users
    assert found.listed.expected_hits == pytest.approx(found.test.users, rel=1e-4)
    assert 0 < found.first.hits < found.test.users
    assert 0 <= found.first.calibration_error < 0.5


def test_what_may_be_recommended_decides_who_counts(fitted, tmp_path):
    everything = calibrated(fitted, remove_seen=False)
    assert everything.valid.share == 1
    lately = calibrated(fitted, remove_seen=SeenRule(days=1e-9))
    assert lately.valid == everything.valid
    allowed = tmp_path / "items.txt"
    allowed.write_text("1\n2\n3\n")
    few = calibrated(fitted, remove_seen=False, allow_items=str(allowed))
    assert few.valid.users < everything.valid.users
    assert few.listed.pairs == 3 * few.test.users


def test_a_sample_of_users_is_taken(fitted, monkeypatch):
    monkeypatch.setattr(calibration, "_FEWEST", 20)
    monkeypatch.setattr(calibration, "_SCORES", 0)
    assert calibrated(fitted, remove_seen=False).valid.users == 20


def test_losses_that_learn_no_softmax_have_no_probabilities(log):
    ranked = Recommender(**SETTINGS, loss_type="BPR", probability=True).fit(log)
    assert ranked.calibration.temperature is None
    assert "loss_type=BPR learns no softmax" in str(ranked.calibration.reason)
    assert ranked.recommend("u3", k=2)["probability"].to_pylist() == [None, None]


def test_without_held_out_items_there_is_nothing_to_go_by(log):
    every = Recommender(**SETTINGS, split="none", refit_epochs=1, probability=True).fit(log)
    with pytest.raises(ConfigError, match="probability needs held-out items"):
        every.recommend("u3")
