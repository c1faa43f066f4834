"""Quality against time: every kind of attention trained on one log, beside RecBole's own run.

    make bench NAME=quality ARGS="--data data/ml-100k.inter [--kinds causal] [--seeds 2020 2021]"

Leave-one-out, all ratings, all items ranked, seen ones included; the epoch is chosen by valid
ndcg@10 and test looked at once. RecBole's run is that of `benchmarks/train_recbole.py`:
``--recbole OUTPUT/epochs.jsonl`` reads its log, and ``--recbole-speed`` says how many targets a
second it trains on a quiet machine (`benchmarks/train_step.py` measures it).

Time is the wall-clock of training and validation. Where a run shares its core with others or is
paused, ``--clock cpu`` takes the processor time of its one thread instead, which both leave alone.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from benchmarks.movielens import SMOKE, load_log, smoke_log
from benchmarks.training import Trained, train
from lightsans.config import RunConfig
from lightsans.config.file import load_config
from lightsans.training.progress import EpochRow

METRIC = "ndcg@10"
GOAL = 30.0
"""Speedup with which `causal` has to reach the metric that RecBole converges to."""
AVERAGED = (
    "train.ema_decay=0.998",
    "train.warmup_epochs=1",
    "train.precision=bf16",
    "model.hidden_dropout_prob=0.5",
)
PREFIXES = (
    *AVERAGED,
    "train.batch_size=2048",
    "train.learning_rate=2e-3",
    "train.epochs=6",
    "model.attn_dropout_prob=0.5",
)
RECIPES: dict[str, tuple[str, ...]] = {
    "reference": PREFIXES,  # RecBole's batches and dropout
    "masked": PREFIXES,
    "causal": (
        *AVERAGED,
        "train.batch_size=24",
        "train.window_stride=50",
        "train.learning_rate=4e-3",
        "train.epochs=16",
        "model.k_interests=10",
        "model.attn_dropout_prob=0.4",
    ),
}
"""Recipe of each kind, at a constant rate; docs/experiments.md has what else was tried."""


def time_to(run: Trained, goal: float) -> float | None:
    """Seconds until valid first reaches ``goal``; None if it never does."""
    return next((seconds for seconds, row in _epochs(run) if row.valid[METRIC] >= goal), None)


def _epochs(run: Trained) -> Iterator[tuple[float, EpochRow]]:
    return zip(run.seconds, run.curve, strict=True)


def make_config(kind: str, seed: int, overrides: list[str]) -> RunConfig:
    """The recipe of a kind; one process holds all users."""
    fixed = [f"model.attention={kind}", f"train.seed={seed}"]
    whole = ["train.num_workers=1", "train.virtual_shards=1"]
    return load_config(None, [*fixed, *whole, *RECIPES[kind], *overrides]).config


def summary(kind: str, runs: list[Trained], clock: str, threads: int) -> dict[str, Any]:
    """Best valid and test of a kind over its seeds, mean and standard deviation, and the curves."""
    found: dict[str, Any] = {
        "kind": kind,
        "seeds": len(runs),
        "distinct_targets_per_epoch": runs[0].curve[0].distinct_targets,
        "threads": threads,
        "clock": clock,
        "epochs": [len(run.curve) for run in runs],
        "seconds_to_best": _spread([run.seconds_to_best for run in runs]),
        "seconds": [run.seconds[-1] for run in runs],
    }
    for name in ("hit@10", METRIC, "mrr@10"):
        found[f"valid {name}"] = _spread([run.best.valid[name] for run in runs])
        found[f"test {name}"] = _spread([run.test[name] for run in runs])
    found["curves"] = [
        [(seconds, round(row.valid[METRIC], 4)) for seconds, row in _epochs(run)] for run in runs
    ]
    return found


def _spread(values: list[float]) -> dict[str, float]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "sd": round(deviation, 4)}


def mean_time_to(runs: list[Trained], goal: float) -> float | None:
    """Seconds until the mean over runs of the best valid metric so far reaches ``goal``."""
    for seconds in sorted(end for run in runs for end in run.seconds):
        found = [[row.valid[METRIC] for end, row in _epochs(r) if end <= seconds] for r in runs]
        if all(found) and statistics.mean(map(max, found)) >= goal:
            return seconds
    return None


def against_recbole(kind: str, runs: list[Trained], log: Path, speed: float) -> dict[str, Any]:
    """Speedup with which our runs, on average, reach RecBole's best valid metric, by its own speed.

    Args:
        kind: Kind of our runs.
        runs: One per seed.
        log: RecBole's epochs, a JSON object a line.
        speed: Targets a second that RecBole trains.
    """
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    best = max(rows, key=lambda row: row[METRIC])
    peer = best["epoch"] * runs[0].curve[0].distinct_targets / speed
    ours = mean_time_to(runs, best[METRIC])
    return harness.case(
        f"{kind}: valid {METRIC} {best[METRIC]:.4f}, RecBole's best, of epoch "
        f"{best['epoch']} of {len(rows)}",
        ours=None if ours is None else round(ours, 3),
        peer=round(peer, 1),
        unit="s",
        ratio=None if ours is None else round(peer / ours, 1),
        goal=GOAL if kind == "causal" else 0.0,
        by_seed=[time_to(run, best[METRIC]) for run in runs],
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log, no goals")
    parser.add_argument("--data", type=Path, default=Path("data/ml-100k.inter"))
    parser.add_argument("--kinds", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    parser.add_argument("--minutes", type=float, default=30.0, help="limit of each run")
    harness.add_clock(parser)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="overrides")
    parser.add_argument("--recbole", type=Path, help="epochs.jsonl of benchmarks/train_recbole.py")
    parser.add_argument("--recbole-speed", type=float, help="its targets/s on a quiet machine")
    options = harness.parse(parser)
    if options.recbole and not options.recbole_speed:
        parser.error("--recbole needs --recbole-speed, which benchmarks/train_step.py measures")
    return options


def main() -> None:
    """Parse, train and report."""
    options = parse()
    torch.set_num_threads(options.threads)
    log = smoke_log() if options.smoke else load_log(options.data)
    overrides = [*SMOKE] if options.smoke else options.overrides
    seeds = options.seeds[:1] if options.smoke else options.seeds
    kinds: list[dict[str, Any]] = []
    cases: list[harness.Case] = []
    for kind in options.kinds:
        runs = []
        for seed in seeds:
            print(f"{kind}, seed {seed}", flush=True)
            config = make_config(kind, seed, overrides)
            runs.append(train(log, config, options.minutes, options.clock))
        kinds.append(summary(kind, runs, options.clock, options.threads))
        shown = {k: v for k, v in kinds[-1].items() if k != "curves"}
        print(json.dumps(shown, indent=1), flush=True)
        if options.recbole:
            case = against_recbole(kind, runs, options.recbole, options.recbole_speed)
            cases.append(case)
            print(json.dumps(case), flush=True)
    harness.report(
        options,
        "quality",
        harness.machine(f"{options.threads} threads"),
        cases,
        data=log.source,
        settings=overrides,
        kinds=kinds,
    )


if __name__ == "__main__":
    main()
