"""Time and peak memory against the length of histories, for the three kinds and a causal SASRec.

    python -m benchmarks.attention_scaling [--smoke] [--json] [--plot FILE.png] [--device cuda]

A pass is forward and backward of a whole encoder over some full sequences, without a loss over the
catalogue. `causal` and SASRec, which runs on PyTorch's scaled_dot_product_attention, give a vector
for each position; `masked` and `reference` one for each sequence. The two branches of causal
attention are measured apart as well, that of positions with its matrix and with means that fade in
its place, by position and by a clock of each sequence: time grows as a power of the length, and the
fitted exponents say which. Fits begin at `FIT_FROM`, below which calls cost more than arithmetic.
On a CPU, times are processor times of one thread, which other programs on the machine disturb
least.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.memory import now, peak_extra_bytes
from benchmarks.sasrec import CausalSASRec
from lightsans import LightSANs, ModelConfig
from lightsans.config import Attention
from lightsans.model.attention import (
    AbsoluteLogits,
    causal_weights,
    position_divisors,
    read_positions,
)
from lightsans.model.causal import causal_item_context
from lightsans.model.fading import FadingPositions
from lightsans.model.layers import EXPONENTIALS

SEQUENCES, NUM_ITEMS, INTERESTS, HEADS, HEAD_SIZE = 4, 3_000, 10, 2, 32
LENGTHS = [50, 100, 200, 400, 1024, 2048, 4096]
FIT_FROM = 200
ITEM_GOAL = 1.15
SASREC_GOALS = {50: 1 / 1.3, 1024: 1.0, 2048: 1.0, 4096: 1.0}
"""Times SASRec's speed that causal is to reach."""
MIB = 2**20

Pass = Callable[[], object]


class Measured(NamedTuple):
    """Time and memory of one engine at one length."""

    ms: float
    extra_mib: float | None


def encoder(kind: Attention, length: int, device: torch.device) -> Pass:
    """Forward and backward of a LightSANs encoder."""
    model = LightSANs(settings(length, kind), NUM_ITEMS).to(device).train()
    item_ids, lengths = histories(length, device), torch.full((SEQUENCES,), length, device=device)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        model(item_ids, lengths, every_position=kind == "causal").square().sum().backward()

    return run


def sasrec(length: int, device: torch.device) -> Pass:
    """The same of a causal SASRec of the same width."""
    model = CausalSASRec(settings(length, "causal"), NUM_ITEMS).to(device).train()
    item_ids = histories(length, device)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        model(item_ids).square().sum().backward()

    return run


def item_branch(length: int, device: torch.device) -> Pass:
    """Causal attention to interests alone, for one layer."""
    q, k, v = parts(length, device)
    logits = torch.randn(SEQUENCES, length, 2 * INTERESTS, device=device).requires_grad_()

    def run() -> None:
        causal_item_context(q, k, v, logits, lambda x: x).sum().backward()  # type: ignore[no-untyped-call]

    return run


def position_branch(length: int, device: torch.device) -> Pass:
    """The matrix of position weights and its product with the values alone, for one layer."""
    position_q, position_k = (
        torch.randn(HEADS, length, HEAD_SIZE, device=device).requires_grad_() for _ in range(2)
    )
    _, _, v = parts(length, device)

    def run() -> None:
        logits = AbsoluteLogits(position_q, position_k, position_divisors(HEAD_SIZE, True))
        read_positions(causal_weights(logits), v).sum().backward()  # type: ignore[no-untyped-call]

    return run


def fading_branch(length: int, device: torch.device, clocks: int) -> Pass:
    """Means that fade in the matrix's place; with one clock for all, or one for each sequence."""
    ages = torch.arange(length, device=device).view(1, length, 1).expand(clocks, -1, -1)
    rates = torch.logspace(-2.6, 0.5, EXPONENTIALS, device=device)
    logits = (ages * rates).requires_grad_()
    mix = torch.full((HEADS, EXPONENTIALS), 1 / EXPONENTIALS, device=device).requires_grad_()
    _, _, v = parts(length, device)

    def run() -> None:
        FadingPositions(logits, mix).every_prefix(v).sum().backward()  # type: ignore[no-untyped-call]

    return run


def settings(length: int, kind: Attention) -> ModelConfig:
    """Two layers of the default width."""
    return ModelConfig(
        attention=kind,
        max_seq_len=length,
        k_interests=INTERESTS,
        n_heads=HEADS,
        hidden_size=HEADS * HEAD_SIZE,
        hidden_dropout_prob=0.2,
        attn_dropout_prob=0.2,
    )


def histories(length: int, device: torch.device) -> Tensor:
    """Random items."""
    return torch.randint(1, NUM_ITEMS + 1, (SEQUENCES, length), device=device)


