import math

import pytest
import torch
from torch.nn import functional

from lightsans import LightSANs, ModelConfig
from lightsans.losses import cross_entropy as losses
from lightsans.losses.cross_entropy import cross_entropy_sum
from lightsans.losses.objective import NextItemObjective
from lightsans.losses.sampled import bpr_sum

KINDS = ("causal", "masked", "reference")


def make_objective(attention="causal", loss_type="CE") -> NextItemObjective:
    config = ModelConfig(
        attention=attention,
        loss_type=loss_type,
        max_seq_len=5,
        hidden_size=8,
        initializer_range=0.5,
        hidden_dropout_prob=0.0,
        attn_dropout_prob=0.0,
    )
    return NextItemObjective(LightSANs(config, 6))


def gradients(module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    return found


@pytest.mark.parametrize("budget", [1, 2**30])
def test_cross_entropy_in_blocks_has_pytorchs_value_and_gradients(budget, monkeypatch):
    monkeypatch.setattr(losses, "LOGITS_BUDGET", {"cpu": budget})
    monkeypatch.setattr(losses, "MIN_ROWS", 3)  # 10 targets: blocks of 3, 3, 3 and 1
    vectors = torch.randn(10, 4, requires_grad=True)
    table = torch.randn(7, 4, requires_grad=True)
    targets = torch.randint(0, 7, (10,))
    expected = functional.cross_entropy(vectors @ table.T, targets, reduction="sum")
    expected_grads = torch.autograd.grad(3 * expected, [vectors, table])
    total = cross_entropy_sum(vectors, table, targets)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(torch.autograd.grad(3 * total, [vectors, table]), expected_grads)


@pytest.mark.parametrize("budget", [1, 2**30])
@pytest.mark.parametrize("limit", [8, 2**30])
def test_under_autocast_only_the_products_are_rounded(budget, limit, monkeypatch):
    """The value is that of logits of bfloat16 factors, summed in float32."""
    monkeypatch.setattr(losses, "LOGITS_BUDGET", {"cpu": budget})
    monkeypatch.setattr(losses, "ROW_BLOCK_LIMIT", {"cpu": limit})
    monkeypatch.setattr(losses, "MIN_ROWS", 3)
    vectors = (5 * torch.randn(10, 4)).requires_grad_()
    table = (5 * torch.randn(7, 4)).requires_grad_()
    targets = torch.randint(0, 7, (10,))
    expected = functional.cross_entropy(vectors @ table.T, targets, reduction="sum")
    expected_grads = torch.autograd.grad(expected, [vectors, table])
    with torch.autocast("cpu", torch.bfloat16):
        total = cross_entropy_sum(vectors, table, targets)
    assert total.dtype == torch.float32
    assert total.item() != expected.item()
    torch.testing.assert_close(total, expected, rtol=0.02, atol=0)
    for found, exact in zip(
        torch.autograd.grad(total, [vectors, table]), expected_grads, strict=True
    ):
        assert float((found - exact).norm() / exact.norm()) < 0.05


def test_a_second_backward_pass_is_refused():
    vectors, table = torch.randn(2, 4, requires_grad=True), torch.randn(7, 4)
    total = cross_entropy_sum(vectors, table, torch.tensor([1, 2]))
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compute the loss again"):
        total.backward()


def test_cross_entropy_without_gradients_has_the_same_value():
    vectors, table = torch.randn(10, 4), torch.randn(7, 4, requires_grad=True)
    targets = torch.randint(0, 7, (10,))
    with torch.no_grad():
        total = cross_entropy_sum(vectors, table, targets)
    assert not total.requires_grad
    torch.testing.assert_close(total, cross_entropy_sum(vectors, table, targets).detach())


def test_bpr_rewards_a_target_that_scores_above_its_negative():
    """Margins of 2 and -1: -log(sigmoid(2)) - log(sigmoid(-1))."""
    vectors = torch.tensor([[1.0, 2.0], [1.0, 0.0]])
    targets, negatives = (
        torch.tensor([[2.0, 1.0], [0.0, 5.0]]),
        torch.tensor([[2.0, 0.0], [1.0, 5.0]]),
    )
    expected = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))
    assert bpr_sum(vectors, targets, negatives).item() == pytest.approx(expected, rel=1e-6)


