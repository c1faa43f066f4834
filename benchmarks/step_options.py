"""Options of a training step: each changed alone, against the defaults.

    python -m benchmarks.step_options [--smoke] [--json] [--compile] [--threads 1]

A step is forward, cross-entropy over all items, backward and Adam of a `causal` model over full
windows, in the shapes of MovieLens-100K and -1M. Engines take turns; medians of processor time are
compared, which other programs on the machine disturb least, and with one thread is the time. The
items table is compared at a million items, one step of a sampled loss with it: kept in float32, in
bfloat16, and updated by PyTorch's own SparseAdam. ``--compile`` adds torch.compile, which takes
minutes to begin with.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import harness
from lightsans import LightSANs, ModelConfig
from lightsans.losses.objective import NextItemObjective
from lightsans.model.compiled import compile_layers
from lightsans.model.dropout import Dropout
from lightsans.training.lazy_adam import RowAdam

WINDOWS = 32
ROWS, HIDDEN_SIZE = 4_000, 64
"""Rows of the item table that a step of a sampled loss touches, and their width."""


class Shape(NamedTuple):
    """A size of problem."""

    name: str
    num_items: int
    max_seq_len: int
    k_interests: int


SHAPES = [Shape("ML-100K", 1_682, 50, 5), Shape("ML-1M", 3_628, 200, 20)]
SMOKE = [Shape("tiny", 50, 8, 2)]


class Step:
    """Training steps of one model with one option changed."""

    def __init__(self, shape: Shape, option: str = "defaults") -> None:
        torch.manual_seed(0)
        config = ModelConfig(
            max_seq_len=shape.max_seq_len,
            k_interests=shape.k_interests,
            hidden_dropout_prob=0.2,
            attn_dropout_prob=0.2,
        )
        self._objective = NextItemObjective(LightSANs(config, shape.num_items)).train()
        if option == "torch's dropout":
            use_torchs_dropout(self._objective)
        if option == "torch.compile":
            reason = compile_layers(self._objective.model)
            if reason is not None:
                warnings.warn(f"torch.compile: {reason}", stacklevel=2)
        self._is_rounded = option == "bf16"
        is_fused = option != "Adam not fused"
        self._adam = torch.optim.Adam(self._objective.parameters(), lr=1e-3, fused=is_fused)
        size = WINDOWS, shape.max_seq_len
        self._ids, self._targets = torch.randint(1, shape.num_items + 1, (2, *size))
        self._lengths = torch.full((WINDOWS,), shape.max_seq_len)

    def __call__(self) -> None:
        """One step."""
        self._adam.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._is_rounded):
            loss = self._objective(self._ids, self._lengths, self._targets)
        (loss / self._targets.numel()).backward()
        self._adam.step()


def use_torchs_dropout(module: nn.Module) -> None:
    """Put `torch.nn.Dropout` where ours is."""
    for name, child in list(module.named_children()):
        if isinstance(child, Dropout):
            setattr(module, name, nn.Dropout(child.p))
        else:
            use_torchs_dropout(child)


def row_step(adam: RowAdam, rows: Tensor, grad: Tensor) -> Callable[[], object]:
    """Gathering and updating rows."""

    def run() -> None:
        adam.take(rows)
        adam.step(rows, grad)

    return run


def row_updates(num_items: int) -> dict[str, Callable[[], object]]:
    """Gathering and updating the rows of a step, by three optimizers."""
    shape = num_items + 1, HIDDEN_SIZE
    rows = torch.randperm(num_items)[:ROWS].sort().values + 1
    grad = torch.randn(len(rows), HIDDEN_SIZE) * 1e-3
    found: dict[str, Callable[[], object]] = {}
    for name, dtype in (("defaults", torch.float32), ("table in bf16", torch.bfloat16)):
        found[name] = row_step(RowAdam(torch.randn(shape).to(dtype), 1e-3), rows, grad)
    weight = nn.Parameter(torch.randn(shape))
    sparse = torch.optim.SparseAdam([weight], lr=1e-3)

    def update() -> Tensor:
        taken = weight.detach()[rows]
        weight.grad = torch.sparse_coo_tensor(
            rows.unsqueeze(0), grad, shape, is_coalesced=True, check_invariants=False
        )
        sparse.step()  # type: ignore[no-untyped-call]
        return taken

    return found | {"torch's SparseAdam": update}


def compare(
    name: str, engines: dict[str, Callable[[], object]], repeats: int
) -> list[dict[str, Any]]:
    """Processor time of each engine, taking turns, against the first."""
    for run in engines.values():
        run()
        run()
    seconds: dict[str, list[float]] = {engine: [] for engine in engines}
    for _ in range(repeats):
        for engine, run in engines.items():
            started = time.process_time()
            run()
            seconds[engine].append(time.process_time() - started)
    ms = {engine: statistics.median(times) * 1e3 for engine, times in seconds.items()}
    base = ms.pop("defaults")
    cases = []
    for engine, value in ms.items():
        ratio = round(base / value, 2)
        cases.append(
            harness.case(
                f"{name}: {engine}",
                ours=round(value, 2),
                peer=round(base, 2),
                peer_name="defaults",
                unit="ms a step",
                ratio=ratio,
                goal=None,
            )
        )
        print(f"{name}: {engine} {value:.2f} ms, defaults {base:.2f} ms, {ratio} times")
    return cases


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__, "seconds: small")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    options = harness.parse(parser)
    torch.set_num_threads(options.threads)
    repeats = 1 if options.smoke else options.repeats
    names = ["defaults", "bf16", "Adam not fused", "torch's dropout"]
    names += ["torch.compile"] if options.compile else []
    cases = []
    for shape in SMOKE if options.smoke else SHAPES:
        cases += compare(shape.name, {name: Step(shape, name) for name in names}, repeats)
    num_items = 2 * ROWS if options.smoke else 1_000_000
    cases += compare(f"{num_items:,} items, {ROWS:,} rows", row_updates(num_items), repeats)
    harness.report(
        options,
        "step_options",
        harness.machine(f"{options.threads} threads"),
        cases,
    )


if __name__ == "__main__":
    main()
