"""LightSANs once more, slowly: one unpadded sequence at a time, plain softmaxes, float64.

Written from the formulas of the paper, with loops where the project's code reorders sums. Only
`torch` operations are used, so that gradients can be compared too.
"""

import itertools
import math

import torch
from torch import Tensor

from lightsans.model.causal import causal_item_context
from lightsans.model.layers import ACTIVATIONS
from lightsans.model.network import LightSANs

Weights = dict[str, Tensor]


def double_weights(model: LightSANs) -> Weights:
    """A float64 copy of the weights, each with its own gradient."""
    return {
        name: tensor.detach().double().requires_grad_()
        for name, tensor in model.state_dict().items()
    }


def causal_vectors(
    model: LightSANs,
    weights: Weights,
    item_ids: list[int],
    timestamps: list[int] | None = None,
    now: list[int] | None = None,
) -> Tensor:
    """The vector of every prefix, (L, D): each layer reads only what earlier prefixes gave.

    ``timestamps`` are microseconds of the items, ``now`` those of a request after each prefix.
    """
    x, last = _item_vectors(model, weights, item_ids, timestamps), model.config.n_layers - 1
    clock = _clock(model, len(x), timestamps)
    for i in range(model.config.n_layers):
        rows = []
        for t in range(len(x)):
            request = None
            if i == last and timestamps is not None and now is not None:
                number = _gap_class(now[t] - timestamps[t])
                request = weights["request_embedding.weight"][number]
            rows.append(paper_layer(model, weights, i, x[: t + 1], clock[: t + 1], request)[t])
        x = torch.stack(rows)
    return _user_vectors(model, weights, x)


def masked_vector(model: LightSANs, weights: Weights, item_ids: list[int]) -> Tensor:
    """The vector of one sequence, (D,): all positions read from the whole sequence."""
    x = _item_vectors(model, weights, item_ids)
    for i in range(model.config.n_layers):
        x = paper_layer(model, weights, i, x, _clock(model, len(x), None))
    return _user_vectors(model, weights, x)[-1]


def paper_layer(
    model: LightSANs,
    weights: Weights,
    index: int,
    x: Tensor,
    clock: Tensor,
    request: Tensor | None = None,
) -> Tensor:
    """One encoder layer on a single sequence without padding, (L, D) -> (L, D)."""
    own = {
        name.removeprefix(f"layers.{index}."): tensor
        for name, tensor in weights.items()
        if name.startswith(f"layers.{index}.")
    }
    norms_first, inputs = model.config.norm_placement == "pre", x
    if norms_first:
        x = _norm(model, own, "attention_norm", x)
    read = _paper_attention(model, weights, own, x, clock)
    if request is not None:
        inputs = inputs + request
    if model.config.gate == "residual":
        read = read * _linear(own, "attention_gate.map", inputs).sigmoid()
    x = inputs + read
    x = inputs = x if norms_first else _norm(model, own, "attention_norm", x)
    if norms_first:
        x = _norm(model, own, "feed_forward_norm", x)
    inner = ACTIVATIONS[model.config.hidden_act](_linear(own, "inner", x))
    fed = _linear(own, "outer", inner)
    if model.config.gate == "residual":
        fed = fed * _linear(own, "feed_forward_gate.map", inputs).sigmoid()
    x = inputs + fed
    return x if norms_first else _norm(model, own, "feed_forward_norm", x)


def _paper_attention(
    model: LightSANs, weights: Weights, own: Weights, x: Tensor, clock: Tensor
) -> Tensor:
    """Both branches of a layer, heads side by side, after the output map, (L, D)."""
    width = x.shape[1]
    head = width // model.config.n_heads
    q, k, v = (_linear(own, f"attention.{name}", x) for name in ("query", "key", "value"))
    fading_k, fading_v = _fading(own, clock)
    interests_k = _mean_weights(k @ own["attention.key_theta"], fading_k).T @ k
    interests_v = _mean_weights(v @ own["attention.value_theta"], fading_v).T @ v
    position_weights = _position_weights(model, weights, own, clock)
    contexts = []
    for n in range(model.config.n_heads):
        part = slice(n * head, (n + 1) * head)
        scores = q[:, part] @ interests_k[:, part].T / math.sqrt(head)
        by_item = scores.softmax(1) @ interests_v[:, part]
        contexts.append(by_item + position_weights[n] @ v[:, part])
    context = torch.cat(contexts, dim=1)
    if model.config.gate == "pointwise":
        gate = _linear(own, "attention.gate.map", x)
        context = _norm(model, own, "attention.gate.norm", context) * gate * gate.sigmoid()
    return _linear(own, "attention.output", context)


def _mean_weights(logits: Tensor, fading: Tensor) -> Tensor:
    """Weights of a mean over items, each times what its age has left of it; by interest."""
    weights = logits.softmax(0) * fading
    return weights / weights.sum(0)


def _clock(model: LightSANs, length: int, timestamps: list[int] | None) -> Tensor:
    """Time of each item by the clock: positions, or also the logarithms of minutes between."""
    if model.config.interest_decay != "time":
        return torch.arange(length, dtype=torch.float64)
    assert timestamps is not None
    shown = [0.0]
    for earlier, later in itertools.pairwise(timestamps):
        shown.append(shown[-1] + 1 + math.log(1 + (later - earlier) / 60e6))
    return torch.tensor(shown, dtype=torch.float64)


def _left(rates: Tensor, clock: Tensor) -> Tensor:
    """Rest of an item's weight at the newest one, for each rate, (L, rates)."""
    return torch.exp(-(clock[-1] - clock).view(-1, 1) * (1 + rates.exp()).log())


