import pickle
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import lightsans
from lightsans import ConfigError, LightSANs, ModelConfig
from lightsans.config.kinds import ATTENTION
from lightsans.model.attention import MAX_SPREAD
from lightsans.model.causal import CHUNK
from lightsans.model.layers import ACTIVATIONS, LightAttention
from tests.models import small_model
from tests.oracle import causal_vectors, double_weights, masked_vector

NUM_ITEMS = 12
VARIANTS = (
    {"interest_decay": "position"},
    {"positions": "relative"},
    {"interest_decay": "position", "positions": "relative"},
    {"positions": "fading"},
    {"position_scaling": "once"},
    {"position_scaling": "learned"},
    {"norm": "rms"},
    {"norm_placement": "pre"},
    {"gate": "residual"},
    {"gate": "pointwise"},
    {"scores": "cosine", "temperature": 0.5},
    {
        "interest_decay": "position",
        "positions": "relative",
        "norm": "rms",
        "norm_placement": "pre",
        "gate": "residual",
        "scores": "cosine",
        "position_dropout_prob": 0.3,
    },
    {"norm": "rms", "norm_placement": "pre", "gate": "pointwise", "layer_norm_eps": 0.1},
)
"""Settings that change the model, for the kinds that leave padding out."""


def make_model(attention="causal", *, num_items=NUM_ITEMS, **settings) -> LightSANs:
    """A small model with weights far from zero, so that every branch matters."""
    sizes = {"max_seq_len": 9, "k_interests": 3, "inner_size": 16, "initializer_range": 0.5}
    model = small_model(num_items, attention=attention, **{**sizes, **settings}).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(
            ("position_logits", "position_temperature", "position_mix")
        ):  # they start at zero
            nn.init.normal_(parameter)
    return model


