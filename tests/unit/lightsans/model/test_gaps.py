"""Models that read when items were met, and when they are asked."""

import math

import pytest
import torch
from torch import Tensor

from lightsans import LightSANs
from lightsans.model.gaps import NUM_CLASSES, classes_of, clock_of, gaps_before
from tests.models import EVERY_BLOCK, small_model
from tests.oracle import causal_vectors, double_weights

NUM_ITEMS = 12
SECOND, DAY = 1_000_000, 86_400_000_000
BY_GAPS = ({"gaps": "input"}, {"gaps": "request"})
FADING = {"interest_decay": "time", "positions": "fading", "position_dropout_prob": 0.0}
TIMED = (*BY_GAPS, {"interest_decay": "time"}, FADING, {**FADING, "gaps": "request"})
"""Settings of models that read times."""
TIMES_REACH = ("gap_embedding.weight", "request_embedding.weight", "decay", "position_mix")


def make_model(**settings: object) -> LightSANs:
    """A small model whose weights are so large that every branch matters."""
    sizes = {"max_seq_len": 9, "k_interests": 3, "inner_size": 16, "initializer_range": 0.5}
    return small_model(NUM_ITEMS, **{**sizes, **settings}).eval()


def make_batch(lengths: list[int], width: int) -> dict[str, Tensor]:
    """Histories with gaps from nothing to months, and a request some time after each."""
    is_item = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    shape = (len(lengths), width)
    gaps = (10 ** (13 * torch.rand(shape, dtype=torch.float64))).long() * (torch.rand(shape) < 0.8)
    timestamps = 10**15 + gaps.cumsum(1)
    return {
        "item_ids": torch.randint(1, NUM_ITEMS + 1, shape) * is_item,
        "lengths": torch.tensor(lengths),
        "timestamps": timestamps * is_item,
        "now": timestamps + (10 ** (13 * torch.rand(shape, dtype=torch.float64))).long(),
    }


def given(model: LightSANs, batch: dict[str, Tensor], every_position: bool) -> dict[str, Tensor]:
    """Inputs of a batch that the model reads, with a request for each prefix or for the newest."""
    found = {name: batch[name] for name in ("item_ids", "lengths", "timestamps")}
    if model.reads_now:
        newest = (batch["lengths"] - 1).clamp(min=0).unsqueeze(1)
        found["now"] = batch["now"] if every_position else batch["now"].gather(1, newest).squeeze(1)
    return found


def test_classes_double_in_width():
    seconds = torch.tensor([0, 1, 2, 3, 4, 7, 8, 3600, 2**31, 2**40])
    assert classes_of(seconds * SECOND).tolist() == [1, 2, 3, 3, 4, 4, 5, 13, 33, 33]
    assert NUM_CLASSES == 34
    assert classes_of(torch.tensor([-5, 999_999])).tolist() == [1, 1]


def test_the_first_item_that_is_read_has_no_gap():
    timestamps = torch.tensor([[5, 5 + SECOND, 5 + SECOND]])
    assert gaps_before(timestamps).tolist() == [[0, 2, 1]]


def test_the_clock_goes_on_by_one_an_item_and_by_the_logarithm_of_the_minutes_between():
    minutes = torch.tensor([[7, 7, 8, 8 + 1440, 8]])
    shown = clock_of(minutes * 60 * SECOND)[0]
    steps = torch.tensor([1, 1 + math.log(2), 1 + math.log(1441), 1.0])
    torch.testing.assert_close(shown, torch.cat([torch.zeros(1), steps.cumsum(0)]))