def parts(length: int, device: torch.device) -> tuple[Tensor, ...]:
    """Queries, keys and values."""
    qkv = torch.randn(3, SEQUENCES, HEADS, length, HEAD_SIZE, device=device)
    return tuple(x.requires_grad_() for x in qkv.unbind(0))


ENGINES: dict[str, Callable[[int, torch.device], Pass]] = {
    "causal": lambda length, device: encoder("causal", length, device),
    "masked": lambda length, device: encoder("masked", length, device),
    "reference": lambda length, device: encoder("reference", length, device),
    "SASRec": sasrec,
    "item branch": item_branch,
    "position branch": position_branch,
    "fading positions": partial(fading_branch, clocks=1),
    "fading positions, by time": partial(fading_branch, clocks=SEQUENCES),
}


def run_length(length: int, device: torch.device, repeats: int) -> dict[str, Measured]:
    """All engines, taking turns."""
    passes = {name: make(length, device) for name, make in ENGINES.items()}
    memory: dict[str, int | None] = {}
    for name, run in passes.items():
        run()
        memory[name] = peak_extra_bytes(run, device)
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(repeats):
        for name, run in passes.items():
            started = now(device)
            run()
            seconds[name].append(now(device) - started)
    found = {}
    for name, times in seconds.items():
        extra = memory[name]
        mib = None if extra is None else round(extra / MIB, 1)
        found[name] = Measured(round(statistics.median(times) * 1e3, 2), mib)
        print(f"L {length}, {name}: {found[name].ms:,.1f} ms, {mib} MiB")
    return found


def exponent(lengths: list[int], values: list[float]) -> float:
    """The power of the length that fits best: the slope of a line through the logarithms."""
    return round(float(np.polyfit(np.log(lengths), np.log(values), 1)[0]), 2)


def to_cases(found: dict[int, dict[str, Measured]]) -> list[dict[str, Any]]:
    """Causal against SASRec at each length, then the exponents."""
    cases: list[dict[str, Any]] = []
    for length, engines in found.items():
        ours, peer = engines["causal"], engines["SASRec"]
        cases.append(
            harness.case(
                f"L {length}",
                ours=ours.ms,
                peer=peer.ms,
                peer_name="causal SASRec",
                unit="ms a pass",
                ratio=round(peer.ms / ours.ms, 2),
                goal=round(SASREC_GOALS[length], 2) if length in SASREC_GOALS else None,
                all={name: m._asdict() for name, m in engines.items()},
            )
        )
    fitted = [length for length in found if length >= FIT_FROM] or list(found)
    for name in ENGINES:
        of_time = exponent(fitted, [found[length][name].ms for length in fitted])
        is_goal = name == "item branch"
        cases.append(
            harness.case(
                f"exponent of time, {name}",
                ours=of_time,
                peer=ITEM_GOAL if is_goal else None,
                unit="power of L",
                ratio=round(ITEM_GOAL / of_time, 2) if is_goal else None,
                goal=1.0 if is_goal else None,
                exponent_of_memory=_memory_exponent(found, fitted, name),
            )
        )
        print(f"{name}: time grows as L^{of_time}, memory as L^{cases[-1]['exponent_of_memory']}")
    return cases


def _memory_exponent(
    found: dict[int, dict[str, Measured]], lengths: list[int], name: str
) -> float | None:
    """Exponent over the lengths whose memory is more than what pages blur."""
    points = [(length, found[length][name].extra_mib) for length in lengths]
    clear = [(length, mib) for length, mib in points if mib is not None and mib >= 16]
    return exponent(*map(list, zip(*clear, strict=True))) if len(clear) > 1 else None


def plot(found: dict[int, dict[str, Measured]], path: str) -> None:
    """Draw time and memory against the length."""
    panels = []
    for value, label in (("ms", "ms a pass"), ("extra_mib", "MiB at the peak")):
        curves = []
        for name in ENGINES:
            points = [(n, getattr(engines[name], value)) for n, engines in found.items()]
            style = "--" if name.endswith("branch") else "-o"
            curves.append((name, style, [(n, y) for n, y in points if y]))
        panels.append(("length of histories", f"{label} of {SEQUENCES} sequences", curves))
    harness.save_plot(path, panels)


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--plot", metavar="FILE.png", help="draw time and memory")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    options = harness.parse(parser)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(options.device)
    lengths, repeats = ([20, 80], 1) if options.smoke else (LENGTHS, options.repeats)
    found = {length: run_length(length, device, repeats) for length in lengths}
    cases = to_cases(found)
    if options.plot:
        plot(found, options.plot)
    harness.report(
        options,
        "attention_scaling",
        harness.machine(f"one thread, processor time, {device}"),
        cases,
        sequences=SEQUENCES,
    )


if __name__ == "__main__":
    main()
