import torch
from torch.nn import functional

from lightsans.losses.cross_entropy import cross_entropy, cross_entropy_sum
from lightsans.losses.smoothing import smoothing_sum
from lightsans.losses.targets import Targets
from tests.models import small_config

T, V, D = 7, 11, 4


def make_factors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    vectors, table = torch.randn(T, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    return vectors, table, torch.randint(0, V, (T,))


def test_loss_and_gradients_are_those_of_pytorchs_smoothed_cross_entropy():
    vectors, table, target = make_factors()
    ours = cross_entropy_sum(vectors, table, target) + smoothing_sum(vectors, table, target, 0.3)
    theirs = functional.cross_entropy(
        vectors @ table.T, target, reduction="sum", label_smoothing=0.3
    )
    torch.testing.assert_close(ours, theirs)
    found = torch.autograd.grad(ours, (vectors, table))
    torch.testing.assert_close(found, torch.autograd.grad(theirs, (vectors, table)))


def test_a_target_is_spread_over_the_items_that_it_is_compared_with():
    vectors, table, target = make_factors()
    target = target.clamp(min=1)
    config = small_config(label_smoothing=0.2)
    targets = Targets(config, V - 1, vectors, target, table, ranks_padding=False)
    logits = vectors @ table[1:].T
    expected = functional.cross_entropy(logits, target - 1, reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(cross_entropy(targets), expected)
    few = torch.tensor([2, 5, 9])
    ids = few[target % 3]
    chosen = Targets(config, 3, vectors, ids, table, ranks_padding=False, candidates=few)
    expected = functional.cross_entropy(
        vectors @ table[few].T, target % 3, reduction="sum", label_smoothing=0.2
    )
    torch.testing.assert_close(cross_entropy(chosen), expected)


def test_rounded_products_leave_smoothing_exact():
    vectors, table, target = make_factors()
    exact = smoothing_sum(vectors, table, target, 0.3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(smoothing_sum(vectors, table, target, 0.3), exact)