@pytest.mark.parametrize("timed", TIMED, ids=str)
@pytest.mark.parametrize("length", [1, 9, 70])
@pytest.mark.parametrize("blocks", [{}, EVERY_BLOCK], ids=["plain", "blocks"])
def test_causal_vectors_and_gradients_equal_a_recursion_over_prefixes(timed, length, blocks):
    model = make_model(max_seq_len=length, **{**blocks, **timed})
    batch = make_batch([length], length)
    vectors = model(**given(model, batch, True), every_position=True)[0]
    weights = double_weights(model)
    now = batch["now"][0].tolist() if model.reads_now else None
    rows = batch["item_ids"][0].tolist(), batch["timestamps"][0].tolist()
    expected = causal_vectors(model, weights, *rows, now)
    torch.testing.assert_close(vectors, expected.float(), rtol=1e-3, atol=1e-3)
    direction = torch.randn(length, 8)
    (vectors * direction).sum().backward()
    (expected * direction).sum().backward()
    for name in (name for name in weights if name.endswith(TIMES_REACH)):
        exact = weights[name].grad
        assert exact is not None
        assert length == 1 or bool(exact.any())
        gradient = model.get_parameter(name).grad
        torch.testing.assert_close(gradient, exact.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("timed", TIMED, ids=str)
def test_one_causal_layer_is_one_masked_layer_on_every_prefix(timed):
    causal, masked = (
        make_model(**timed, n_layers=1, attention=kind) for kind in ("causal", "masked")
    )
    masked.load_state_dict(causal.state_dict())
    batch = make_batch([9, 9], 9)
    vectors = causal(**given(causal, batch, True), every_position=True)
    for t in range(9):
        prefix = {**batch, "lengths": torch.tensor([t + 1, t + 1])}
        torch.testing.assert_close(vectors[:, t], masked(**given(masked, prefix, False)))


@pytest.mark.parametrize("timed", TIMED, ids=str)
@pytest.mark.parametrize("attention", ["causal", "masked"])
def test_rows_of_any_width_have_the_same_vectors_and_empty_ones_are_finite(timed, attention):
    model = make_model(**timed, attention=attention)
    batch = make_batch([9, 4, 1, 0], 9)
    vectors = model.encode(**given(model, batch, False))
    assert bool(vectors.isfinite().all())
    alone = {name: value[1:2] for name, value in batch.items()}
    narrow = {n: v[:, :4] if v.ndim == 2 else v for n, v in alone.items()}
    torch.testing.assert_close(model.encode(**given(model, narrow, False)), vectors[1:2])


@pytest.mark.parametrize("timed", TIMED, ids=str)
def test_encode_keeps_the_newest_items_of_long_histories_and_their_times(timed):
    model = make_model(**timed)
    batch = given(model, make_batch([20, 12], 20), False)
    newest = {
        name: torch.stack([value[0, 11:], value[1, 3:12]]) if value.ndim == 2 else value
        for name, value in batch.items()
    }
    newest["lengths"] = torch.tensor([9, 9])
    torch.testing.assert_close(model.encode(**batch), model.encode(**newest))


@pytest.mark.parametrize("timed", TIMED, ids=str)
def test_only_differences_of_times_count(timed):
    model = make_model(**timed)
    batch = given(model, make_batch([9, 9], 9), False)
    later = {n: v + DAY if n in ("timestamps", "now") else v for n, v in batch.items()}
    assert torch.equal(model.encode(**batch), model.encode(**later))
    stretched = {**batch, "timestamps": batch["timestamps"].clone()}
    stretched["timestamps"][:, 0] -= 300 * DAY
    assert not torch.allclose(model.encode(**batch), model.encode(**stretched))


def test_a_later_request_gets_another_list():
    model = make_model(gaps="request")
    batch = given(model, make_batch([9], 9), False)
    soon = {**batch, "now": batch["timestamps"][:, -1]}
    late = {**batch, "now": batch["timestamps"][:, -1] + 100 * DAY}
    assert not torch.allclose(model.score_items(**soon), model.score_items(**late))
    lists = [
        model.recommend(
            batch["item_ids"], batch["lengths"], 5, False, each["timestamps"], each["now"]
        ).item_ids
        for each in (soon, late)
    ]
    best = [model.score_items(**each)[:, 1:].topk(5).indices + 1 for each in (soon, late)]
    assert all(torch.equal(*pair) for pair in zip(lists, best, strict=True))


def test_a_model_that_reads_times_refuses_without_them_and_says_what_to_give():
    batch = make_batch([3, 2], 3)
    plain = {name: batch[name] for name in ("item_ids", "lengths")}
    for timed in TIMED:
        with pytest.raises(ValueError, match=r"given no timestamps; give timestamps, \(2, 3\)"):
            make_model(**timed).encode(**plain)
    given_times = {**plain, "timestamps": batch["timestamps"]}
    model = make_model(gaps="request")
    with pytest.raises(ValueError, match="a model with interest_decay='time' reads times"):
        make_model(interest_decay="time").encode(**plain)
    with pytest.raises(ValueError, match=r"given no now; give now, \(2,\) int64"):
        model.score_items(**given_times)
    with pytest.raises(ValueError, match=r"now has shape \(3,\)"):
        model.encode(**given_times, now=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"now has shape \(2, 3\)"):  # one for each prefix
        model(**given_times, now=batch["now"])
    with pytest.raises(ValueError, match=r"timestamps has shape .* type torch.float32"):
        model.encode(**plain, timestamps=torch.zeros(2, 3), now=torch.zeros(2, dtype=torch.int64))


def test_a_model_that_does_not_read_times_refuses_them():
    batch = make_batch([3], 3)
    plain = {name: batch[name] for name in ("item_ids", "lengths")}
    with pytest.raises(ValueError, match=r"gaps='none' does not read timestamps; leave it out"):
        make_model(gaps="none").encode(**plain, timestamps=batch["timestamps"])
    with pytest.raises(ValueError, match=r"does not read now; leave it out, .*model.gaps=request"):
        make_model(gaps="input").score_items(
            **plain, timestamps=batch["timestamps"], now=batch["now"][:, 0]
        )


def test_times_that_fall_and_requests_before_the_newest_item_are_refused():
    model = make_model(gaps="request")
    ids, lengths = torch.tensor([[1, 2], [1, 2]]), torch.tensor([2, 2])
    falling = torch.tensor([[1, 2], [2, 1]])
    with pytest.raises(ValueError, match="timestamps of row 1 fall"):
        model.encode(ids, lengths, falling, torch.tensor([9, 9]))
    with pytest.raises(ValueError, match="now of row 0 is before its newest item"):
        model.encode(ids, lengths, falling.sort(dim=1).values, torch.tensor([1, 9]))
