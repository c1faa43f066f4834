"""A ladder of settings: each trained under a protocol, a line a finished run, nothing run twice.

    make bench NAME=ladder ARGS="[--smoke] [--json] [--protocol ml-1m-sasrec] [--rungs plain …]
        [--seeds 2020 …] [--epochs 8] [--cut 5 .18] [--keep DIRECTORY] [--data DIRECTORY]"

Valid chooses the epoch by ndcg@10 and, between rungs, the setting; test is looked at once a run,
for the chosen epoch, and chooses nothing. Time is the processor time of one thread, so that runs
may share a machine. Finished runs are lines of ``benchmarks/ladder.jsonl``; without ``--rungs``
nothing is trained, and the table of what is there is printed. Of a protocol and its twin, which
differ in what is left out of the ranking alone, one training gives both lines, each with the epoch
that its own valid chooses. ``--cut`` ends runs that are plainly behind; their lines say so, have no
test and are in no mean. With ``--keep`` weights and the places of test targets are kept, and a run
whose plain model is there has the difference of both over users, with a 95 % interval.
"""

import argparse
import gzip
import json
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import harness
from benchmarks.movielens import SMOKE, Log, arrange, smoke_log
from benchmarks.refit import replicate, rounded
from benchmarks.train_to_quality import CONFIGS, load
from benchmarks.training import Trained, train_for
from lightsans.arrays import Int64
from lightsans.config import RunConfig
from lightsans.config.file import load_config
from lightsans.model.layers import LightAttention
from lightsans.ranking.bootstrap import estimate_differences
from lightsans.ranking.metrics import base_metrics, user_metrics
from lightsans.training.progress import EpochRow

LINES = Path(__file__).with_suffix(".jsonl")
METRICS = ("hit@10", "ndcg@10")


def load_movielens(directory: Path, config: RunConfig) -> Log:
    """MovieLens-1M under the filters of a configuration."""
    return load(directory / "ml-1m.inter", config)


def load_beauty(directory: Path, config: RunConfig) -> Log:
    """Amazon Beauty, 5-core: a user a line, its number first, then its items in order."""
    with gzip.open(directory / "beauty.txt.gz", "rt") as lines:
        rows = [np.array(line.split(), np.int64) for line in lines]
    users = np.concatenate([np.full(len(row) - 1, row[0]) for row in rows])
    items = np.concatenate([row[1:] for row in rows])
    return arrange(users, items, np.arange(len(users)), "beauty.txt.gz")


class Protocol(NamedTuple):
    """Data and convention that figures belong to, and what was published under it."""

    load: Callable[[Path, RunConfig], Log]
    config: str
    overrides: tuple[str, ...]
    published: dict[str, tuple[float, float]]
    """Test hit@10 and ndcg@10."""
    twin: str | None = None
    """Protocol with the same training, and other items in the ranking."""


SHORT = ("model.max_seq_len=50", "model.k_interests=10", "train.window_stride=50")
RECBOLE = (*SHORT, "train.batch_size=128", "train.window_stride=25")
BEAUTY = (
    *SHORT,
    "data.min_item_interactions=1",
    "model.hidden_dropout_prob=0.5",
    "model.attn_dropout_prob=0.5",
    "train.batch_size=128",
    "train.learning_rate=2e-3",
    "train.epochs=40",
)
PROTOCOLS = {
    "ml-1m-sasrec": Protocol(
        load_movielens, "ml-1m-sasrec.yaml", (),
        {"HSTU-large": (0.3294, 0.1893), "HSTU-large, mixture of logits": (0.3412, 0.1979)},
    ),
    "ml-1m-recbole-rating-3": Protocol(
        load_movielens, "ml-1m.yaml", (), {"LightSANs, the authors'": (0.2284, 0.1145)}
    ),
    "ml-1m-recbole": Protocol(
        load_movielens, "ml-1m-sasrec.yaml", (*RECBOLE, "evaluate.remove_seen=false"),
        {"SASRec": (0.2952, 0.1662), "LightSANs": (0.2990, 0.1713)},
        "ml-1m-recbole-seen-removed",
    ),
    # Tells what the items seen cost above; nothing was published for it.
    "ml-1m-recbole-seen-removed": Protocol(
        load_movielens, "ml-1m-sasrec.yaml", RECBOLE, {}, "ml-1m-recbole"
    ),
    "beauty-seen-kept": Protocol(
        load_beauty, "ml-1m-sasrec.yaml", (*BEAUTY, "evaluate.remove_seen=false"),
        {"LightSANs": (0.0861, 0.0444)},
        "beauty-seen-removed",
    ),
    "beauty-seen-removed": Protocol(
        load_beauty, "ml-1m-sasrec.yaml", BEAUTY,
        {"SASRec+SS": (0.0921, 0.0531), "SASRec-SCE": (0.0935, 0.0544), "WEARec": (0.1041, 0.0614)},
        "beauty-seen-kept",
    ),
}  # fmt: skip

