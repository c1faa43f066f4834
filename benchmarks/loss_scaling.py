"""Time and peak extra memory of a loss and its optimizer step, against the size of the catalogue.

    python -m benchmarks.loss_scaling [--smoke] [--json] [--plot FILE.png] [--device cuda]

A step draws items, computes the loss of T targets and its gradient, and updates the item table; the
encoder, whose cost does not depend on the catalogue, is left out: a target is predicted from the
vector of another item. Peers compute the same the usual way: the whole matrix of logits for CE, and
for sampled losses a dense gradient and Adam over the whole table. CE's extra memory excludes the
gradients themselves, which are its result, and is compared with the budget it is given. On a CPU,
times are processor times of one thread, which other programs on the machine disturb least.
"""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import harness
from benchmarks.memory import now, peak_extra_bytes
from lightsans.config import ModelConfig, RunConfig
from lightsans.config.kinds import Loss
from lightsans.losses.cross_entropy import (
    LOGITS_BUDGET,
    MIN_ROWS,
    ROW_BLOCK_LIMIT,
    cross_entropy_sum,
)
from lightsans.losses.negatives import NegativeSampler
from lightsans.losses.sampled import bpr_sum, gbce_beta, gbce_sum, sampled_softmax_sum
from lightsans.training.batches import draw_negatives
from lightsans.training.lazy_adam import RowAdam, renumber

HIDDEN_SIZE, TARGETS, NEGATIVES = 64, 800, 1024
SIZES = [1_000, 10_000, 100_000, 1_000_000]
FULL_LOGITS = 100_000
"""Largest catalogue for which a peer holds all logits at once."""
FLAT_FROM = 10_000
"""Smaller catalogues have fewer distinct items in a step."""
PEER = {"CE": "all logits, Adam"}
DENSE = "dense gradient, Adam"
MIB = 2**20
LEAST_MIB = 16.0
"""Smaller budgets are not checked: memory is counted in pages, and libraries keep some."""


class Step(NamedTuple):
    """One step and its parts."""

    run: Callable[[], object]
    loss_alone: Callable[[], object] | None = None
    """Loss and gradient without an update, where their memory is looked at alone."""


class Drawn(NamedTuple):
    """Ids of one step."""

    inputs: np.ndarray[Any, Any]
    targets: np.ndarray[Any, Any]
    negatives: np.ndarray[Any, Any]
    log_expected: np.ndarray[Any, Any] | None


class Items:
    """Draws the ids of step after step: popularity falls as in logs, by log-uniform rank."""

    def __init__(self, loss: Loss, num_items: int) -> None:
        model = ModelConfig(negative_sampling="log_uniform", num_negatives=NEGATIVES)
        self._sampler = NegativeSampler(
            RunConfig(model=model), num_items, np.arange(num_items)[::-1]
        )
        self._loss, self._num_items, self._step = loss, num_items, 0

    def draw(self) -> Drawn:
        """The ids of the next step."""
        self._step += 1
        random = np.random.default_rng(self._step)
        inputs, targets = random.integers(1, self._num_items + 1, (2, TARGETS))
        if self._loss == "BPR":
            keys = random.integers(0, 2**63, TARGETS).astype(np.uint64)
            negatives = draw_negatives(keys, targets.astype(np.int32), self._num_items)
            return Drawn(inputs, targets, negatives, None)
        shared = self._sampler.draw(0, self._step)
        return Drawn(inputs, targets, shared.item_ids, shared.log_expected)


def sampled_loss(loss: Loss, table: Tensor, ids: list[Tensor], drawn: Drawn, n: int) -> Tensor:
    """The loss of the targets, from the rows of ``table`` that the ids number."""
    vectors, targets, negatives = (functional.embedding(i, table, padding_idx=0) for i in ids)
    if loss == "BPR":
        return bpr_sum(vectors, targets, negatives)
    is_target = ids[1].unsqueeze(1) == ids[2]
    if drawn.log_expected is None or loss == "gBCE":
        beta = gbce_beta(NEGATIVES, n, 0.75)
        return gbce_sum(vectors, targets, negatives, is_target, beta)
    log_expected = torch.from_numpy(drawn.log_expected).to(table.device)
    return sampled_softmax_sum(vectors, targets, negatives, is_target, log_expected)


