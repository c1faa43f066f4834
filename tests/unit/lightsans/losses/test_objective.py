import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from lightsans.config import ModelConfig
from lightsans.config.kinds import ATTENTION, LOSSES
from lightsans.losses.objective import FUNCTIONS, NextItemObjective, choose_loss
from lightsans.training.lazy_adam import renumber
from tests.models import EVERY_BLOCK, WITHOUT_DROPOUT, small_model


def test_every_loss_of_the_table_has_its_function():
    assert set(FUNCTIONS) == set(LOSSES)


def make_objective(attention="causal", loss_type="CE", **settings) -> NextItemObjective:
    kinds = {"attention": attention, "loss_type": loss_type, "initializer_range": 0.5}
    return NextItemObjective(small_model(6, **kinds, **WITHOUT_DROPOUT, **settings))


def gradients(module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    return found


@pytest.mark.parametrize(("attention", "choices"), [("masked", 6), ("causal", 6), ("reference", 7)])
def test_padding_is_a_candidate_for_the_reference_only(attention, choices):
    """With an item table of zeros, all candidates are equally likely."""
    objective = make_objective(attention)
    with torch.no_grad():
        objective.model.item_embedding.weight.zero_()
    target = torch.tensor([[3, 4, 0], [5, 0, 0]] if attention == "causal" else [3, 4])
    loss = objective(torch.tensor([[1, 2, 0], [2, 0, 0]]), torch.tensor([2, 1]), target)
    assert loss.item() == pytest.approx((target > 0).sum().item() * math.log(choices), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cosine_scores_are_trained_as_they_are_ranked(smoothing):
    settings = {"scores": "cosine", "temperature": 0.2, "label_smoothing": smoothing}
    objective = make_objective("causal", **settings)
    item_ids, lengths = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])
    targets = torch.tensor([[2, 3, 6], [5, 1, 0]])
    loss = objective(item_ids, lengths, targets)
    scores = [
        objective.model.score_items(
            item_ids[row : row + 1, : column + 1], torch.tensor([column + 1])
        )
        for row, column in (targets > 0).nonzero().tolist()
    ]
    expected = functional.cross_entropy(
        torch.cat(scores)[:, 1:], targets[targets > 0] - 1, reduction="sum",
        label_smoothing=smoothing,
    )  # fmt: skip
    torch.testing.assert_close(loss, expected)


def test_vectors_of_drawn_items_are_compared_by_their_directions_too():
    settings = {"loss_type": "sampled_softmax", "scores": "cosine", "num_negatives": 3}
    objective = make_objective("causal", **settings)
    with torch.no_grad():
        objective.model.item_embedding.weight.mul_(torch.arange(7.0).unsqueeze(1))
    batch = {"lengths": torch.tensor([2]), "log_expected": torch.zeros(3)}
    item_ids, target_ids = torch.tensor([[1, 2]]), torch.tensor([[2, 5]])
    negative_ids = torch.tensor([3, 4, 6])
    whole = objective(item_ids, target_ids=target_ids, negative_ids=negative_ids, **batch)
    expected = torch.zeros(())
    for length, target in ((1, 2), (2, 5)):
        scores = objective.model.score_items(item_ids[:, :length], torch.tensor([length]))
        expected = expected - scores[0, [target, 3, 4, 6]].log_softmax(0)[0]
    torch.testing.assert_close(whole, expected)


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
@pytest.mark.parametrize("attention", ATTENTION)
def test_a_batch_of_padding_has_no_loss_and_a_zero_gradient_for_every_parameter(
    attention, loss_type
):
    """A worker's batch when its shards have run out before the others'."""
    objective = make_objective(attention, loss_type)
    target = torch.zeros((1, 1) if attention == "causal" else (1,), dtype=torch.int32)
    loss = objective(torch.zeros(1, 1, dtype=torch.int32), torch.tensor([0]), target, target)
    loss.backward()
    assert loss.item() == 0
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@pytest.mark.parametrize("gate", ["residual", "pointwise"])
def test_every_parameter_of_every_block_has_a_zero_gradient_from_padding(gate):
    """A worker may have nothing in a step, and DDP waits for each of its gradients."""
    blocks = {**EVERY_BLOCK, "gate": gate, "position_dropout_prob": 0.0}
    objective = make_objective(label_smoothing=0.1, **blocks)
    nothing = torch.zeros(1, 3, dtype=torch.int64)
    loss = objective(nothing, torch.tensor([0]), nothing)
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


def test_auto_goes_by_the_number_of_items_and_the_device():
    auto = ModelConfig(loss_type="auto")
    assert choose_loss(auto, 20_000, "cpu") == "CE"
    assert choose_loss(auto, 20_001, "cpu") == "sampled_softmax"
    assert choose_loss(auto, 100_000, "cuda") == "CE"
    assert choose_loss(auto, 100_001, "cuda") == "sampled_softmax"
    assert choose_loss(ModelConfig(loss_type="BPR"), 10**9, "cpu") == "BPR"