def test_bpr_stays_finite_when_the_negative_wins_by_far():
    """RecBole's gamma: -log(1e-10 + 0)."""
    loss = bpr_sum(torch.tensor([[1000.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    assert loss.item() == pytest.approx(-math.log(1e-10), rel=1e-6)


@pytest.mark.parametrize(("attention", "choices"), [("masked", 6), ("causal", 6), ("reference", 7)])
def test_padding_is_a_candidate_for_the_reference_only(attention, choices):
    """With an item table of zeros, all candidates are equally likely."""
    objective = make_objective(attention)
    with torch.no_grad():
        objective.model.item_embedding.weight.zero_()
    target = torch.tensor([[3, 4, 0], [5, 0, 0]] if attention == "causal" else [3, 4])
    loss = objective(torch.tensor([[1, 2, 0], [2, 0, 0]]), torch.tensor([2, 1]), target)
    assert loss.item() == pytest.approx((target > 0).sum().item() * math.log(choices), rel=1e-5)


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
def test_a_window_trains_what_its_prefixes_train_one_by_one(loss_type):
    objective = make_objective("causal", loss_type)
    item_ids, lengths = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])
    targets, negatives = torch.tensor([[2, 3, 6], [5, 1, 0]]), torch.tensor([[4, 5, 1], [6, 2, 0]])
    loss = objective(item_ids, lengths, targets, negatives)
    loss.backward()
    window_gradients = gradients(objective)
    total = torch.zeros(())
    for row, column in (targets > 0).nonzero().tolist():
        vector = objective.model(item_ids[row : row + 1, : column + 1], torch.tensor([column + 1]))
        table = objective.model.item_embedding.weight
        target, negative = targets[row, column], negatives[row, column]
        if loss_type == "CE":
            total = total - (vector @ table[1:].T).log_softmax(1)[0, target - 1]
        else:
            total = total - functional.logsigmoid(vector @ (table[target] - table[negative])).sum()
    total.backward()
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(window_gradients, gradients(objective), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
@pytest.mark.parametrize("attention", KINDS)
def test_a_batch_of_padding_has_no_loss_and_a_zero_gradient_for_every_parameter(
    attention, loss_type
):
    """What a worker computes when its shards have run out before the others'."""
    objective = make_objective(attention, loss_type)
    target = torch.zeros((1, 1) if attention == "causal" else (1,), dtype=torch.int32)
    loss = objective(torch.zeros(1, 1, dtype=torch.int32), torch.tensor([0]), target, target)
    loss.backward()
    assert loss.item() == 0
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
@pytest.mark.parametrize("attention", ["causal", "masked"])
def test_the_padding_row_stays_zero_in_training(attention, loss_type):
    objective = make_objective(attention, loss_type)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.1)
    item_ids, lengths = torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1])
    target = torch.tensor([[2, 3, 6], [5, 0, 0]] if attention == "causal" else [6, 5])
    before = objective.model.item_table().clone()
    for _ in range(5):
        optimizer.zero_grad()
        objective(item_ids, lengths, target, target.flip(0)).backward()
        optimizer.step()
    assert not objective.model.item_table()[0].any()
    assert bool((objective.model.item_table()[1:] != before[1:]).any(dim=1).all())


def test_rows_without_a_target_add_nothing():
    objective = make_objective("masked")
    item_ids, lengths = torch.tensor([[1, 2], [3, 4]]), torch.tensor([2, 2])
    both = objective(item_ids, lengths, torch.tensor([5, 0]))
    torch.testing.assert_close(both, objective(item_ids[:1], lengths[:1], torch.tensor([5])))


def test_bpr_without_negatives_is_refused():
    with pytest.raises(ValueError, match="loss_type='BPR' needs negative_ids"):
        make_objective("masked", "BPR")(torch.tensor([[1]]), torch.tensor([1]), torch.tensor([2]))
