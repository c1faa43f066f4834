"""The benchmark that takes the released code and the paper apart."""

import pytest
import torch

from benchmarks.movielens import SMOKE, smoke_log
from benchmarks.reference_parts import VARIANTS, Parts, change, configure, train_variant
from lightsans.model.network import LightSANs
from tests.models import small_model

HISTORIES = torch.tensor([[3, 1, 4, 1, 5], [2, 6, 0, 0, 0], [5, 0, 0, 0, 0]])
LENGTHS = torch.tensor([5, 2, 1])


def make_model(parts: Parts) -> LightSANs:
    kind = "masked" if parts.zero_row else "reference"
    torch.manual_seed(0)
    model = small_model(9, attention=kind, n_layers=2, initializer_range=0.5).eval()
    change(model, parts)
    return model


@pytest.mark.parametrize("kind", ["reference", "masked"])
def test_the_two_ends_are_the_models_of_these_names(kind):
    model = make_model(VARIANTS[kind])
    original = small_model(9, attention=kind, n_layers=2).eval()
    original.load_state_dict(model.state_dict())
    expected = original.score_items(HISTORIES, LENGTHS)[:, 1:]
    torch.testing.assert_close(model.score_items(HISTORIES, LENGTHS)[:, 1:], expected)


def test_every_variant_is_another_model():
    """With the same weights, but for padding's row, which some have as zeros."""
    vectors = [make_model(parts).encode(HISTORIES, LENGTHS)[1:] for parts in VARIANTS.values()]
    for i, one in enumerate(vectors):
        # A row of zeros is not read where padding is masked: then it only trains differently.
        same = [torch.allclose(one, other) for other in vectors[i + 1 :]]
        assert sum(same) <= 1


@pytest.mark.parametrize("name", [n for n, parts in VARIANTS.items() if parts.masks])
def test_with_a_mask_nothing_depends_on_paddings_vector(name):
    model = make_model(VARIANTS[name])
    before = model.encode(HISTORIES, LENGTHS)
    with torch.no_grad():
        model.item_embedding.weight[0] += torch.randn(8)
    torch.testing.assert_close(model.encode(HISTORIES, LENGTHS), before)


def test_a_row_of_zeros_stays_one_in_training():
    log, overrides = smoke_log(), [*SMOKE, "train.precision=fp32"]
    for name in ("zero-row", "mask"):
        run = train_variant(log, VARIANTS[name], 2020, 1.0, overrides)
        assert isinstance(run.model, LightSANs)
        row = run.model.item_embedding.weight[0]
        assert bool((row == 0).all()) == VARIANTS[name].zero_row
    assert configure(VARIANTS["masked"], 1, []).train == configure(Parts(), 1, []).train