PLAIN = (
    *("model.interest_decay=none", "model.positions=absolute"),
    *("model.norm_placement=post", "model.gate=none"),
)
"""Settings that rungs are set against, whatever the files of configuration carry."""
FADING = ("model.interest_decay=position",)
RELATIVE = ("model.positions=relative",)
TIME, KERNEL = "model.interest_decay=time", "model.positions=fading"
"""Kernels in place of a matrix of positions; of time, where interests fade by it."""
PRE_NORM = ("model.norm_placement=pre",)
HSTU = (*PRE_NORM, "model.gate=pointwise")
RUNGS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "once": ("model.position_scaling=once",),
    "learned": ("model.position_scaling=learned",),
    "relative": RELATIVE,
    "fading": FADING,
    "fading-once": (*FADING, "model.position_scaling=once"),
    "fading-relative": (*FADING, *RELATIVE),
    "fading-relative-dropout-3": (
        *FADING,
        *RELATIVE,
        "model.hidden_dropout_prob=0.3",
        "model.attn_dropout_prob=0.3",
    ),
    "fading-relative-96": (*FADING, *RELATIVE, "model.hidden_size=96", "model.inner_size=384"),
    "fading-relative-128": (
        *FADING,
        *RELATIVE,
        "model.hidden_size=128",
        "model.inner_size=512",
        "model.hidden_dropout_prob=0.3",
        "model.attn_dropout_prob=0.3",
    ),
    "fading-relative-3-layers": (*FADING, *RELATIVE, "model.n_layers=3"),
    "fading-relative-4-layers": (*FADING, *RELATIVE, "model.n_layers=4"),
    "fading-relative-256": (
        *FADING,
        *RELATIVE,
        "model.hidden_size=256",
        "model.inner_size=1024",
        "model.hidden_dropout_prob=0.3",
        "model.attn_dropout_prob=0.3",
    ),
    **{
        f"{name}{rung}": (decay, positions, *gaps)
        for rung, gaps in {"": (), "-gaps-request": ("model.gaps=request",)}.items()
        for name, decay, positions in (
            ("fading-kernel", *FADING, KERNEL),
            ("time-relative", TIME, *RELATIVE),
            ("time-kernel", TIME, KERNEL),
        )
    },
    **{
        f"fading-relative-{name}": (*FADING, *RELATIVE, *settings)
        for name, settings in {
            "position-dropout": ("model.position_dropout_prob=0.2",),
            "pre-norm": PRE_NORM,
            "rms": ("model.norm=rms",),
            "ligr": (*PRE_NORM, "model.gate=residual"),
            "hstu": ("model.gate=pointwise",),
            "hstu-pre-norm": HSTU,
            # For windows of 50: each item is learnt from with at least 33 items before it.
            "hstu-pre-norm-overlap": (*HSTU, "train.window_stride=17"),
            "hstu-pre-norm-smoothed": (*HSTU, "model.label_smoothing=0.1"),
            "hstu-pre-norm-128": (*HSTU, "model.hidden_size=128", "model.inner_size=512"),
            "cosine": ("model.scores=cosine",),
            "smoothed": ("model.label_smoothing=0.1",),
            "averaged": ("train.ema_decay=0.998",),
            "gaps-input": ("model.gaps=input",),
            "gaps-request": ("model.gaps=request",),
            "gaps-request-span-10": ("model.gaps=request", "train.target_span=10"),
            "span-10": ("train.target_span=10",),
        }.items()
    },
}