def make_batch(lengths, width=None) -> tuple[Tensor, Tensor]:
    width = width or max(lengths)
    item_ids = torch.randint(1, NUM_ITEMS + 1, (len(lengths), width))
    lengths = torch.tensor(lengths)
    return item_ids * (torch.arange(width) < lengths.unsqueeze(1)), lengths


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 9, 70])
@torch.no_grad()
def test_causal_vectors_equal_a_recursion_over_prefixes(n_layers, length):
    model = make_model(n_layers=n_layers, max_seq_len=length)
    item_ids, lengths = make_batch([length])
    expected = causal_vectors(model, double_weights(model), item_ids[0].tolist())
    vectors = model(item_ids, lengths, every_position=True)[0]
    torch.testing.assert_close(vectors, expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("length", [9, 2 * CHUNK + 1])
@torch.no_grad()
def test_variants_equal_the_recursion_too(variant, length):
    model = make_model(n_layers=2, max_seq_len=length, **variant)
    item_ids, lengths = make_batch([length])
    expected = causal_vectors(model, double_weights(model), item_ids[0].tolist())
    vectors = model(item_ids, lengths, every_position=True)[0]
    torch.testing.assert_close(vectors, expected.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("variant", [{}, *VARIANTS], ids=str)
def test_causal_gradients_equal_those_of_a_recursion_over_prefixes(variant):
    model = make_model(n_layers=2, **variant)
    item_ids, lengths = make_batch([9])
    weights = double_weights(model)
    direction = torch.randn(9, 8)
    (model(item_ids, lengths, every_position=True)[0] * direction).sum().backward()
    expected = causal_vectors(model, weights, item_ids[0].tolist())
    (expected * direction).sum().backward()
    for name, parameter in model.named_parameters():
        exact = weights[name].grad
        assert parameter.grad is not None
        assert exact is not None
        torch.testing.assert_close(parameter.grad, exact.float(), rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_masked_vectors_equal_the_paper_on_each_unpadded_sequence(activation):
    require_paper(make_model("masked", hidden_act=activation))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_masked_variants_equal_the_paper_with_what_they_change(variant):
    require_paper(make_model("masked", **variant))


def require_paper(model: LightSANs) -> None:
    item_ids, lengths = make_batch([9, 4, 1, 8])
    weights = double_weights(model)
    for row, length in enumerate(lengths.tolist()):
        expected = masked_vector(model, weights, item_ids[row, :length].tolist())
        vector = model(item_ids, lengths)[row]
        torch.testing.assert_close(vector, expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", [{}, *VARIANTS], ids=str)
def test_one_causal_layer_is_one_masked_layer_on_every_prefix(variant):
    causal, masked = (make_model(kind, n_layers=1, **variant) for kind in ("causal", "masked"))
    masked.load_state_dict(causal.state_dict())
    item_ids, _ = make_batch([9, 9])
    vectors = causal(item_ids, torch.tensor([9, 9]), every_position=True)
    for t in range(9):
        prefix = masked(item_ids, torch.tensor([t + 1, t + 1]))
        torch.testing.assert_close(vectors[:, t], prefix)


@pytest.mark.parametrize("variant", [{}, *VARIANTS], ids=str)
@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_newest_vector_is_the_causal_vector_of_the_last_prefix(n_layers, variant):
    model = make_model(n_layers=n_layers, **variant)
    item_ids, lengths = make_batch([9, 4, 1])
    vectors = model(item_ids, lengths, every_position=True)
    torch.testing.assert_close(model(item_ids, lengths), vectors[torch.arange(3), lengths - 1])


@pytest.mark.parametrize("attention", ["causal", "masked"])
def test_position_weights_are_dropped_in_training_alone(attention):
    dropouts = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "position_dropout_prob": 0.5}
    model, batch = make_model(attention, **dropouts), make_batch([9, 4])
    exact = model.encode(*batch)
    assert not torch.equal(model.train()(*batch), exact)
    with torch.no_grad():
        assert not torch.equal(model(*batch), exact), "weights that are kept are dropped as well"
    assert torch.equal(model.eval().encode(*batch), exact)


@pytest.mark.parametrize("attention", ["masked", "reference"])
def test_the_last_layer_cut_to_one_position_gives_that_position_of_the_whole(attention):
    model = make_model(attention)
    item_ids, lengths = make_batch([9, 4, 1])
    layers = list(model.layers)
    whole = []
    original = layers[-1].forward

    def uncut(x, positions, layout, newest_only):
        whole.append(original(x, positions, layout, newest_only=False))
        return original(x, positions, layout, newest_only)

    layers[-1].forward = uncut
    cut = model(item_ids, lengths)
    torch.testing.assert_close(cut, whole[0][torch.arange(3), lengths - 1])


def test_masked_attention_survives_steep_position_weights():
    """Position logits too far apart for exponentials that sequences share."""
    model = make_model("masked", n_layers=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("position_query.weight"):
                parameter.mul_(MAX_SPREAD)
    item_ids, lengths = make_batch([9, 4, 1])
    weights = double_weights(model)
    for row, length in enumerate(lengths.tolist()):
        expected = masked_vector(model, weights, item_ids[row, :length].tolist())
        torch.testing.assert_close(
            model(item_ids, lengths)[row], expected.float(), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("attention", ATTENTION)
def test_rows_of_any_width_have_the_same_vectors(attention):
    model = make_model(attention)
    item_ids, lengths = make_batch([4, 2])
    wide = torch.nn.functional.pad(item_ids, (0, 5))
    torch.testing.assert_close(model(wide, lengths), model(item_ids, lengths))


@pytest.mark.parametrize("attention", ATTENTION)
def test_encode_keeps_the_newest_items_of_long_histories(attention):
    model = make_model(attention)
    item_ids, lengths = make_batch([30, 12, 5, 0])
    newest = torch.zeros(4, 9, dtype=torch.int64)
    for row, length in enumerate(lengths.tolist()):
        kept = item_ids[row, max(0, length - 9) : length]
        newest[row, : len(kept)] = kept
    expected = model.encode(newest, lengths.clamp(max=9))
    torch.testing.assert_close(model.encode(item_ids, lengths), expected)


@pytest.mark.parametrize("attention", ATTENTION)
def test_empty_histories_have_one_finite_vector_whatever_stands_beside_them(attention):
    model = make_model(attention)
    item_ids, lengths = make_batch([0, 9, 0])
    vectors = model.encode(item_ids, lengths)
    assert bool(vectors.isfinite().all())
    torch.testing.assert_close(vectors[0], vectors[2])
    alone = model.encode(torch.zeros(1, 0, dtype=torch.int64), torch.tensor([0]))
    torch.testing.assert_close(vectors[:1], alone)


@pytest.mark.parametrize("attention", ATTENTION)
def test_encode_is_without_dropout_and_leaves_the_mode_alone(attention):
    model = make_model(attention)
    item_ids, lengths = make_batch([9, 4])
    expected = model.encode(item_ids, lengths)
    model.train()
    vectors = model.encode(item_ids, lengths)
    torch.testing.assert_close(vectors, expected)
    assert model.training
    assert not vectors.requires_grad
    assert not torch.equal(model(item_ids, lengths), expected), "in training there is dropout"


@pytest.mark.parametrize("attention", ATTENTION)
def test_what_is_learnt_about_positions_is_computed_once_for_inference(attention, monkeypatch):
    model = make_model(attention, n_layers=3, max_seq_len=150)
    computed = []
    original = LightAttention._learnt_positions

    def count(self, positions, length, needs_matrix):
        computed.append(length)
        return original(self, positions, length, needs_matrix)

    monkeypatch.setattr(LightAttention, "_learnt_positions", count)
    batches = [make_batch([130, 140]), make_batch([20, 3]), make_batch([150])]
    vectors = [model.encode(*batch) for batch in batches]
    assert computed == [150] * 3, "each layer once, for all positions"
    for batch, found in zip(batches, vectors, strict=True):
        torch.testing.assert_close(model(*batch).detach(), found)  # with gradients: not kept


@pytest.mark.parametrize("attention", ATTENTION)
def test_weights_that_change_in_place_are_noticed(attention):
    """Fused optimizers change them without a trace."""
    model = make_model(attention)
    batch = make_batch([9, 4])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    before = model.encode(*batch)
    model(*batch).square().sum().backward()
    optimizer.step()
    after = model.encode(*batch)
    fresh = make_model(attention)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(after, fresh.encode(*batch))
    assert not torch.equal(before, after)
    model.get_parameter("layers.0.attention.position_key.weight").data.mul_(-1)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.encode(*batch), fresh.encode(*batch))


@pytest.mark.parametrize("attention", ATTENTION)
def test_autocast_rounds_products_and_nothing_is_kept_of_them(attention):
    model = make_model(attention)
    batch = make_batch([9, 4])
    exact = model.encode(*batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.encode(*batch)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1)
    assert torch.equal(model.encode(*batch), exact)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_no_users_have_no_vectors(dtype):
    nothing = torch.zeros(0, 3, dtype=dtype)
    assert make_model().encode(nothing, torch.zeros(0, dtype=dtype)).shape == (0, 8)


def test_item_ids_may_be_32_bits_wide():
    for attention in ATTENTION:
        model = make_model(attention)
        item_ids, lengths = make_batch([12, 4])
        torch.testing.assert_close(
            model.encode(item_ids.int(), lengths.int()), model.encode(item_ids, lengths)
        )


@pytest.mark.parametrize("attention", ATTENTION)
def test_a_score_is_the_product_of_two_vectors(attention):
    model = make_model(attention)
    item_ids, lengths = make_batch([9, 4])
    scores = model.score_items(item_ids, lengths)
    assert scores.shape == (2, NUM_ITEMS + 1)
    expected = model.encode(item_ids, lengths) @ model.item_table().T
    torch.testing.assert_close(scores, expected)
    assert bool((scores[:, 0] == 0).all()) == (attention != "reference")


def test_a_model_has_as_many_parameters_as_the_authors_log():
    """ML-1M in the authors' configuration: 3,629 rows with padding, 367,168 parameters."""
    for attention in ATTENTION:
        config = ModelConfig(
            attention=attention,
            max_seq_len=200,
            k_interests=20,
            n_layers=2,
            hidden_size=64,
            inner_size=256,
        )
        assert sum(p.numel() for p in LightSANs(config, 3628).parameters()) == 367_168


def test_weights_are_drawn_as_in_the_released_code():
    model = LightSANs(ModelConfig(hidden_size=64, initializer_range=0.02), 5000)
    table = model.item_table()
    assert table[0].abs().sum() == 0
    assert table[1:].std().item() == pytest.approx(0.02, rel=0.01)
    layer = {k.removeprefix("layers.0.attention."): v for k, v in model.state_dict().items()}
    assert layer["query.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert layer["key_theta"].std().item() == pytest.approx(1.0, rel=0.2)
    assert layer["query.bias"].abs().sum() == 0
    assert layer["position_norm.weight"].tolist() == [1.0] * 64
    reference = LightSANs(ModelConfig(attention="reference"), 5)
    assert reference.item_table()[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("attention", "variant"), [*((a, {}) for a in ATTENTION), *(("causal", v) for v in VARIANTS)]
)
def test_every_parameter_has_a_gradient(attention, variant):
    """Distributed training waits for all of them."""
    model = make_model(attention, **variant).train()
    item_ids, lengths = make_batch([9, 4])
    model(item_ids, lengths, every_position=attention == "causal").sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_same_weights_fit_all_kinds(attention):
    make_model(attention).load_state_dict(make_model("causal").state_dict())


def test_only_causal_attention_has_a_vector_for_every_position():
    item_ids, lengths = make_batch([4])
    with pytest.raises(ValueError, match=r"attention='masked' has one vector per sequence"):
        make_model("masked")(item_ids, lengths, every_position=True)


def test_histories_that_the_model_cannot_read_are_refused():
    model = make_model()
    item_ids, lengths = make_batch([4, 2])
    with pytest.raises(ValueError, match=r"10 wide, but the model reads 1 to max_seq_len=9 items"):
        model(*make_batch([10]))
    with pytest.raises(ValueError, match=r"ids from 0 to 13, but the model knows 1 to 12"):
        model.encode(torch.tensor([[13, 0]]), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"ids from -1 to 3"):
        model.encode(torch.tensor([[3, -1]]), torch.tensor([2]))
    with pytest.raises(ValueError, match=r"values from 2 to 5, but rows are 4 wide"):
        model.encode(item_ids, torch.tensor([5, 2]))
    with pytest.raises(ValueError, match=r"a 0 before the end .* pad with 0 on the right"):
        model.encode(torch.tensor([[0, 3]]), torch.tensor([2]))
    with pytest.raises(ValueError, match=r"\(2, 4\) and lengths of shape \(1,\) do not match"):
        model.encode(item_ids, lengths[:1])


def test_a_model_can_be_sent_to_another_process():
    for activation in ACTIVATIONS:
        model = make_model(hidden_act=activation)
        history = make_batch([9, 4])
        copy = pickle.loads(pickle.dumps(model))
        torch.testing.assert_close(copy.encode(*history), model.encode(*history))


def test_configurations_and_errors_load_without_torch():
    """Tasks that only prepare data start in a fraction of the time."""
    script = "import sys, lightsans, lightsans.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'LightSAN'"):
        lightsans.LightSAN  # noqa: B018


def test_a_model_without_items_is_refused():
    with pytest.raises(ConfigError, match="num_items=0 must be at least 1"):
        LightSANs(ModelConfig(), 0)


def test_interests_fade_at_rates_from_a_few_items_to_a_whole_history():
    weights = make_model(interest_decay="position", k_interests=5).state_dict()
    rates = nn.functional.softplus(weights["layers.0.attention.decay"])
    expected = [1 / 400, (1 / 400) ** 0.75 * (1 / 3) ** 0.25, (1 / 1200) ** 0.5]
    torch.testing.assert_close(rates[:3], torch.tensor(expected))
    torch.testing.assert_close(rates[4], torch.tensor(1 / 3))
    torch.testing.assert_close(rates[5:], rates[:5])
