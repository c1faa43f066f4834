"""Vectors that rounding hurts as much as it can: random ones come nowhere near the bound."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from lightsans.ranking import products as precision
from lightsans.ranking import top_k as ranking
from lightsans.ranking.error_bounds import ErrorBound, factor_error

ROUNDS_DOWN, ROUNDS_UP = 1 + 2**-8, 1 + 3 * 2**-8  # halfway between two numbers of bfloat16
FILLERS = 60


@pytest.fixture(params=["highest", "high", "medium"])
def matmul_precision(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


def make_adversary() -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """A user, a table, the item that is best, and the one that bfloat16 puts far ahead of it.

    All factors of the best item's score are rounded down and all of the other's up, the sums as
    well: 32.3755 becomes 32.0 and 32.3745 becomes 32.75. In between lie enough items, with scores
    of 32.125, to crowd out the best if that much were not expected.
    """
    shares = torch.tensor([1.0] * 32 + [2.0**-i for i in range(4, 11)])
    other_shares = torch.tensor([1.0] * 31 + [0.5, 0.125, 2.0**-8])
    D, split = len(shares) + len(other_shares), len(shares)
    user = torch.full((1, D), ROUNDS_DOWN)
    user[:, split:] = ROUNDS_UP
    table = torch.zeros(FILLERS + 3, D)
    table[1 : FILLERS + 1, :32] = 1.0
    best, other = FILLERS + 1, FILLERS + 2
    table[best, :split] = ROUNDS_DOWN * shares
    table[other, split:] = ROUNDS_UP * other_shares
    return user, table, best, other


def test_the_adversary_misleads_products_of_bfloat16():
    user, table, best, other = make_adversary()
    exact = (user.double() @ table.double().T)[0]
    rounded = (user.bfloat16() @ table.bfloat16().T)[0]
    assert int(exact.argmax()) == best
    assert rounded[[best, other]].tolist() == [32.0, 32.75]


@pytest.mark.parametrize("products", ["auto", "float32", "bfloat16"])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("size", [1.0, 2.0**-60, 2.0**60])
def test_lists_are_exact_for_the_worst_vectors(products, compiled, size, matmul_precision):
    user, table, best, other = make_adversary()
    index = ranking.ItemIndex(table * size, products=products)
    for block_items in (None, 7):
        found = index.top_k(user, 2, compiled=compiled, block_items=block_items)
        assert found.item_ids.tolist() == [[best, other]]
        found = index.top_k(
            user, 1, compiled=compiled, block_items=block_items, min_score=32.375 * size
        )
        assert found.item_ids.tolist() == [[best]]


@pytest.mark.parametrize("products", ["float32", "bfloat16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_lists_are_exact_under_autocast(products, compiled):
    user, table, best, _ = make_adversary()
    index = ranking.ItemIndex(table, products=products)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert index.top_k(user, 1, compiled=compiled).item_ids.tolist() == [[best]]


@pytest.mark.parametrize("products", ["float32", "bfloat16"])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("largest", [1e38, 3.4e38])
def test_products_that_overflow_prove_nothing(products, compiled, largest):
    """3.4e38 is a float32 and infinite in bfloat16; sums of both signs have no value."""
    table = torch.zeros(200, 2)
    table[1:, 0] = torch.linspace(-1, 1, 199) * largest
    table[1:, 1] = -table[1:, 0] * (1 - 2**-20)
    user = torch.full((1, 2), 2.0)
    exact = (user.double() @ table[1:].double().T)[0].float()
    expected = 1 + exact.sort(descending=True, stable=True).indices[:5]
    index = ranking.ItemIndex(table, products=products)
    assert index.top_k(user, 5, compiled=compiled).item_ids[0].tolist() == expected.tolist()


def rounded_products(users, items, dtype):
    """Products of rounded factors, as exact as float64, and then rounded if they are bfloat16."""
    sums = users.to(dtype).double() @ items.to(dtype).double().T
    return sums.float().to(dtype).double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["normal", "skewed", "halves", "adversary"])
def test_no_item_of_the_best_lies_further_below_than_the_slack(kind, dtype):
    """The claim of `ErrorBound`, for every K."""
    generator = torch.Generator().manual_seed(4)
    users = torch.randn(40, 64, generator=generator)
    items = torch.randn(300, 64, generator=generator)
    if kind == "skewed":
        items *= torch.randn(300, 1, generator=generator).exp()
    if kind == "halves":
        users, items = (x.sign() * ROUNDS_UP for x in (users, items))
    if kind == "adversary":
        users, table, *_ = make_adversary()
        items = table[1:]
    bound = ErrorBound(items, items.to(dtype))
    slack = bound.slack(users, users.to(dtype))
    scores = users.double() @ items.double().T
    products = rounded_products(users, items, dtype)
    kth_scores = scores.sort(dim=1, descending=True).values
    kth_products = products.sort(dim=1, descending=True).values
    for k in range(1, len(items) + 1):
        is_best = scores >= kth_scores[:, k - 1 : k]
        least = slack.below(kth_products[:, k - 1])
        assert (products >= least.unsqueeze(1))[is_best].all()


def test_the_bound_is_tighter_than_the_worst_case():
    """The loss by rounding is measured: about half of what it may be."""
    generator = torch.Generator().manual_seed(4)
    users, items = torch.randn(40, 64, generator=generator), torch.randn(300, 64)
    slack = ErrorBound(items, items.bfloat16()).slack(users, users.bfloat16())
    worst = 4 * 2**-8 * users.norm(dim=1) * items.norm(dim=1).amax()
    assert (slack.absolute < 0.6 * worst).all()


def test_settings_of_float32_products_are_known(matmul_precision):
    expected = {"highest": 0.0, "high": 2**-10, "medium": 2**-8}[matmul_precision]
    assert factor_error("cpu") == expected
    assert factor_error("cuda") == min(expected, 2**-10), "TF32 at worst"
    assert factor_error("another device") == 2**-8


def test_float32_products_allow_for_what_the_hardware_may_round(matmul_precision):
    users, items = torch.ones(1, 4), torch.ones(3, 4)
    slack = ErrorBound(items, items).slack(users, users)
    per_factor = {"highest": 0.0, "high": 2**-10, "medium": 2**-8}[matmul_precision]
    assert 4 * per_factor * 4 <= float(slack.absolute) <= 4 * per_factor * 4 * 1.01 + 1e-4
    assert slack.relative == 0


def make_cancelling(num_items: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A user of ones, and items whose two largest numbers cancel out.

    What is left is up to 2^-70 of them: less than a sum in float64 keeps, but for its order.
    """
    generator = torch.Generator().manual_seed(1)
    table = torch.zeros(num_items + 1, width)
    for row in table[1:]:
        large, small, *rest = torch.randperm(width, generator=generator).tolist()
        row[large] = 2.0 ** int(torch.randint(30, 60, (), generator=generator))
        row[small] = -row[large]
        row[rest] = torch.randn(width - 2, generator=generator) * 1e-3
    return torch.ones(1, width), table


