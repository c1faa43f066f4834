"""What a search costs beside training, and what its scheduler saves.

    python benchmarks/tune.py --data data/ml-100k.inter [--grid] [--smoke] [--json]

Searches RecBole's example space (learning rate, layers, interests: 45 combinations) with ASHA, in
random order, two trials at a time. Overhead is the share of the trials' places in which
no trial trains or validates: the start of Ray, of processes and of trials, checkpoints, decisions,
and places that stay empty at the end. ``--grid`` trains every combination to its last epoch as well
and compares epochs and winners; an interrupted run goes on when ``--root`` is the same.
"""

import argparse
import datetime
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from lightsans.config import RunConfig
from lightsans.config_file import load_config
from lightsans.manifest import require_manifest
from lightsans.synthetic import generate_blocks, write_inter
from pipelines.preprocess import run_preprocess
from pipelines.tune import run_tune

GOAL_OVERHEAD, GOAL_EPOCHS, GOAL_GAP = 0.10, 0.40, 0.005
SPACE = {
    "learning_rate": {"choice": [0.01, 0.005, 0.001, 0.0005, 0.0001]},
    "num_layers": {"choice": [1, 2, 3]},
    "k_interests": {"choice": [10, 15, 20]},
}
SMALL_SPACE = {"learning_rate": {"choice": [0.01, 0.001]}, "k_interests": {"choice": [2, 3]}}
RUN = (
    "model.hidden_dropout_prob=0.2",
    "model.attn_dropout_prob=0.2",
    "train.batch_size=64",
    "train.window_stride=50",
    "tune.max_concurrent=2",
    "tune.grace_epochs=1",
    "tune.reduction_factor=4",
)
SMALL_RUN = (
    "model.hidden_size=16",
    "model.inner_size=32",
    "model.n_layers=1",
    "model.max_seq_len=12",
    "train.epochs=3",
    "tune.max_concurrent=2",
    "tune.grace_epochs=1",
)


def search(config: RunConfig) -> dict[str, Any]:
    """Search with these settings; the manifest of the search, and the valid metric of its best."""
    result = run_tune(config, run_preprocess(config).dataset_id)
    manifest = require_manifest(result.location, "it has just been written")
    return {**manifest, "valid": manifest["best"]["valid"][manifest["metric"]]}


def overhead_case(found: dict[str, Any]) -> dict[str, Any]:
    """The share of the places' time in which nothing is trained."""
    overhead = 1 - found["train_s"] / (found["spent_s"] * found["slots"])
    return {
        "case": f"overhead of {sum(found['trials'].values())} trials, {found['slots']} at a time",
        "ours": round(overhead, 4),
        "peer": GOAL_OVERHEAD,
        "peer_name": "what is allowed",
        "unit": "share of time",
        "ratio": round(GOAL_OVERHEAD / max(overhead, 1e-9), 2),
        "goal": 1.0,
        "seconds": found["spent_s"],
    }


def grid_cases(found: dict[str, Any], grid: dict[str, Any]) -> list[dict[str, Any]]:
    """Epochs and winners, beside every combination trained to its last epoch."""
    gap = grid["valid"] - found["valid"]
    return [
        {
            "case": "epochs of ASHA beside the full grid",
            "ours": found["epochs"],
            "peer": grid["epochs"],
            "peer_name": "grid",
            "unit": "epochs",
            "ratio": round(grid["epochs"] / found["epochs"], 2),
            "goal": 1 / GOAL_EPOCHS,
        },
        {
            "case": f"valid {found['metric']} of the winner; may be {GOAL_GAP} below the grid's",
            "ours": found["valid"],
            "peer": grid["valid"],
            "peer_name": "grid",
            "unit": found["metric"],
            "ratio": round((found["valid"] + GOAL_GAP) / grid["valid"], 3),
            "goal": 1.0,
            "gap": round(gap, 4),
        },
    ]


def main() -> None:
    """Parse, run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="seconds: a made-up log, no goals")
    parser.add_argument("--json", action="store_true", help="one JSON object, last")
    parser.add_argument("--data", default="data/ml-100k.inter", help="an .inter log")
    parser.add_argument("--grid", action="store_true", help="train every combination, too")
    parser.add_argument("--epochs", type=int, default=6, help="most of a trial")
    parser.add_argument("--root", help="where to keep the searches; default: nowhere")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lightsans-benchmark-") as scratch:
        data, settings = options.data, [*RUN, f"train.epochs={options.epochs}"]
        space = SMALL_SPACE if options.smoke else SPACE
        if options.smoke:
            data, settings = f"{scratch}/log.inter", list(SMALL_RUN)
            write_inter(Path(data), generate_blocks(200, 100, 4000, seed=1))
        settings += [f"root={options.root or scratch}", f"data.input={data}"]
        settings += [f"tune.space={json.dumps(space)}"]
        found = search(load_config(None, [*settings, "tune.engine=random"]).config)
        cases = [overhead_case(found)]
        if options.grid:
            full = ["tune.engine=grid", "tune.scheduler=none"]
            cases += grid_cases(found, search(load_config(None, [*settings, *full]).config))
    for case in cases:
        print(f"{case['case']}: {case['ours']} {case['unit']}, {case['peer_name']} {case['peer']}")
    report = {
        "benchmark": "tune",
        "machine": f"{os.cpu_count()} cores",
        "date": datetime.date.today().isoformat(),
        "cases": cases,
    }
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
