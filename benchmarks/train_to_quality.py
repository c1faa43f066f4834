"""Quality of models on MovieLens-1M, beside published results.

    make bench NAME=train_to_quality ARGS="[--smoke] [--json] [--data data/ml-1m.inter]
        [--conventions recbole sasrec] [--seeds 2020 2021 2022] [--minutes 60] [--set k=v ...]"

Two conventions, each with the settings of its file in pipelines/configs. Valid chooses the epoch by
ndcg@10, and test is looked at once, for the chosen epoch. A budget is given in minutes and reported
in distinct targets too: where windows overlap, what an epoch repeats is not counted. For runs that
share their core with others or are paused, ``--clock cpu`` takes the processor time of the thread.
"""

import argparse
import os
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.csv
import torch

from benchmarks import harness
from benchmarks.movielens import SMOKE, Log, arrange, smoke_log
from benchmarks.training import Trained, train
from lightsans.config import RunConfig
from lightsans.config.file import load_config

CONFIGS = Path(__file__).parents[1] / "pipelines" / "configs"


class Convention(NamedTuple):
    """A protocol of the field, and what was published or measured under it."""

    config: str
    ladder: dict[str, tuple[float, float]]
    """Test hit@10 and ndcg@10; what is to be passed or approached, the lowest first."""


CONVENTIONS = {
    "recbole": Convention(
        "ml-1m.yaml",
        {"LightSANs, the authors'": (0.2284, 0.1145), "causal prototype": (0.2335, 0.1192)},
    ),
    "sasrec": Convention(
        "ml-1m-sasrec.yaml",
        {
            "SASRec": (0.2500, 0.1341),
            "BERT4Rec": (0.2843, 0.1537),
            "gSASRec": (0.3003, 0.1726),
            "eSASRec": (0.3133, 0.1772),
            "causal prototype": (0.3141, 0.1814),
            "SASRec+": (0.3152, 0.1821),
            "HSTU-large": (0.3294, 0.1893),
        },
    ),
}


def load(path: Path, config: RunConfig) -> Log:
    """The log under a convention's filters."""
    options = pyarrow.csv.ParseOptions(delimiter="\t")
    table = pyarrow.csv.read_csv(path, parse_options=options)
    users, items, ratings, times = (column.to_numpy() for column in table.columns[:4])
    lowest = config.data.min_rating
    kept = np.ones(len(users), bool) if lowest is None else ratings >= lowest
    users, items, times = users[kept], items[kept], times[kept]
    _, item, count = np.unique(items, return_inverse=True, return_counts=True)
    kept = count[item] >= config.data.min_item_interactions
    return arrange(users[kept], items[kept], times[kept], str(path))


def describe(run: Trained) -> dict[str, Any]:
    """Best epoch, its metrics, and what the run cost."""
    return {
        "best_epoch": run.best_epoch,
        "epochs": len(run.curve),
        "minutes": round(run.seconds[-1] / 60, 1),
        "minutes_to_best": round(run.seconds_to_best / 60, 2),
        "distinct_targets_to_best": run.best_epoch * run.curve[0].distinct_targets,
        "valid": run.best.valid,
        "test": run.test,
    }


def cases(name: str, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean over seeds beside every step of the ladder."""
    found = []
    for peer, values in CONVENTIONS[name].ladder.items():
        for metric, value in zip(("hit@10", "ndcg@10"), values, strict=True):
            ours = statistics.mean(run["test"][metric] for run in runs)
            found.append(
                harness.case(
                    f"{name}'s convention, {metric}: {peer}",
                    ours=round(ours, 4),
                    peer=value,
                    unit=metric,
                    ratio=round(ours / value, 3),
                    goal=1.0,
                    sd=round(statistics.stdev(r["test"][metric] for r in runs), 4)
                    if len(runs) > 1
                    else 0.0,
                )
            )
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log, no goals")
    parser.add_argument("--data", type=Path, default=Path("data/ml-1m.inter"))
    parser.add_argument(
        "--conventions", nargs="+", choices=list(CONVENTIONS), default=list(CONVENTIONS)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    parser.add_argument("--minutes", type=float, default=60.0, help="limit of each run")
    harness.add_clock(parser)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="overrides")
    options = harness.parse(parser)
    return options


def main() -> None:
    """Parse, train and report."""
    options = parse()
    torch.set_num_threads(options.threads)
    seeds = options.seeds[:1] if options.smoke else options.seeds
    runs: dict[str, list[dict[str, Any]]] = {}
    found: list[harness.Case] = []
    for name in options.conventions:
        settings = SMOKE if options.smoke else options.overrides
        path = str(CONFIGS / CONVENTIONS[name].config)
        for seed in seeds:
            own = [*settings, f"train.seed={seed}", "train.num_workers=1", "train.virtual_shards=1"]
            config = load_config(path, own).config
            log = smoke_log() if options.smoke else load(options.data, config)
            run = train(log, config, options.minutes, options.clock)
            runs.setdefault(name, []).append(describe(run))
        found += cases(name, runs[name])
    for entry in found:
        print(f"{entry['case']}: {entry['ours']} / {entry['peer']} = {entry['ratio']}")
    harness.report(
        options,
        "train_to_quality",
        harness.machine(f"{os.cpu_count()} cores"),
        found,
        torch=torch.__version__,
        runs=runs,
    )


if __name__ == "__main__":
    main()