def by_rows(loss: Loss, table: Tensor) -> Step:
    """Ours: the gradient of the step's rows, and an update of these."""
    num_items = len(table) - 1
    items, adam = Items(loss, num_items), RowAdam(table, 1e-3)

    def run() -> None:
        drawn = items.draw()
        numbered = renumber(drawn.inputs, drawn.targets, drawn.negatives)
        rows = torch.from_numpy(numbered.rows).to(table.device)
        ids = [torch.from_numpy(p).to(table.device) for p in numbered.positions]
        vectors = adam.take(rows).requires_grad_()
        sampled_loss(loss, vectors, ids, drawn, num_items).backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        adam.step(rows[1:], vectors.grad[1:])

    return Step(run)


def by_table(loss: Loss, table: Tensor) -> Step:
    """The usual way: a gradient for every item, most of them zero, and Adam over all of them."""
    num_items = len(table) - 1
    items, weight = Items(loss, num_items), torch.nn.Parameter(table)
    adam = torch.optim.Adam([weight], lr=1e-3, fused=True)

    def run() -> None:
        adam.zero_grad(set_to_none=True)
        drawn = items.draw()
        ids = [torch.from_numpy(a).long().to(table.device) for a in drawn[:3]]
        sampled_loss(loss, weight, ids, drawn, num_items).backward()  # type: ignore[no-untyped-call]
        adam.step()

    return Step(run)


def cross_entropy(table: Tensor, is_ours: bool) -> Step:
    """CE over all items with Adam over all of them; ours in blocks, the peer's all at once."""
    items, weight = Items("CE", len(table) - 1), torch.nn.Parameter(table)
    adam = torch.optim.Adam([weight], lr=1e-3, fused=True)

    def loss_alone() -> None:
        weight.grad = None
        drawn = items.draw()
        inputs, targets = (torch.from_numpy(a).to(table.device) for a in drawn[:2])
        vectors = table.index_select(0, inputs).requires_grad_()
        if is_ours:
            loss = cross_entropy_sum(vectors, weight[1:], targets - 1)
        else:
            logits = vectors @ weight[1:].t()
            loss = functional.cross_entropy(logits, targets - 1, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]

    def run() -> None:
        loss_alone()
        adam.step()

    return Step(run, loss_alone)


def make_table(num_items: int, device: torch.device) -> Tensor:
    """Small random vectors; the first row is padding."""
    generator = torch.Generator(device).manual_seed(0)
    table = torch.randn(num_items + 1, HIDDEN_SIZE, generator=generator, device=device)
    return table.mul_(0.1)


class Measured(NamedTuple):
    """Time and memory of one step."""

    ms: float
    extra_mib: float | None
    loss_extra_mib: float | None


def measure(step: Step, device: torch.device, repeats: int) -> Measured:
    """Median time, and the memory of a step after the first, which makes the optimizer's state."""
    step.run()
    loss_extra = None
    if step.loss_alone is not None:
        loss_extra = peak_extra_bytes(step.loss_alone, device)
    extra = peak_extra_bytes(step.run, device)
    seconds = []
    for _ in range(repeats):
        started = now(device)
        step.run()
        seconds.append(now(device) - started)
    to_mib = [None if b is None else round(b / MIB, 1) for b in (extra, loss_extra)]
    return Measured(round(statistics.median(seconds) * 1e3, 2), *to_mib)