def make_config(protocol: Protocol, rung: str, seed: int, epochs: int | None) -> RunConfig:
    """The settings of a run: one process holds all users."""
    fixed = [f"train.seed={seed}", "train.num_workers=1", "train.virtual_shards=1"]
    length = [] if epochs is None else [f"train.epochs={epochs}"]
    path = str(CONFIGS / protocol.config)
    return load_config(path, [*protocol.overrides, *PLAIN, *RUNGS[rung], *fixed, *length]).config


def run_rung(
    log: Log, configs: Sequence[RunConfig], minutes: float, cut: tuple[int, float] | None
) -> list[tuple[dict[str, Any], Trained]]:
    """Train one run: its figures under each convention."""

    def ends(row: EpochRow) -> bool:
        return cut is not None and row.epoch == cut[0] and row.valid["ndcg@10"] < cut[1]

    runs = train_for(log, configs, minutes, "cpu", ends)
    return [(figures(run, ends(run.curve[-1])), run) for run in runs]


def figures(run: Trained, is_cut: bool) -> dict[str, Any]:
    """Valid by epoch, test of the chosen epoch, processor minutes; test is not told of a cut."""
    tested = {name: round(run.test[name], 5) for name in METRICS}
    return {
        "best_epoch": run.best_epoch,
        "cpu_minutes": round(run.seconds[-1] / 60, 1),
        "valid": round(run.best.valid["ndcg@10"], 5),
        **({"cut": len(run.curve)} if is_cut else {"test": tested}),
        "curve": [round(row.valid["ndcg@10"], 4) for row in run.curve],
        "rates": learned_rates(run.model),
    }


def lead(ours: Int64, theirs: Int64) -> dict[str, list[float]]:
    """Difference of metrics over the same users, with its 95 % interval."""
    names = base_metrics([10])
    chosen = [names.index(name) for name in METRICS]
    sums = [replicate(user_metrics(ranks, [10])[:, chosen].T) for ranks in (ours, theirs)]
    found = estimate_differences(*sums)
    return {name: rounded(each) for name, each in zip(METRICS, found, strict=True)}


def kept_files(directory: Path, run: dict[str, Any]) -> tuple[Path, Path]:
    """Weights of a run, and the places of its test targets."""
    name = "{protocol}-{rung}-{seed}-{epochs}".format(**run)
    return directory / f"{name}.pt", directory / f"{name}.npy"


def keep(directory: Path, run: dict[str, Any], trained: Trained) -> dict[str, Any]:
    """Keep a run; what its line has besides, where the plain model was kept."""
    directory.mkdir(parents=True, exist_ok=True)
    weights, ranks = kept_files(directory, run)
    torch.save(trained.model.state_dict(), weights)
    np.save(ranks, trained.test_ranks)
    _, plain = kept_files(directory, run | {"rung": "plain"})
    if run["rung"] == "plain" or not plain.exists():
        return {}
    return {"lead_over_plain": lead(trained.test_ranks, np.load(plain))}


def learned_rates(model: torch.nn.Module) -> list[list[float]]:
    """Rates per position at which the interests of each layer fade, slowest first."""
    layers = [m for m in model.modules() if isinstance(m, LightAttention) and hasattr(m, "decay")]
    rates = [torch.nn.functional.softplus(layer.decay.detach()) for layer in layers]
    return [[round(rate, 4) for rate in sorted(values.tolist())] for values in rates]


def finished(lines: Path) -> list[dict[str, Any]]:
    """The runs of before."""
    return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []


def by_rung(protocol: str, runs: list[dict[str, Any]]) -> dict[tuple[str, int], list[Any]]:
    """The finished runs of a protocol, by rung and length."""
    groups: dict[tuple[str, int], list[Any]] = {}
    for run in runs:
        if run["protocol"] == protocol and "cut" not in run:
            groups.setdefault((run["rung"], run["epochs"]), []).append(run)
    return groups