def _fading(own: Weights, clock: Tensor) -> tuple[Tensor, Tensor]:
    """Rest of an item's weight for its age, for keys and values, (L, K)."""
    sizes = own["attention.key_theta"].shape[1]
    if "attention.decay" not in own:
        return torch.ones(len(clock), sizes), torch.ones(len(clock), sizes)
    left = _left(own["attention.decay"], clock)
    return left[:, :sizes], left[:, sizes:]


def _position_weights(
    model: LightSANs, weights: Weights, own: Weights, clock: Tensor
) -> list[Tensor]:
    """Weights of the position branch, a matrix for each head."""
    heads, width, length = model.config.n_heads, model.config.hidden_size, len(clock)
    if model.config.positions == "fading":
        left = _left(own["attention.position_decay"], clock)
        mix = own["attention.position_mix"].exp()
        of_newest = (left / left.sum(0)) @ (mix / mix.sum(1, keepdim=True)).T  # (L, N)
        return [of_newest[:, n].expand(length, length) for n in range(heads)]
    if model.config.positions == "relative":
        rows = torch.arange(length)
        distances = (rows.view(-1, 1) - rows).abs()
        return [own["attention.position_logits"][n][distances].softmax(1) for n in range(heads)]
    positions = weights["position_embedding.weight"][:length]
    positions = _norm(model, own, "attention.position_norm", positions)
    q = _linear(own, "attention.position_query", positions)
    k = _linear(own, "attention.position_key", positions)
    head = width // heads
    found = []
    for n in range(heads):
        part = slice(n * head, (n + 1) * head)
        logits = q[:, part] @ k[:, part].T / math.sqrt(2 * head)
        if model.config.position_scaling == "twice":
            logits = logits / math.sqrt(head)
        if model.config.position_scaling == "learned":
            logits = logits * own["attention.position_temperature"][n].exp()
        found.append(logits.softmax(1))
    return found


def item_context(q: Tensor, k: Tensor, v: Tensor, logits: Tensor) -> Tensor:
    """The causal item branch of one head of one sequence, prefix by prefix, (L, H)."""
    is_later = torch.ones(len(q), len(q), dtype=torch.bool).triu(1).unsqueeze(-1)
    weights = logits.unsqueeze(0).masked_fill(is_later, -torch.inf).softmax(1)  # prefix, item, J
    key_weights, value_weights = weights.chunk(2, dim=-1)
    keys = torch.einsum("tsk,sh->tkh", key_weights, k)
    values = torch.einsum("tsk,sh->tkh", value_weights, v)
    probs = (torch.einsum("th,tkh->tk", q, keys) / math.sqrt(q.shape[1])).softmax(1)
    return torch.einsum("tk,tkh->th", probs, values)


def require_exact_item_context(
    q: Tensor, k: Tensor, v: Tensor, logits: Tensor, *, wider: float = 1
) -> None:
    """Hold values and gradients of the causal item branch against float64, prefix by prefix.

    Args:
        q: Queries, (B, N, L, H), like ``k`` and ``v``.
        k: Keys.
        v: Values.
        logits: Pooling logits, (B, L, J).
        wider: Factor on the relative tolerance.
    """
    ours = [x.clone().requires_grad_() for x in (q, k, v, logits)]
    exact = [x.double().requires_grad_() for x in (q, k, v, logits)]
    out = causal_item_context(ours[0], ours[1], ours[2], ours[3], lambda x: x)
    rows = [
        item_context(exact[0][b, n], exact[1][b, n], exact[2][b, n], exact[3][b])
        for b in range(len(logits))
        for n in range(q.shape[1])
    ]
    expected = torch.stack(rows).view(q.shape)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5 * wider, atol=1e-5)
    direction = torch.randn_like(out)
    out.backward(direction)
    expected.backward(direction.double())
    for x, y in zip(ours, exact, strict=True):
        assert x.grad is not None
        assert y.grad is not None
        torch.testing.assert_close(
            x.grad.double(), y.grad, rtol=1e-4 * wider, atol=2e-5 if wider == 1 else 5e-5
        )


def _item_vectors(
    model: LightSANs, weights: Weights, item_ids: list[int], timestamps: list[int] | None = None
) -> Tensor:
    x = weights["item_embedding.weight"][item_ids]
    if timestamps is not None and model.config.gaps != "none":
        pairs = itertools.pairwise(timestamps)
        gaps = [0, *(_gap_class(later - earlier) for earlier, later in pairs)]
        x = x + weights["gap_embedding.weight"][gaps]
    return _norm(model, weights, "item_norm", x)


def _gap_class(gap: int) -> int:
    """Class of a gap in microseconds: 1 below a second, then one more for each doubling."""
    return 1 + min((gap // 1_000_000).bit_length(), 32)


def _user_vectors(model: LightSANs, weights: Weights, x: Tensor) -> Tensor:
    """Norm and scale after the last layer, (L, D) -> (L, D)."""
    if model.config.norm_placement == "pre":
        x = _norm(model, weights, "final_norm", x)
    if model.config.scores == "cosine":
        x = x / x.norm(dim=1, keepdim=True) / weights["cosine.log_temperature"].exp()
    return x


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(model: LightSANs, weights: Weights, name: str, x: Tensor) -> Tensor:
    is_rms = model.config.norm == "rms"
    centred = x if is_rms else x - x.mean(1, keepdim=True)
    deviation = (centred.square().mean(1, keepdim=True) + model.config.layer_norm_eps).sqrt()
    scaled = centred / deviation * weights[f"{name}.weight"]
    return scaled if is_rms else scaled + weights[f"{name}.bias"]