def run_sizes(
    loss: Loss, sizes: list[int], device: torch.device, repeats: int
) -> dict[int, dict[str, Measured]]:
    """Ours and the peer at each size."""
    found: dict[int, dict[str, Measured]] = {}
    for num_items in sizes:
        makers: dict[str, Callable[[Tensor], Step]]
        if loss == "CE":
            makers = {"ours": lambda table: cross_entropy(table, True)}
            if num_items <= FULL_LOGITS:
                makers["peer"] = lambda table: cross_entropy(table, False)
        else:
            makers = {"ours": lambda t: by_rows(loss, t), "peer": lambda t: by_table(loss, t)}
        times = max(1, repeats // 10) if loss == "CE" and num_items >= FULL_LOGITS else repeats
        found[num_items] = {
            name: measure(make(make_table(num_items, device)), device, times)
            for name, make in makers.items()
        }
        for name, m in found[num_items].items():
            print(f"{loss}, {num_items:,} items, {name}: {m.ms:,.1f} ms, {m.extra_mib} MiB extra")
    return found


def to_cases(loss: Loss, found: dict[int, dict[str, Measured]]) -> list[dict[str, Any]]:
    """Cases of the report: each size against the peer, then what was to be shown."""
    cases = []
    for num_items, both in found.items():
        ours, peer = both["ours"], both.get("peer")
        case = harness.case(
            f"{loss}, {num_items:,} items",
            ours=ours.ms,
            peer=None if peer is None else peer.ms,
            peer_name=PEER.get(loss, DENSE),
            unit="ms a step",
            ratio=None if peer is None else round(peer.ms / ours.ms, 2),
            goal=None,
            extra_mib=ours.extra_mib,
            peer_extra_mib=None if peer is None else peer.extra_mib,
        )
        cases.append(case)
    return cases + (_under_budget(found) if loss == "CE" else _flat(loss, found))


def _under_budget(found: dict[int, dict[str, Measured]]) -> list[dict[str, Any]]:
    """CE's memory beside its gradients, against the budget, where pages do not blur it."""
    cases = []
    for num_items, both in found.items():
        logits = min(max(LOGITS_BUDGET["cpu"], MIN_ROWS * num_items), ROW_BLOCK_LIMIT["cpu"])
        budget = logits * 4 / MIB
        extra = both["ours"].loss_extra_mib
        if extra is None or budget < LEAST_MIB:
            continue
        extra = round(extra - (num_items + 1 + TARGETS) * HIDDEN_SIZE * 4 / MIB, 1)
        ratio = round(budget / max(extra, 0.1), 2)
        name = f"CE's extra memory, {num_items:,} items"
        cases.append(
            harness.case(
                name,
                ours=extra,
                peer=round(budget, 1),
                peer_name="budget",
                unit="MiB",
                ratio=ratio,
                goal=1.0,
            )
        )
    return cases


def _flat(loss: Loss, found: dict[int, dict[str, Measured]]) -> list[dict[str, Any]]:
    """A step with the largest catalogue against one with a small one."""
    sizes = [n for n in found if n >= FLAT_FROM]
    if len(sizes) < 2:
        return []
    small, large = found[sizes[0]]["ours"].ms, found[sizes[-1]]["ours"].ms
    name = f"{loss} step, {sizes[-1]:,} items against {sizes[0]:,}"
    return [
        harness.case(
            name,
            ours=large,
            peer=small,
            peer_name="the small catalogue",
            unit="ms a step",
            ratio=round(small / large, 2),
            goal=0.67,
        )
    ]


def plot(results: dict[Loss, dict[int, dict[str, Measured]]], path: str) -> None:
    """Draw time against the number of items; dashed: the peers."""
    curves = []
    for number, (loss, found) in enumerate(results.items()):
        for name, style in (("ours", "-o"), ("peer", "--x")):
            points = [(n, both[name].ms) for n, both in found.items() if name in both]
            label = f"{loss}, {'ours' if name == 'ours' else PEER.get(loss, DENSE)}"
            curves.append((label, f"{style}C{number}", points))
    harness.save_plot(path, [("items", f"ms a step of {TARGETS} targets", curves)])


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--plot", metavar="FILE.png", help="draw the times")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=20)
    options = harness.parse(parser)
    torch.set_num_threads(1)
    device = torch.device(options.device)
    sizes = [500, 2_000] if options.smoke else SIZES
    if device.type == "cuda" and not options.smoke:
        sizes = [*SIZES, 10_000_000]
    repeats = 2 if options.smoke else options.repeats
    losses: list[Loss] = ["CE", "sampled_softmax", "gBCE", "BPR"]
    results = {loss: run_sizes(loss, sizes, device, repeats) for loss in losses}
    cases = [case for loss, found in results.items() for case in to_cases(loss, found)]
    if options.plot:
        plot(results, options.plot)
    harness.report(
        options,
        "loss_scaling",
        harness.machine(f"one thread, processor time, {device}"),
        cases,
        targets=TARGETS,
        negatives=NEGATIVES,
    )


if __name__ == "__main__":
    main()
