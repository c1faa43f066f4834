import numpy as np
import pytest
import torch
from torch import nn

from lightsans.config import ModelConfig, TrainConfig
from lightsans.errors import ConfigError
from lightsans.model.network import LightSANs
from lightsans.training.batches import Batch
from lightsans.training.optimizer import (
    clip_gradients,
    learning_rate,
    make_optimizer,
    moving_average,
    split_batch,
)


def test_weight_decay_leaves_out_biases_norms_and_embeddings():
    model = LightSANs(ModelConfig(), 5)
    decayed, plain = make_optimizer(model, TrainConfig(weight_decay=0.1)).groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    kinds = {names[id(p)].rsplit(".", 1)[-1] for p in decayed.params}
    assert kinds == {"weight", "key_theta", "value_theta"}
    assert not any("norm" in names[id(p)] or "embedding" in names[id(p)] for p in decayed.params)
    assert {"item_embedding.weight", "position_embedding.weight"} <= {
        names[id(p)] for p in plain.params
    }
    assert (decayed.weight_decay, plain.weight_decay) == (0.1, 0.0)
    assert len(decayed.params) + len(plain.params) == len(names)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("adam", 1.0 - 0.1), ("adamw", 1.0 - 0.1 * 0.5)],
)
def test_adamw_shrinks_weights_and_adam_adds_decay_to_gradients(kind, expected):
    """With a gradient of zero, Adam's first step is the sign of the decay, AdamW's is the decay."""
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    optimizer = make_optimizer(
        module, TrainConfig(optimizer=kind, weight_decay=0.5, learning_rate=0.1)
    )
    module.weight.grad = torch.zeros(1, 1)
    optimizer.step()
    assert module.weight.item() == pytest.approx(expected, rel=1e-6)


def test_the_learning_rate_warms_up_and_falls_to_zero_with_the_last_epoch():
    train = TrainConfig(learning_rate=2.0, warmup_epochs=2, schedule="cosine", epochs=6)
    rates = [learning_rate(train, position) for position in (0.5, 1, 2, 4, 6)]
    assert rates == pytest.approx([0.5, 1.0, 2.0, 1.0, 0.0], abs=1e-9)
    constant = TrainConfig(learning_rate=2.0, warmup_epochs=1, epochs=6)
    assert [learning_rate(constant, p) for p in (0.25, 1, 6)] == [0.5, 2.0, 2.0]


def test_a_warm_up_longer_than_training_is_refused():
    with pytest.raises(ConfigError, match=r"train\.warmup_epochs=5"):
        TrainConfig(warmup_epochs=5, epochs=5)


def test_clipping_bounds_the_global_norm_and_gives_the_norm_before():
    gradients = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    assert clip_gradients(gradients, None).item() == pytest.approx(5.0)
    assert clip_gradients(gradients, 1.0).item() == pytest.approx(5.0)
    assert [g.item() for g in gradients] == pytest.approx([0.6, 0.8], rel=1e-5)
    assert clip_gradients(gradients, 2.0).item() == pytest.approx(1.0, rel=1e-5)
    assert gradients[0].item() == pytest.approx(0.6, rel=1e-5)


def test_micro_batches_are_the_rows_of_the_batch_and_padding():
    batch = Batch(
        np.array([[1, 2], [3, 0]], np.int32), np.array([2, 1]), np.array([5, 6], np.int32), None
    )
    pieces = split_batch(batch, 3)
    assert [piece.item_ids.tolist() for piece in pieces] == [[[1, 2]], [[3, 0]], [[0, 0]]]
    assert [piece.lengths.tolist() for piece in pieces] == [[2], [1], [0]]
    assert [piece.target_ids.tolist() for piece in pieces] == [[5], [6], [0]]


def test_the_average_of_weights_follows_its_formula_and_leaves_the_model_alone():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    average = moving_average(model, decay=0.25)
    for value in (2.0, 4.0, -1.0):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
    # (1 + n) / (10 + n) is 2/11, then 3/12, then more than the decay
    first = 2 / 11 * 1.0 + 9 / 11 * 2.0
    second = 0.25 * first + 0.75 * 4.0
    third = 0.25 * second + 0.75 * -1.0
    torch.testing.assert_close(average.module.weight.data, torch.tensor([[third]]))
    assert model.weight.item() == -1.0
