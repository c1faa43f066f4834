import pytest
import torch
from torch.nn import functional

from lightsans.losses import cross_entropy as losses
from lightsans.losses.cross_entropy import cross_entropy_sum


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
