"""Checkpoint files against one that RecBole 1.2.1 wrote (tests/golden/record_recbole_tiny.py)."""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lightsans import ConfigError, InputError
from lightsans.recbole.checkpoint_file import read_checkpoint
from lightsans.recbole.weights import from_recbole, recbole_settings, to_recbole

GOLDEN = Path(__file__).parents[3] / "golden"
CHECKPOINT = GOLDEN / "recbole_tiny.pth"


@pytest.fixture(scope="module")
def recorded():
    with np.load(GOLDEN / "recbole_tiny.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def archive(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickled)
    return buffer.getvalue()


def test_a_checkpoint_of_recbole_scores_like_the_original(recorded):
    checkpoint = read_checkpoint(CHECKPOINT.read_bytes(), "tiny.pth")
    assert checkpoint.epoch == 0
    assert checkpoint.settings["hidden_dropout_prob"] == 0.2
    model = from_recbole(checkpoint.state_dict, **checkpoint.settings)
    scores = model.score_items(
        torch.from_numpy(recorded["item_ids"]), torch.from_numpy(recorded["lengths"])
    )
    np.testing.assert_allclose(scores, recorded["scores"], rtol=0, atol=1e-5)


def test_what_is_exported_is_read_back_by_torch_without_unpickling_objects():
    checkpoint = read_checkpoint(CHECKPOINT.read_bytes(), "tiny.pth")
    model = from_recbole(checkpoint.state_dict, **checkpoint.settings)
    buffer = io.BytesIO()
    torch.save({"state_dict": to_recbole(model), "config": recbole_settings(model)}, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    torch.testing.assert_close(loaded["state_dict"], checkpoint.state_dict, rtol=0, atol=0)
    for name, value in loaded["config"].items():
        assert checkpoint.settings.get(name, value) == value, name
    assert read_checkpoint(buffer.getvalue(), "x").state_dict.keys() == checkpoint.state_dict.keys()


class _Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_that_a_file_names_is_run(tmp_path):
    content = archive(pickle.dumps({"state_dict": {}, "config": _Hostile(tmp_path / "harm")}))
    with pytest.raises(InputError, match="holds no weights"):
        read_checkpoint(content, "bad.pth")
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(_Hostile(tmp_path / "harm")))  # it does work where objects are made
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a PyTorch file"),
        (b"\x80\x02not a zip", "cannot be read as a PyTorch file"),
        (archive(b"\x80\x04broken"), "cannot be read as a PyTorch file"),
        (archive(pickle.dumps([1, 2])), "holds no weights; expected a dict with 'state_dict'"),
        (archive(pickle.dumps({"epoch": 3})), r"holds no weights.*found dict \['epoch'\]"),
    ],
)
def test_files_without_weights_are_refused(content, message):
    with pytest.raises(InputError, match=rf"bad\.pth: {message}"):
        read_checkpoint(content, "bad.pth")


def test_weights_of_every_layout_are_read_back():
    base = torch.arange(12.0).view(3, 4)
    weights = {
        "view": base[1:, ::2],
        "half": base.half(),
        "long": torch.tensor([2**40]),
        "none": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(base.t()),
    }
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    read = read_checkpoint(buffer.getvalue(), "x").state_dict
    for name, tensor in weights.items():
        torch.testing.assert_close(read[name], tensor.detach(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden_act", "foo", "one of gelu, relu, swish, tanh, sigmoid"),
        ("hidden_act", ["gelu"], "one of gelu"),
        ("loss_type", 1, "one of CE, BPR"),
        ("n_heads", "2", "a whole number"),
        ("n_heads", 2.0, "a whole number"),
        ("n_heads", True, "a whole number"),
        ("hidden_dropout_prob", "half", "a number"),
        ("layer_norm_eps", None, "a number"),
    ],
)
def test_a_setting_of_a_checkpoint_that_is_of_no_use_is_named(name, value, expected):
    checkpoint = read_checkpoint(CHECKPOINT.read_bytes(), "tiny.pth")
    settings = {**checkpoint.settings, name: value}
    message = rf"RecBole's {name}={re.escape(repr(value))} is not supported; expected {expected}"
    with pytest.raises(ConfigError, match=message):
        from_recbole(checkpoint.state_dict, **settings)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("item_embedding.weight", (29,), "expected two dimensions"),
        ("position_embedding.weight", (), "expected two dimensions"),
        ("trm_encoder.layer.0.multi_head_attention.attpooling_key.theta", (8,), "two dimensions"),
        ("trm_encoder.layer.0.feed_forward.dense_1.weight", (2, 2, 2), "two dimensions"),
        ("LayerNorm.weight", (3,), r"expected \(8,\) by the other weights"),
        ("trm_encoder.layer.0.feed_forward.dense_2.weight", (1, 1), "by the other weights"),
    ],
)
def test_a_weight_of_a_wrong_shape_is_named(name, shape, expected):
    checkpoint = read_checkpoint(CHECKPOINT.read_bytes(), "tiny.pth")
    weights = {**checkpoint.state_dict, name: torch.zeros(shape)}
    with pytest.raises(ConfigError, match=f"{re.escape(name)} has shape .*{expected}"):
        from_recbole(weights)


def test_a_layer_without_a_number_is_unknown():
    checkpoint = read_checkpoint(CHECKPOINT.read_bytes(), "tiny.pth")
    weights = {**checkpoint.state_dict, "trm_encoder.layer.x.weight": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"unknown \['trm_encoder\.layer\.x\.weight'\]"):
        from_recbole(weights)
