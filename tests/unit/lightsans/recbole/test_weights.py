"""The reference attention against numbers recorded from RecBole 1.2.1 (tests/golden)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightsans import ConfigError, LightSANs, ModelConfig
from lightsans.losses.objective import NextItemObjective
from lightsans.recbole.weights import from_recbole, to_recbole

GOLDEN = Path(__file__).parents[3] / "golden"
SETTINGS: dict[str, dict[str, Any]] = json.loads((GOLDEN / "recbole_lightsans.json").read_text())
CASES = sorted(SETTINGS)


def recorded(case: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / "recbole_lightsans.npz", allow_pickle=False) as arrays:
        own = [name for name in arrays.files if name.startswith(f"{case}/")]
        return {name.removeprefix(f"{case}/"): torch.from_numpy(arrays[name]) for name in own}


def weights(case: str) -> dict[str, Tensor]:
    prefix = "weights/"
    return {k.removeprefix(prefix): v for k, v in recorded(case).items() if k.startswith(prefix)}


@pytest.fixture(params=CASES)
def case(request) -> str:
    return str(request.param)


def test_vectors_and_scores_are_recboles(case):
    arrays = recorded(case)
    model = from_recbole(weights(case), **SETTINGS[case])
    history = arrays["item_seq"], arrays["item_seq_len"]
    for actual, expected in (
        (model.encode(*history), arrays["output"]),
        (model.score_items(*history), arrays["scores"]),
    ):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_ten_steps_of_training_lose_what_recbole_loses(case):
    """Adam with learning rate 0.001 on one batch, no dropout."""
    arrays = recorded(case)
    objective = NextItemObjective(from_recbole(weights(case), **SETTINGS[case]))
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.001)
    losses = []
    for _ in arrays["loss_curve"]:
        optimizer.zero_grad()
        total = objective(arrays["item_seq"], arrays["item_seq_len"], arrays["pos"], arrays["neg"])
        loss = total / len(arrays["pos"])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, arrays["loss_curve"].numpy(), rtol=0, atol=1e-5)


def test_weights_return_to_recbole_unchanged(case):
    exported = to_recbole(from_recbole(weights(case), **SETTINGS[case]))
    torch.testing.assert_close(exported, weights(case), rtol=0, atol=0)


def test_the_settings_become_the_configuration(case):
    settings = SETTINGS[case]
    model = from_recbole(weights(case), **settings)
    config = model.config
    assert not model.training
    assert model.num_items == settings["n_items"] - 1
    assert config.max_seq_len == settings["MAX_ITEM_LIST_LENGTH"]
    assert sum(p.numel() for p in model.parameters()) == settings["params"]
    for name in ("n_layers", "n_heads", "k_interests", "inner_size", "hidden_act", "loss_type"):
        assert getattr(config, name) == settings[name]


def test_sizes_are_read_from_the_weights_when_they_are_not_given():
    model = from_recbole(weights("bpr_tanh"))
    assert (model.config.n_layers, model.config.k_interests, model.config.n_heads) == (1, 10, 2)
    assert (model.config.hidden_act, model.config.hidden_dropout_prob) == ("gelu", 0.5)


def test_weights_that_are_not_recboles_are_refused():
    good = weights("bpr_tanh")
    with pytest.raises(ConfigError, match=r"item_embedding\.weight' is missing"):
        from_recbole({"embedding": torch.zeros(3)})
    with pytest.raises(ConfigError, match=r"unknown \['head\.weight'\]"):
        from_recbole(good | {"head.weight": torch.zeros(3)})
    with pytest.raises(ConfigError, match=r"missing \['LayerNorm\.bias'\]"):
        from_recbole({name: w for name, w in good.items() if name != "LayerNorm.bias"})
    with pytest.raises(ConfigError, match=r"n_items=102 contradicts the weights, which have 101"):
        from_recbole(good, n_items=102)


def test_only_reference_models_are_exported():
    with pytest.raises(ConfigError, match=r"attention='causal' gives other scores in RecBole"):
        to_recbole(LightSANs(ModelConfig(attention="causal"), 5))
