import io

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightsans import LightSANs
from lightsans.config.kinds import ATTENTION
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.model.layers import EncoderLayer
from lightsans.recommendations.serving_export import (
    encoder_inputs,
    encoder_to_bytes,
    item_table,
    item_vectors,
)
from tests.models import EVERY_BLOCK, small_model

L, N = 35, 20  # three chunks of positions


def make_model(attention, **settings) -> LightSANs:
    sizes = {"max_seq_len": L, "initializer_range": 0.5}
    return small_model(N, attention=attention, **sizes, **settings).eval()


def make_batch(lengths) -> tuple[torch.Tensor, torch.Tensor]:
    item_ids = torch.randint(1, N + 1, (len(lengths), L))
    return item_ids * (torch.arange(L) < torch.tensor(lengths)[:, None]), torch.tensor(lengths)


@pytest.mark.programs
@pytest.mark.parametrize(
    ("attention", "settings"),
    [
        *((attention, {}) for attention in ATTENTION),
        ("causal", {**EVERY_BLOCK, "gate": "residual"}),
        ("masked", {**EVERY_BLOCK, "gate": "pointwise"}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_exported_program_gives_the_models_vectors_for_batches_of_any_size(attention, settings):
    model = make_model(attention, **settings)
    program = torch.export.load(io.BytesIO(encoder_to_bytes(model))).module()
    for lengths in ([L], [L, 1, 7], [1, 2, 3, 0, 17, 34, L]):
        batch = make_batch(lengths)
        torch.testing.assert_close(program(*batch), model.encode(*batch), rtol=0, atol=1e-5)


@pytest.mark.programs
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_exported_program_is_safe_for_logits_that_differ_by_far():
    """Pooling logits of several hundred: one exponential per item would overflow."""
    model = make_model("causal")
    with torch.no_grad():
        for layer in model.layers:
            assert isinstance(layer, EncoderLayer)
            layer.attention.key_theta.mul_(100)
            layer.attention.value_theta.mul_(100)
    program = torch.export.load(io.BytesIO(encoder_to_bytes(model))).module()
    batch = make_batch([L, 20, 3])
    vectors = program(*batch)
    assert bool(vectors.isfinite().all())
    torch.testing.assert_close(vectors, model.encode(*batch), rtol=0, atol=1e-4)


def test_item_vectors_come_with_raw_ids_and_without_padding():
    model = make_model("causal")
    counts = np.array([1, 0] * (N // 2))
    vocabulary = Vocabulary(pa.array([f"item {i}" for i in range(N)]), counts)
    table = item_table(model, vocabulary)
    assert table.column_names == ["item_id", "raw_item_id", "recommendable", "vector"]
    assert table["item_id"].to_pylist() == list(range(1, N + 1))
    assert table["raw_item_id"][4].as_py() == "item 4"
    assert table["recommendable"].to_pylist() == [True, False] * (N // 2)
    weights = model.item_embedding.weight.detach()
    np.testing.assert_array_equal(item_vectors(model), weights[1:].numpy())
    np.testing.assert_array_equal(table["vector"][4].as_py(), weights[5].numpy())


def test_items_of_a_model_of_an_unknown_log_are_all_recommendable():
    """An imported checkpoint: nothing was counted."""
    vocabulary = Vocabulary(pa.array([f"item {i}" for i in range(N)]), np.zeros(N, np.int64))
    assert item_table(make_model("causal"), vocabulary)["recommendable"].to_pylist() == [True] * N


@pytest.mark.programs
@pytest.mark.parametrize(
    "timed",
    [
        {"gaps": "input"},
        {"gaps": "request"},
        {"interest_decay": "time"},
        {"interest_decay": "time", "positions": "fading"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_program_of_a_model_that_reads_times_is_given_them(timed):
    model = small_model(N, **timed, max_seq_len=L, initializer_range=0.5).eval()
    names = encoder_inputs(model)
    assert names == ("item_ids", "lengths", "timestamps", *(["now"] if model.reads_now else []))
    program = torch.export.load(io.BytesIO(encoder_to_bytes(model))).module()
    for lengths in ([L], [L, 1, 7, 0]):
        item_ids, counts = make_batch(lengths)
        timestamps = (10 ** (12 * torch.rand(item_ids.shape))).long().cumsum(1)
        given = {"item_ids": item_ids, "lengths": counts, "timestamps": timestamps}
        given["now"] = timestamps[:, -1] + 10**10
        inputs = [given[name] for name in names]
        torch.testing.assert_close(program(*inputs), model.encode(*inputs), rtol=0, atol=1e-5)


def test_a_plain_programs_inputs_are_items_and_lengths():
    assert encoder_inputs(make_model("causal")) == ("item_ids", "lengths")