@pytest.mark.parametrize("loss_type", ["sampled_softmax", "gBCE"])
@pytest.mark.parametrize("attention", ATTENTION)
def test_a_batch_of_padding_has_no_sampled_loss_and_a_zero_gradient_for_every_parameter(
    attention, loss_type
):
    objective = make_objective(attention, loss_type, num_negatives=2)
    target = torch.zeros((1, 1) if attention == "causal" else (1,), dtype=torch.int32)
    nothing = torch.zeros(1, 1, dtype=torch.int32), torch.tensor([0])
    loss = objective(*nothing, target, torch.tensor([1, 2]), torch.zeros(2))
    loss.backward()
    assert loss.item() == 0
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_sampled_losses_without_negatives_are_refused():
    objective = make_objective("masked", "sampled_softmax")
    with pytest.raises(ValueError, match="'sampled_softmax' needs negative_ids of the step"):
        objective(torch.tensor([[1]]), torch.tensor([1]), torch.tensor([2]))


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("loss_type", ["sampled_softmax", "gBCE", "BPR"])
def test_gathered_rows_have_the_loss_and_gradients_of_the_whole_table(attention, loss_type):
    kinds = {"attention": attention, "loss_type": loss_type, "initializer_range": 0.5}
    objective = NextItemObjective(small_model(30, **kinds, **WITHOUT_DROPOUT, num_negatives=4))
    item_ids, lengths = np.array([[3, 9, 4], [7, 0, 0]]), torch.tensor([3, 1])
    targets = np.array([[9, 4, 3], [5, 0, 0]] if attention == "causal" else [3, 5])
    drawn = np.array([6, 3, 28, 6])
    negatives = np.where(targets > 0, 11, 0) if loss_type == "BPR" else drawn
    log_expected = None if loss_type == "BPR" else torch.zeros(4)
    ids = [torch.from_numpy(array) for array in (item_ids, targets, negatives)]
    expected = objective(ids[0], lengths, ids[1], ids[2], log_expected)
    expected.backward()
    grads = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    objective.zero_grad()

    rows, positions = renumber(item_ids, targets, negatives)
    table = objective.model.item_embedding.weight
    vectors = table.detach()[rows].requires_grad_()
    ids = [torch.from_numpy(array) for array in positions]
    loss = objective(ids[0], lengths, ids[1], ids[2], log_expected, vectors)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert table.grad is None
    whole = torch.zeros_like(table)
    assert vectors.grad is not None
    whole[rows] = vectors.grad
    for name, parameter in objective.named_parameters():
        found = whole if parameter is table else parameter.grad
        torch.testing.assert_close(found, grads[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("attention", ["causal", "masked", "reference"])
@pytest.mark.parametrize("loss_type", ["CE", "BPR", "sampled_softmax", "gBCE"])
def test_a_target_of_weight_two_counts_as_two_targets(attention, loss_type):
    objective = make_objective(attention, loss_type)
    items, lengths = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])
    targets = (
        torch.tensor([[2, 0, 6], [5, 1, 0]]) if attention == "causal" else torch.tensor([6, 1])
    )
    weights = torch.full(targets.shape, 0.5)
    weights[0] = 2.0
    negatives = (targets % 6 + 1) * (targets > 0)
    shared = LOSSES[loss_type].shares_negatives
    inputs = {"negative_ids": torch.tensor([3, 4]) if shared else negatives}
    inputs |= {"log_expected": torch.zeros(2)} if loss_type == "sampled_softmax" else {}
    one, other = (targets.clone(), targets.clone())
    one[1], other[0] = 0, 0
    expected = 2 * objective(items, lengths, one, **inputs)
    expected = expected + 0.5 * objective(items, lengths, other, **inputs)
    expected.backward()
    expected_gradients = gradients(objective)
    loss = objective(items, lengths, targets, weights=weights, **inputs)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(objective), expected_gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
def test_several_targets_may_follow_the_same_input(loss_type):
    objective = make_objective("causal", loss_type)
    items, lengths = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])
    both = torch.tensor([[[2, 5], [0, 0], [6, 0]], [[5, 0], [1, 2], [0, 0]]])
    negatives = (both % 6 + 1) * (both > 0)
    loss = objective(items, lengths, both, negatives)
    apart = [objective(items, lengths, both[..., i], negatives[..., i]) for i in range(2)]
    torch.testing.assert_close(loss, apart[0] + apart[1])


@pytest.mark.parametrize("attention", ATTENTION)
def test_only_candidates_are_compared_with_targets(attention):
    """As if the table had no other rows: items 3 and 6 get no gradient, and change nothing."""
    objective = make_objective(attention)
    candidates = torch.tensor([1, 2, 4, 5])
    fewer = NextItemObjective(objective.model, candidates)
    target = torch.tensor([[4, 5, 0], [1, 0, 0]] if attention == "causal" else [4, 5])
    inputs = torch.tensor([[1, 2, 0], [2, 0, 0]]), torch.tensor([2, 1]), target
    loss = fewer(*inputs)
    loss.backward()
    gradient = gradients(objective)["model.item_embedding.weight"]
    assert (gradient[[3, 6]] == 0).all()
    assert (gradient[[1, 2, 4, 5]] != 0).any(dim=1).all()
    assert loss < objective(*inputs)
    with torch.no_grad():
        objective.model.item_embedding.weight[[3, 6]] = 9.0
    torch.testing.assert_close(fewer(*inputs), loss)
