import math

import pytest
import torch
from torch.nn import functional

from lightsans import LightSANs, ModelConfig
from lightsans.losses import cross_entropy as losses
from lightsans.losses.cross_entropy import cross_entropy_sum
from lightsans.losses.objective import NextItemObjective, choose_loss
from lightsans.losses.sampled import gbce_beta, gbce_sum, sampled_softmax_sum

NO_HITS = torch.zeros(1, 2, dtype=torch.bool)


def test_sampled_softmax_divides_a_negative_by_how_often_it_was_expected():
    """Scores: target 2, negatives 1 and 3, expected 0.5 and 4 times.

    -log(e^2 / (e^2 + e^1 / 0.5 + e^3 / 4))
    """
    vector, target = torch.tensor([[1.0]]), torch.tensor([[2.0]])
    negatives, expected = torch.tensor([[1.0], [3.0]]), torch.tensor([0.5, 4.0])
    loss = sampled_softmax_sum(vector, target, negatives, NO_HITS, expected.log())
    total = math.exp(2) + math.exp(1) / 0.5 + math.exp(3) / 4
    assert loss.item() == pytest.approx(math.log(total) - 2, rel=1e-6)


def test_a_negative_that_is_the_target_is_left_out():
    vector, target = torch.tensor([[1.0]]), torch.tensor([[2.0]])
    negatives, is_target = torch.tensor([[2.0], [3.0]]), torch.tensor([[True, False]])
    loss = sampled_softmax_sum(vector, target, negatives, is_target, torch.zeros(2))
    assert loss.item() == pytest.approx(math.log(math.exp(2) + math.exp(3)) - 2, rel=1e-6)
    beta = 0.5
    loss = gbce_sum(vector, target, negatives, is_target, beta)
    expected = (beta * math.log1p(math.exp(-2)) + math.log1p(math.exp(3))) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_sampled_softmax_over_every_item_once_is_the_cross_entropy():
    """Uniform over N items, N draws: each is expected once, and here each is there once."""
    vectors, table = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    targets = torch.randint(0, 9, (5,))
    is_target = targets.unsqueeze(1) == torch.arange(9)
    sampled = sampled_softmax_sum(vectors, table[targets], table, is_target, torch.zeros(9))
    full = functional.cross_entropy(vectors @ table.T, targets, reduction="sum")
    torch.testing.assert_close(sampled, full)
    torch.testing.assert_close(
        torch.autograd.grad(sampled, [vectors, table]), torch.autograd.grad(full, [vectors, table])
    )


def test_gbce_with_t_0_is_binary_cross_entropy():
    vectors, targets, negatives = torch.randn(4, 3), torch.randn(4, 3), torch.randn(6, 3)
    beta = gbce_beta(num_negatives=6, num_items=100, t=0.0)
    loss = gbce_sum(vectors, targets, negatives, torch.zeros(4, 6, dtype=torch.bool), beta)
    scores = torch.cat([(vectors * targets).sum(1, keepdim=True), vectors @ negatives.T], dim=1)
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    expected = functional.binary_cross_entropy_with_logits(scores, labels) * 4
    torch.testing.assert_close(loss, expected)


def test_beta_is_1_without_calibration_and_the_sampling_rate_with_all_of_it():
    """gSASRec's equation by hand for alpha = 10 / 100, t = 0.75: 0.1 * (0.75 * -9 + 10) = 0.325."""
    assert gbce_beta(10, 101, 0.0) == pytest.approx(1)
    assert gbce_beta(10, 101, 1.0) == pytest.approx(0.1)
    assert gbce_beta(10, 101, 0.75) == pytest.approx(0.325)
    assert gbce_beta(1024, 5, 0.75) == 1  # more negatives than items


@pytest.mark.parametrize("columns", [1, 3, 7, 50])
@pytest.mark.parametrize("with_grad", [True, False])
def test_cross_entropy_in_blocks_of_items_has_pytorchs_value_and_gradients(
    columns, with_grad, monkeypatch
):
    monkeypatch.setattr(losses, "LOGITS_BUDGET", {"cpu": 1})
    monkeypatch.setattr(losses, "MIN_ROWS", 3)
    monkeypatch.setattr(losses, "ROW_BLOCK_LIMIT", {"cpu": 3 * columns})
    vectors = 10 * torch.randn(10, 4, dtype=torch.float64)
    table = torch.randn(7, 4, dtype=torch.float64)
    targets = torch.randint(0, 7, (10,))
    vectors.requires_grad_(with_grad)
    table.requires_grad_(with_grad)
    expected = functional.cross_entropy(vectors @ table.T, targets, reduction="sum")
    total = cross_entropy_sum(vectors, table, targets)
    torch.testing.assert_close(total, expected)
    if with_grad:
        torch.testing.assert_close(
            torch.autograd.grad(2 * total, [vectors, table]),
            torch.autograd.grad(2 * expected, [vectors, table]),
        )


def test_auto_goes_by_the_number_of_items_and_the_device():
    auto = ModelConfig(loss_type="auto")
    assert choose_loss(auto, 20_000, "cpu") == "CE"
    assert choose_loss(auto, 20_001, "cpu") == "sampled_softmax"
    assert choose_loss(auto, 100_000, "cuda") == "CE"
    assert choose_loss(auto, 100_001, "cuda") == "sampled_softmax"
    assert choose_loss(ModelConfig(loss_type="BPR"), 10**9, "cpu") == "BPR"


@pytest.mark.parametrize("loss_type", ["sampled_softmax", "gBCE"])
@pytest.mark.parametrize("attention", ["causal", "masked", "reference"])
def test_a_batch_of_padding_has_no_loss_and_a_zero_gradient_for_every_parameter(
    attention, loss_type
):
    config = ModelConfig(
        attention=attention, loss_type=loss_type, max_seq_len=5, hidden_size=8, num_negatives=2
    )
    objective = NextItemObjective(LightSANs(config, 6))
    target = torch.zeros((1, 1) if attention == "causal" else (1,), dtype=torch.int32)
    nothing = torch.zeros(1, 1, dtype=torch.int32), torch.tensor([0])
    loss = objective(*nothing, target, torch.tensor([1, 2]), torch.zeros(2))
    loss.backward()
    assert loss.item() == 0
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_sampled_losses_without_negatives_are_refused():
    config = ModelConfig(attention="masked", loss_type="sampled_softmax", hidden_size=8)
    objective = NextItemObjective(LightSANs(config, 6))
    with pytest.raises(ValueError, match="'sampled_softmax' needs negative_ids of the step"):
        objective(torch.tensor([[1]]), torch.tensor([1]), torch.tensor([2]))
