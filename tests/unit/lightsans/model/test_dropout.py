import torch

from lightsans.model.dropout import Dropout


def test_elements_are_dropped_or_scaled_so_that_the_mean_stays():
    out = Dropout(0.2)(torch.ones(1000, 101))
    assert out.unique().tolist() == [0.0, torch.tensor(65536 / (65536 - 13107)).item()]
    assert abs(out.mean().item() - 1) < 0.005
    assert abs((out == 0).float().mean().item() - 0.2) < 0.005


def test_neighbours_are_dropped_independently():
    """Masks are cut from shared random words: no pair of columns may move together."""
    is_kept = (Dropout(0.5)(torch.ones(20_000, 8)) > 0).float()
    correlations = torch.corrcoef(is_kept.T) - torch.eye(8)
    assert correlations.abs().max().item() < 0.04


def test_the_gradient_passes_where_the_value_did():
    x = torch.ones(7, 3, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out)


def test_a_seed_repeats_the_mask():
    masks = []
    for _ in range(2):
        torch.manual_seed(5)
        masks.append(Dropout(0.3)(torch.ones(50)))
    assert torch.equal(*masks)
    assert not torch.equal(masks[0], Dropout(0.3)(torch.ones(50)))


def test_nothing_is_dropped_outside_training_or_with_probability_zero():
    x = torch.randn(5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_empty_tensors_pass():
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)


def test_almost_everything_may_be_dropped():
    assert Dropout(0.999999)(torch.ones(1000)).isfinite().all()
