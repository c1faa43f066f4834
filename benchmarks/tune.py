"""A search: its cost beside training, epochs that its scheduler saves, and its winner.

    python -m benchmarks.tune --data data/ml-100k.inter [--grid] [--smoke] [--json]

Searches RecBole's example space (``hyper.test`` beside this file: learning rate, layers, interests;
45 combinations) with ASHA, in random order, two trials at a time, and trains the defaults of the
three settings for as many epochs. Overhead is the share of the trials' places in which no trial
trains or validates: the start of Ray, of processes and of trials, checkpoints, decisions, and
places that stay empty at the end; it means something on free cores only. ``--grid`` trains every
combination to its last epoch as well and compares epochs and winners. With the same ``--root``, a
search that was interrupted goes on and a finished one is found again.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import harness
from lightsans.config.file import load_config
from lightsans.search.space import parse_space
from lightsans.storage.manifests import manifest_json
from lightsans.synthetic.logs import generate_blocks, write_inter
from pipelines.evaluate.stage import run_evaluate
from pipelines.preprocess.stage import run_preprocess
from pipelines.train.stage import run_train
from pipelines.tune.stage import run_tune

GOAL_OVERHEAD, GOAL_EPOCHS, GOAL_GAP, GOAL_S = 0.10, 0.40, 0.005, 30 * 60
SPACE = (Path(__file__).parent / "hyper.test").read_text()
SMALL_SPACE = "learning_rate choice [0.01,0.001]\nk_interests choice [2,3]\n"
RUN = (
    "model.hidden_dropout_prob=0.2",
    "model.attn_dropout_prob=0.2",
    "train.num_workers=1",
    "train.batch_size=64",
    "train.window_stride=50",
    "tune.max_concurrent=2",
)
SMALL_RUN = (
    "model.hidden_size=16",
    "model.inner_size=32",
    "model.n_layers=1",
    "model.max_seq_len=12",
    "train.num_workers=1",
    "train.epochs=3",
    "tune.max_concurrent=2",
)
ASHA = ("tune.engine=random", "tune.grace_epochs=1", "tune.reduction_factor=4")
GRID = ("tune.engine=grid", "tune.scheduler=none")


def search(settings: list[str], space: str) -> dict[str, Any]:
    """A search, as ``submit.py tune`` runs it; seconds are those of preprocessing and test, too."""
    began = time.monotonic()
    config = load_config(
        None, [*settings, f"tune.space={json.dumps(parse_space(space, 'it'))}"]
    ).config
    result = run_tune(config, run_preprocess(config).dataset_id)
    return {
        **manifest_json(result.manifest),
        "valid": result.manifest.best.valid[result.manifest.metric],
        "test": result.evaluation.metrics["model"]["test"],
        "seconds": result.manifest.spent_s if result.skipped else time.monotonic() - began,
    }


def cost_cases(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The time of the search, and the share of its places in which nothing is trained."""
    overhead = 1 - found["train_s"] / (found["spent_s"] * found["slots"])
    trials, slots = sum(found["trials"].values()), found["slots"]
    return [
        compare(
            f"overhead of {trials} trials, {slots} at a time", overhead, GOAL_OVERHEAD, "share"
        ),
        compare("preprocessing, search and test", found["seconds"], GOAL_S, "seconds"),
    ]


def compare(case: str, ours: float, allowed: float, unit: str) -> dict[str, Any]:
    """A case that has to stay below what is allowed."""
    return harness.case(
        case,
        ours=round(ours, 4),
        peer=allowed,
        peer_name="allowed",
        unit=unit,
        ratio=round(allowed / max(ours, 1e-9), 2),
        goal=1.0,
    )


def defaults_case(found: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """The winner beside the run that the search varied; both on test as well."""
    metric, config = found["metric"], load_config(None, settings).config
    model_id = run_train(config, found["dataset_id"]).model_id
    metrics = run_evaluate(config, found["dataset_id"], model_id).metrics["model"]
    return harness.case(
        f"valid {metric} of the winner beside the defaults",
        ours=found["valid"],
        peer=metrics["valid"][metric],
        peer_name="defaults",
        unit=metric,
        ratio=round(found["valid"] / max(metrics["valid"][metric], 1e-9), 3),
        goal=1.0,
        values=found["best"]["values"],
        test={"winner": found["test"], "defaults": metrics["test"]},
    )


def grid_cases(found: dict[str, Any], grid: dict[str, Any]) -> list[dict[str, Any]]:
    """Epochs and winners, beside every combination trained to its last epoch."""
    return [
        harness.case(
            "epochs of ASHA beside the full grid",
            ours=found["epochs"],
            peer=grid["epochs"],
            peer_name="grid",
            unit="epochs",
            ratio=round(grid["epochs"] / found["epochs"], 2),
            goal=1 / GOAL_EPOCHS,
        ),
        harness.case(
            f"valid {found['metric']} of the winner; may be {GOAL_GAP} below the grid's",
            ours=found["valid"],
            peer=grid["valid"],
            peer_name="grid",
            unit=found["metric"],
            ratio=round((found["valid"] + GOAL_GAP) / grid["valid"], 3),
            goal=1.0,
            gap=round(grid["valid"] - found["valid"], 4),
            values=grid["best"]["values"],
        ),
    ]


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log, no goals")
    parser.add_argument("--data", default="data/ml-100k.inter", help="an .inter log")
    parser.add_argument("--grid", action="store_true", help="train every combination, too")
    parser.add_argument("--epochs", type=int, default=6, help="most of a trial")
    parser.add_argument("--root", help="where to keep the searches; default: nowhere")
    options = harness.parse(parser)
    with tempfile.TemporaryDirectory(prefix="lightsans-benchmark-") as scratch:
        data, space = Path(options.data).resolve(), SMALL_SPACE if options.smoke else SPACE
        settings = list(SMALL_RUN) if options.smoke else [*RUN, f"train.epochs={options.epochs}"]
        if options.smoke:
            data = Path(scratch) / "log.inter"
            write_inter(data, generate_blocks(200, 100, 4000, seed=1))
        root = Path(options.root or scratch).resolve()
        # Each in a root of its own: a finished model of the other one would not be trained again.
        ours = [*settings, f"data.input={data}", f"root={root / 'asha'}"]
        found = search([*ours, *ASHA], space)
        cases = [*cost_cases(found), defaults_case(found, ours)]
        if options.grid:
            every = [*settings, f"data.input={data}", f"root={root / 'grid'}", *GRID]
            cases += grid_cases(found, search(every, space))
    for case in cases:
        print(f"{case['case']}: {case['ours']} {case['unit']}, {case['peer_name']} {case['peer']}")
    harness.report(
        options,
        "tune",
        harness.machine(f"{os.cpu_count()} cores"),
        cases,
    )


if __name__ == "__main__":
    main()
