"""Training speed: our three kinds against RecBole's LightSANs and SASRec, and a causal SASRec.

    .venv-bench/bin/python -m benchmarks.train_step [--smoke] [--json] [--data DIR] [--threads 2]

A step is forward, loss, backward and Adam; batches are made beforehand, of the same log. RecBole
and `reference` learn from the same prefixes, one target each; `causal` and the causal SASRec from
the same windows, a target per position. Speed is *distinct* targets a second: where windows
overlap, what an epoch repeats is not counted. Engines take turns; medians are compared. With one
thread, ``--clock cpu`` counts processor time, which other programs on the machine disturb least.

RecBole needs `make bench-env`; without it, its cases are left out. As it comes, importing any of
its sequential models turns PyTorch's anomaly detection on (sine.py), which about halves its speed.
Its models are measured as they come and without; ours are never measured with it. The causal SASRec
is measured with dropout on its attention weights, as ours has it, and without, which lets PyTorch
take its fast path.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.movielens import SIZES, Log, load_or_generate
from benchmarks.recbole_peer import MISSING, interaction, is_installed, make_model
from benchmarks.sasrec import CausalSASRec
from lightsans import LightSANs, ModelConfig
from lightsans.config import Attention, RunConfig, TrainConfig
from lightsans.dataset.samples import distinct_targets
from lightsans.dataset.sequences import UserSequences
from lightsans.losses.cross_entropy import cross_entropy_sum
from lightsans.losses.objective import NextItemObjective
from lightsans.training.batches import Batch, RankEpoch

PAUSE_S = 0.3
"""Pause before each turn: threads of the one before keep a core busy for a while after it."""

PLAIN, FAST_PATH = " without anomaly detection", " without attention dropout"
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Shape(NamedTuple):
    """A size of problem, and what is to be shown at it."""

    name: str
    log: str | None
    """None for random items in histories that fill a window each: real ones are rarely as long."""
    min_rating: float | None
    max_seq_len: int
    k_interests: int
    prefixes: int
    """Prefixes of a batch of the kinds that learn one target from each."""
    windows: int
    window_stride: int
    """The same as in the recipes of pipelines/configs."""
    goals: dict[str, float]


SHAPES = (
    Shape(
        "ML-100K, L 50", "ml-100k", None, 50, 5, 512, 32, 50,
        {"reference": 4.0, "causal": 40.0, "sasrec": 1 / 1.3},
    ),
    Shape(
        "ML-1M, L 200", "ml-1m", 3.0, 200, 20, 128, 32, 100,
        {"reference": 4.0, "causal": 100.0},
    ),
    Shape("full windows, L 1,024", None, None, 1_024, 20, 0, 8, 1_024, {"sasrec": 1.0}),
    Shape("full windows, L 2,048", None, None, 2_048, 20, 0, 4, 2_048, {"sasrec": 1.0}),
)  # fmt: skip
SMOKE = Shape("smoke, L 16", "ml-100k", None, 16, 3, 32, 4, 8, {})


class Engine(NamedTuple):
    """Something that trains."""

    step: Callable[[int], None]
    """Trains on one of its batches."""
    targets: list[float]
    """Distinct targets of each batch."""
    detects_anomalies: bool = False
    """Whether PyTorch looks for NaN in every gradient meanwhile."""


def make_config(shape: Shape, kind: Attention) -> RunConfig:
    """The settings that the recipes share; dropout as `causal` is trained."""
    model = ModelConfig(
        attention=kind,
        max_seq_len=shape.max_seq_len,
        k_interests=shape.k_interests,
        hidden_dropout_prob=0.2,
        attn_dropout_prob=0.2,
    )
    batch_size = shape.windows if kind == "causal" else shape.prefixes
    train = TrainConfig(
        num_workers=1, virtual_shards=1, batch_size=batch_size, window_stride=shape.window_stride
    )
    return RunConfig(model=model, train=train)


def load(shape: Shape, directory: Path) -> Log:
    """The log to train on at this shape."""
    if shape.log is not None:
        return load_or_generate(shape.log, directory, shape.min_rating)
    users, length, num_items = 256, shape.max_seq_len + 3, SIZES["ml-1m"][1]
    items = np.random.default_rng(0).integers(1, num_items + 1, users * length, np.int32)
    offsets = np.arange(users + 1, dtype=np.int64) * length
    return Log(UserSequences(items, offsets), num_items, "random items")


def some_batches(log: Log, config: RunConfig, count: int) -> tuple[list[Batch], list[float]]:
    """Random batches of one epoch, and their shares of its distinct targets."""
    epoch = RankEpoch({0: log.users}, 0, config, log.num_items)
    epoch.set_num_steps(epoch.longest_shard)
    targets = epoch.targets_per_step()
    share = distinct_targets(log.users) / float(targets.sum())
    steps = np.random.default_rng(0).permutation(len(targets))[:count]
    return [epoch.batch(int(step)) for step in steps], [share * float(targets[s]) for s in steps]


def ours(
    log: Log,
    config: RunConfig,
    batches: list[Batch],
    targets: list[float],
    weights: dict[str, Tensor] | None = None,
) -> Engine:
    """A kind of ours, its loss and its optimizer; from new weights or from given ones."""
    objective = NextItemObjective(LightSANs(config.model, log.num_items)).train()
    if weights is not None:
        objective.model.load_state_dict(weights)
    tensors = [
        [torch.from_numpy(array) for array in (b.item_ids, b.lengths, b.target_ids)]
        for b in batches
    ]

    def loss(index: int) -> Tensor:
        number = int((batches[index].target_ids > 0).sum())
        mean: Tensor = objective(*tensors[index]) / number
        return mean

    return Engine(_stepper(objective, loss, fused=True), targets)


def causal_sasrec(
    log: Log, config: RunConfig, batches: list[Batch], targets: list[float]
) -> Engine:
    """The causal SASRec with our loss and our optimizer."""
    model = CausalSASRec(config.model, log.num_items).train()
    tensors = [[torch.from_numpy(a).long() for a in (b.item_ids, b.target_ids)] for b in batches]

    def loss(index: int) -> Tensor:
        item_ids, target_ids = tensors[index]
        rows_T = target_ids.flatten().nonzero().squeeze(1)
        vectors_TD = model(item_ids).flatten(0, 1).index_select(0, rows_T)
        target_T = target_ids.flatten().index_select(0, rows_T) - 1
        total = cross_entropy_sum(vectors_TD, model.item_embedding.weight[1:], target_T)
        return total / len(rows_T)

    return Engine(_stepper(model, loss, fused=True), targets)


def recbole(
    name: str, log: Log, config: RunConfig, batches: list[Batch], targets: list[float]
) -> Engine:
    """A model of RecBole with its own loss and the optimizer of its trainer."""
    settings = {
        "MAX_ITEM_LIST_LENGTH": config.model.max_seq_len,
        "k_interests": config.model.k_interests,
        "hidden_dropout_prob": config.model.hidden_dropout_prob,
        "attn_dropout_prob": config.model.attn_dropout_prob,
        "loss_type": "CE",
    }
    model = make_model(name, settings, log.num_items).train()
    rows = []
    for batch in batches:
        missing = config.model.max_seq_len - batch.item_ids.shape[1]
        item_ids = np.pad(batch.item_ids, ((0, 0), (0, missing)))
        rows.append(
            interaction(
                *(torch.from_numpy(a).long() for a in (item_ids, batch.lengths, batch.target_ids))
            )
        )
    return Engine(_stepper(model, lambda i: model.calculate_loss(rows[i]), fused=False), targets)


def _stepper(
    module: nn.Module, loss: Callable[[int], Tensor], fused: bool
) -> Callable[[int], None]:
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=fused)

    def step(index: int) -> None:
        optimizer.zero_grad()
        loss(index).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def make_engines(shape: Shape, log: Log, num_batches: int) -> dict[str, Engine]:
    """All engines of a shape, by name."""
    config = make_config(shape, "causal")
    without = replace(config, model=replace(config.model, attn_dropout_prob=0.0))
    windows = some_batches(log, config, num_batches)
    engines = {
        "causal": ours(log, config, *windows),
        "causal SASRec": causal_sasrec(log, config, *windows),
        f"causal SASRec{FAST_PATH}": causal_sasrec(log, without, *windows),
    }
    if not shape.prefixes:
        return engines
    config = make_config(shape, "reference")
    prefixes = some_batches(log, config, num_batches)
    engines["reference"] = ours(log, config, *prefixes)
    masked = make_config(shape, "masked")
    engines["masked"] = ours(log, masked, *some_batches(log, masked, num_batches))
    if is_installed():
        for name in ("LightSANs", "SASRec"):
            engine = recbole(name, log, config, *prefixes)
            engines[f"RecBole {name}"] = engine._replace(detects_anomalies=True)
            engines[f"RecBole {name}{PLAIN}"] = engine
    return engines


def measure(
    engines: dict[str, Engine], repeats: int, turn_s: float, clock: Callable[[], float]
) -> dict[str, float]:
    """Distinct targets a second, medians over turns of ``turn_s`` seconds and at least a step."""
    for engine in engines.values():
        torch.autograd.set_detect_anomaly(engine.detects_anomalies)
        engine.step(0)
    order = {name: itertools.cycle(range(len(e.targets))) for name, e in engines.items()}
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(repeats):
        for name, engine in engines.items():
            torch.autograd.set_detect_anomaly(engine.detects_anomalies)
            time.sleep(PAUSE_S)
            started, targets = clock(), 0.0
            while targets == 0 or clock() - started < turn_s:
                index = next(order[name])
                engine.step(index)
                targets += engine.targets[index]
            speeds[name].append(targets / (clock() - started))
    return {name: statistics.median(values) for name, values in speeds.items()}


def compare(shape: Shape, log: Log, speed: dict[str, float]) -> list[dict[str, Any]]:
    """Every comparison that this environment can make."""
    pairs = [
        ("reference", "RecBole LightSANs", "reference"),
        ("reference", "RecBole LightSANs" + PLAIN, "reference"),
        ("masked", "RecBole LightSANs" + PLAIN, ""),
        ("causal", "RecBole LightSANs", "causal"),
        ("causal", "RecBole LightSANs" + PLAIN, "causal"),
        ("causal", "RecBole SASRec" + PLAIN, ""),
        ("causal", "causal SASRec", "sasrec"),
        ("causal", "causal SASRec" + FAST_PATH, "sasrec"),
    ]
    return [
        harness.case(
            f"{shape.name}: {name} against {peer}",
            ours=round(speed[name], 1),
            peer=round(speed[peer], 1),
            unit="distinct targets/s",
            ratio=round(speed[name] / speed[peer], 2),
            goal=round(shape.goals.get(goal, 0.0), 2),
            data=log.source,
        )
        for name, peer, goal in pairs
        if name in speed and peer in speed
    ]


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="directory of .inter files")
    harness.add_clock(parser)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--turn-s", type=float, default=1.5, help="length of a turn, at least")
    options = harness.parse(parser)
    if options.smoke:
        options.repeats, options.batches, options.turn_s = 1, 1, 0.0
    torch.set_num_threads(options.threads)
    if not is_installed():
        print(f"{MISSING}. Compared with the causal SASRec only")
    cases = []
    for shape in (SMOKE,) if options.smoke else SHAPES:
        torch.manual_seed(0)
        log = load(shape, options.data)
        engines = make_engines(shape, log, options.batches)
        speed = measure(engines, options.repeats, options.turn_s, CLOCKS[options.clock])
        print(
            f"{shape.name}, {log.source}: " + ", ".join(f"{n} {v:,.0f}" for n, v in speed.items())
        )
        cases += compare(shape, log, speed)
    for case in cases:
        print(f"{case['case']}: {case['ratio']} times (goal {case['goal']})")
    harness.report(
        options,
        "train_step",
        harness.machine(f"{options.threads} threads"),
        cases,
        clock=options.clock,
        torch=torch.__version__,
    )


if __name__ == "__main__":
    main()