def exact_order(table: torch.Tensor) -> tuple[list[int], list[float]]:
    """Items from the best on, and scores, by rational numbers."""
    sums = [float(sum(Fraction(number) for number in row)) for row in table[1:].tolist()]
    scores = np.array(sums).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return (order + 1).tolist(), scores[order].tolist()


@pytest.mark.parametrize("products", ["float32", "bfloat16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_scores_whose_terms_cancel_out_are_exact_whatever_computes_them(products, compiled):
    user, table = make_cancelling(300, 16)
    ids, scores = exact_order(table)
    in_float64 = (user.double() @ table.double().T)[0, 1:].float().sort(descending=True).values
    assert in_float64[:9].tolist() != scores[:9], "no adversary: float64 is enough"
    index = ranking.ItemIndex(table, products=products)
    for block_items in (None, 7, 64):
        found = index.top_k(user, 9, compiled=compiled, block_items=block_items)
        assert found.item_ids.tolist() == [ids[:9]]
        assert found.scores.tolist() == [scores[:9]]


@pytest.mark.parametrize("is_compiled", [False, True])
def test_exact_products_are_those_of_fsum(is_compiled, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    exponents = torch.randint(-60, 60, (2, 2000, 9), generator=generator)
    x, y = torch.randn(2, 2000, 9, generator=generator) * 2.0**exponents
    x[:500, 1], y[:500, 1] = -x[:500, 0], y[:500, 0]
    x[500:600], y[600:700] = 0.0, 2.0**-140  # nothing, and numbers without all their bits
    expected = [math.fsum(row) for row in (x.double() * y.double()).tolist()]
    if not is_compiled:
        monkeypatch.setattr(precision, "find_kernels", lambda: None)
    found = precision.exact_dots(x, y)
    assert found.tolist() == torch.tensor(expected, dtype=torch.float64).float().tolist()
