import torch
from torch.nn import functional

from lightsans.model.cosine import CosineScale, directions
from lightsans.model.network import LightSANs
from lightsans.recommendations.serving_export import item_vectors
from tests.models import small_model

HISTORIES = torch.tensor([[1, 2, 3], [5, 6, 0]]), torch.tensor([3, 2])


def make_model(**settings) -> LightSANs:
    return small_model(30, scores="cosine", initializer_range=0.5, **settings).eval()


def test_directions_have_the_length_one_and_zeros_stay_zeros():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    torch.testing.assert_close(directions(x), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    directions(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_scores_are_cosines_over_the_temperature():
    model = make_model(temperature=0.25)
    plain = small_model(30, initializer_range=0.5).eval()
    weights = {k: v for k, v in model.state_dict().items() if k in plain.state_dict()}
    plain.load_state_dict(weights)
    vectors = plain.encode(*HISTORIES)
    expected = functional.cosine_similarity(
        vectors.unsqueeze(1), plain.item_table()[1:].unsqueeze(0), dim=2
    )
    torch.testing.assert_close(model.score_items(*HISTORIES)[:, 1:], 4 * expected)


def test_the_length_of_an_item_vector_changes_no_score():
    model = make_model()
    before = model.score_items(*HISTORIES)
    with torch.no_grad():
        model.item_embedding.weight.mul_(torch.linspace(1, 9, 31).unsqueeze(1))
    torch.testing.assert_close(model.score_items(*HISTORIES), before, rtol=1e-4, atol=1e-4)


def test_lists_and_exported_vectors_are_those_of_the_scores():
    model = make_model()
    scores = model.score_items(*HISTORIES)
    best = model.recommend(*HISTORIES, k=5, remove_seen=False)
    expected = scores[:, 1:].topk(5)
    assert torch.equal(best.item_ids, expected.indices + 1)
    torch.testing.assert_close(best.scores, expected.values)
    exported = torch.from_numpy(item_vectors(model))
    torch.testing.assert_close(model.encode(*HISTORIES) @ exported.T, scores[:, 1:])


def test_the_temperature_begins_where_the_setting_says_and_stays_positive():
    scale = CosineScale(0.2)
    torch.testing.assert_close(scale(torch.tensor([0.0, 2.0])), torch.tensor([0.0, 5.0]))
    with torch.no_grad():
        scale.log_temperature.sub_(20)
    assert bool(scale(torch.tensor([0.0, 2.0]))[1] > 0)
    scale.reset_parameters()
    torch.testing.assert_close(scale.log_temperature.exp(), torch.tensor([0.2]))
