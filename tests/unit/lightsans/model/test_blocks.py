import pytest
import torch
from torch import nn
from torch.nn import functional

from lightsans.model.blocks import PointwiseGate, ResidualGate, make_norm
from tests.models import small_config, small_model


def test_rms_norm_divides_by_the_root_of_the_mean_square_alone():
    norm = make_norm(small_config(hidden_size=4, norm="rms", n_heads=1))
    x = torch.tensor([[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 4.0]])
    expected = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 2.0]])
    torch.testing.assert_close(norm(x), expected)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]


def test_a_residual_gate_lets_through_a_share_by_the_input():
    gate = ResidualGate(small_config(hidden_size=2, n_heads=1))
    with torch.no_grad():
        gate.map.weight.copy_(100 * torch.eye(2))
        gate.map.bias.zero_()
    branch, x = torch.tensor([[5.0, 7.0]]), torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(gate(branch, x), torch.tensor([[5.0, 0.0]]))
    torch.testing.assert_close(gate(branch, 0 * x), branch / 2)


def test_a_pointwise_gate_normalises_what_was_read_and_multiplies_it():
    gate = PointwiseGate(small_config(hidden_size=2, n_heads=1))
    with torch.no_grad():
        gate.map.weight.copy_(torch.eye(2))
        gate.map.bias.zero_()
    read = gate(torch.tensor([[10.0, 30.0]]), torch.tensor([[50.0, 60.0]]))
    torch.testing.assert_close(read, torch.tensor([[-50.0, 60.0]]))


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_pointwise_gate_normalises_in_float32_under_autocast(norm):
    """With a warning as an error: PyTorch gives one where a norm is handed another precision."""
    gate = PointwiseGate(small_config(hidden_size=2, n_heads=1, norm=norm))
    context, x = torch.tensor([[10.0, 30.0]]).bfloat16(), torch.tensor([[50.0, 60.0]])
    with torch.autocast("cpu", torch.bfloat16):
        read = gate(context, x)
        rounded = functional.silu(gate.map(x))
    torch.testing.assert_close(read, gate.norm(context.float()) * rounded)


def test_with_norms_first_the_last_layer_is_followed_by_a_norm_of_its_own():
    """Without it the length of a user's vector would grow with the number of layers."""
    model = small_model(6, norm_placement="pre", n_layers=3, initializer_range=2.0).eval()
    vectors = model.encode(torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1]))
    torch.testing.assert_close(vectors.mean(dim=1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors.square().mean(dim=1), torch.ones(2))


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_new_models_begin_with_norms_that_scale_by_one(norm):
    model = small_model(6, norm=norm, norm_placement="pre", gate="pointwise")
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm | nn.RMSNorm)]
    assert len(norms) == 2 + 2 * 4
    for module in norms:
        module.weight.data.fill_(5.0)
    model.reset_parameters()
    assert all(bool((module.weight == 1).all()) for module in norms)
