"""The moving average of weights."""

import torch
from torch import nn

from lightsans.weight_average import WeightAverage


def model_with(value: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_the_average_follows_its_formula():
    model = model_with(1.0)
    average = WeightAverage(model, decay=0.25)
    for value in (2.0, 4.0, -1.0):
        nn.init.constant_(model.weight, value)
        average.update()
    # (1 + n) / (10 + n) is 2/11, then 3/12, then more than the decay
    first = 2 / 11 * 1.0 + 9 / 11 * 2.0
    second = 0.25 * first + 0.75 * 4.0
    third = 0.25 * second + 0.75 * -1.0
    torch.testing.assert_close(average.weights()["weight"], torch.tensor([[third]]))


def test_the_model_has_the_average_inside_the_block_only():
    model = model_with(1.0)
    average = WeightAverage(model, decay=0.5)
    nn.init.constant_(model.weight, 3.0)
    average.update()
    with average.in_model():
        assert torch.equal(model.weight, average.weights()["weight"])
        assert model.weight.item() != 3.0
    assert model.weight.item() == 3.0
    nn.init.constant_(model.weight, 7.0)
    assert average.weights()["weight"].item() < 3.0  # it is no view of the model


def test_a_restored_average_goes_on_with_the_same_bits():
    model = model_with(0.1)
    average = WeightAverage(model, decay=0.9)
    for value in (0.2, 0.7):
        nn.init.constant_(model.weight, value)
        average.update()
    saved = {name: tensor.clone() for name, tensor in average.weights().items()}
    state = {name: tensor.clone() for name, tensor in average.state().items()}
    other = model_with(5.0)
    restored = WeightAverage(other, decay=0.9)
    restored.restore(saved, state)
    assert torch.equal(other.weight, model.weight)
    for one, kept in ((model, average), (other, restored)):
        nn.init.constant_(one.weight, -0.3)
        kept.update()
    assert torch.equal(restored.weights()["weight"], average.weights()["weight"])