def table(protocol: str, runs: list[dict[str, Any]]) -> list[str]:
    """A line for each rung and length: means over seeds, in the order of valid."""
    rows = []
    for (rung, epochs), group in by_rung(protocol, runs).items():
        valid = statistics.mean(run["valid"] for run in group)
        test = [statistics.mean(run["test"][m] for run in group) for m in METRICS]
        cost = statistics.mean(run["cpu_minutes"] for run in group)
        words = f"| {rung} | {epochs} | {len(group)} | {valid:.4f} "
        rows.append((valid, f"{words}| {test[0]:.4f} | {test[1]:.4f} | {cost:.1f} |"))
    heads = "| rung | epochs | seeds | valid ndcg@10 | test hit@10 | test ndcg@10 | minutes |"
    return [heads, "|---|---|---|---|---|---|---|", *(line for _, line in sorted(rows))]


def cases(protocol: str, runs: list[dict[str, Any]]) -> list[harness.Case]:
    """The rung that valid chooses among those with most seeds, beside what was published."""
    groups = by_rung(protocol, runs)
    if not groups:
        return []
    most = max(map(len, groups.values()))
    chosen = max(
        (key for key, group in groups.items() if len(group) == most),
        key=lambda key: statistics.mean(run["valid"] for run in groups[key]),
    )
    found = []
    for peer, values in PROTOCOLS[protocol].published.items():
        for metric, value in zip(METRICS, values, strict=True):
            tests = [run["test"][metric] for run in groups[chosen]]
            ours, sd = statistics.mean(tests), statistics.stdev(tests) if most > 1 else 0.0
            found.append(
                harness.case(
                    f"{protocol}, {chosen[0]}, {metric}: {peer}",
                    ours=round(ours, 4),
                    peer=value,
                    unit=metric,
                    ratio=round(ours / value, 3),
                    goal=1.0,
                    sd=round(sd, 4),
                    seeds=most,
                )
            )
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log, no goals")
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="ml-1m-sasrec")
    parser.add_argument("--rungs", nargs="+", choices=list(RUNGS), default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020])
    parser.add_argument("--epochs", type=int, help="length of the schedule; its file's by default")
    parser.add_argument("--minutes", type=float, default=120.0, help="limit of each run")
    parser.add_argument(
        "--cut", nargs=2, type=float, metavar=("EPOCH", "LEAST"), help="end runs that have less"
    )
    parser.add_argument("--keep", type=Path, help="directory for weights and places of targets")
    parser.add_argument("--data", type=Path, default=Path("data"), help="directory of the logs")
    parser.add_argument("--lines", type=Path, default=LINES, help="finished runs, a line each")
    return harness.parse(parser)


def main() -> None:
    """Train what is not there yet, and print the table."""
    options = parse()
    torch.set_num_threads(1)
    rungs = ["plain", "fading-relative"] if options.smoke else options.rungs
    done = [] if options.smoke else finished(options.lines)
    keys = {(run["protocol"], run["rung"], run["seed"], run["epochs"]) for run in done}
    twin = PROTOCOLS[options.protocol].twin
    protocols = [options.protocol, *([] if twin is None else [twin])]
    for rung in rungs:
        for seed in options.seeds:
            configs = [
                make_config(PROTOCOLS[name], rung, seed, options.epochs) for name in protocols
            ]
            if options.smoke:
                configs = [load_config(None, [*SMOKE, *RUNGS[rung]]).config for _ in protocols]
            epochs = configs[0].train.epochs
            if (options.protocol, rung, seed, epochs) in keys:
                continue
            print(f"{options.protocol}, {rung}, seed {seed}", flush=True)
            load_log = PROTOCOLS[options.protocol].load
            log = smoke_log() if options.smoke else load_log(options.data, configs[0])
            cut = None if options.cut is None else (int(options.cut[0]), options.cut[1])
            found = run_rung(log, configs, options.minutes, cut)
            for name, (about, trained) in zip(protocols, found, strict=True):
                run = {"protocol": name, "rung": rung, "seed": seed, "epochs": epochs} | about
                if options.keep is not None:
                    run |= keep(options.keep, run, trained)
                run["date"] = datetime.now(UTC).date().isoformat()
                done.append(run)
                if not options.smoke:
                    with options.lines.open("a") as lines:
                        lines.write(json.dumps(run) + "\n")
    for name in protocols:
        print("\n".join(table(name, done)))
    harness.report(
        options,
        "ladder",
        harness.machine("1 thread"),
        [case for name in protocols for case in cases(name, done)],
        torch=torch.__version__,
    )


if __name__ == "__main__":
    main()
