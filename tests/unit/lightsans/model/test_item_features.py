"""Item vectors: an item's own plus a learned map of its features."""

import copy

import torch

from lightsans.model.item_features import ItemFeatures
from tests.item_features import coloured, feature_arrays, feature_table
from tests.models import small_model

CPU = torch.device("cpu")


def with_features(num_items=7):
    torch.manual_seed(1)
    model = small_model(num_items)
    model.item_features = ItemFeatures(coloured(num_items), 8, 0.5, CPU)
    return model.eval()


def test_a_vector_is_the_sum_of_its_own_its_categories_and_its_numbers():
    table = feature_table(genre=[["a", "b"], []], price=[1.0, 3.0])
    features = ItemFeatures(feature_arrays(table), 8, 0.5, CPU)
    a, b = features.category_embedding.weight
    per_price = features.number_map.weight[:, 0]
    own = torch.randn(3, 8)
    composed = features.compose(own)
    torch.testing.assert_close(composed[0], own[0])
    torch.testing.assert_close(composed[1], own[1] + (a + b) / 2**0.5 - per_price)
    torch.testing.assert_close(composed[2], own[2] + per_price)


def test_some_rows_have_the_vectors_that_they_have_among_all():
    features = ItemFeatures(coloured(7), 8, 0.5, CPU)
    rows = torch.tensor([0, 2, 7, 5, 1])
    torch.testing.assert_close(features(rows), features()[rows])
    keeps = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    own = torch.randn(8, 8)
    composed = features.compose(own[rows], rows, keeps)
    torch.testing.assert_close(composed, own[rows] * keeps[:, None] + features()[rows])
    assert (features()[0] == 0).all(), "padding"
    assert (features()[7] == 0).all(), "an item without features"


def test_everything_that_reads_a_model_sees_the_sums():
    model = with_features()
    ids, lengths = torch.tensor([[3, 1, 0], [2, 0, 0]]), torch.tensor([2, 1])
    plain = model.composed()
    assert plain.item_features is None
    assert model.item_features is not None, "the model itself stays as it is"
    torch.testing.assert_close(plain.item_table(), model.item_features.compose(
        model.item_embedding.weight
    ))  # fmt: skip
    torch.testing.assert_close(plain.item_table(), model.item_table())
    torch.testing.assert_close(plain.score_items(ids, lengths), model.score_items(ids, lengths))
    assert not any(name.startswith("item_features") for name in plain.state_dict())


def test_a_model_without_features_is_its_own_composition():
    model = small_model(3)
    assert model.composed() is model
    assert model.feature_coding is None
    assert not any("features" in name for name in model.state_dict())


def test_copies_of_a_model_share_what_the_map_reads_and_not_its_weights():
    model = with_features()
    other = copy.deepcopy(model)
    assert model.item_features is not None
    assert other.item_features is not None
    assert other.item_features.arrays is model.item_features.arrays
    other.item_features.number_map.weight.data.zero_()
    assert model.item_features.number_map.weight.abs().sum() > 0
