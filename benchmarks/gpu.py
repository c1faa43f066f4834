"""The product on a GPU, within a few minutes: one JSON object, a part at a time.

    python -m benchmarks.gpu [--smoke] [--json] [--device cuda] [--data data/ml-1m.inter]
        [--parts quality pipeline precision memory scoring topk …]

On a machine without a network, `tools/pack_gpu.sh` packs what is missing there:

    mkdir /tmp/site && tar xJf .gpu/site.tar.xz -C /tmp/site
    PYTHONPATH=/tmp/site:. python3 -m benchmarks.gpu --json

Parts run in the order above, each with a limit of its own; one that fails is told with the end of
its output, and the others go on. What a part says is printed as soon as it is known. ``--device
cpu --smoke`` tries the benchmark itself, without a GPU.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from benchmarks import harness
from benchmarks.memory import now
from benchmarks.movielens import SMOKE, Log, smoke_log
from benchmarks.score import make_inputs
from benchmarks.train_to_quality import CONFIGS, load
from benchmarks.training import metrics_of
from lightsans.config import ModelConfig, RunConfig, StorageConfig
from lightsans.config.file import load_config
from lightsans.dataset.loading import list_column
from lightsans.dataset.samples import gather
from lightsans.model.network import LightSANs
from lightsans.ranking.top_k import ItemIndex
from lightsans.storage.location import locate
from lightsans.training.checkpoint_clock import CheckpointClock
from lightsans.training.tally import peak_memory_mib
from lightsans.training.trainer import MidEpoch, Trainer

AUTHORS_NDCG: Final = 0.1145
"""LightSANs on MovieLens-1M, RecBole's convention: test ndcg@10 of its authors."""
GOAL_S: Final = 60.0
ROOT: Final = Path(__file__).parents[1]
MARK: Final = "pytest.mark.gpu"
Figures = dict[str, Any]


class Part(NamedTuple):
    """One question to the machine."""

    run: Callable[[argparse.Namespace], Figures]
    limit_s: int


def settings(options: argparse.Namespace, *more: str) -> RunConfig:
    """MovieLens-1M in RecBole's convention, one worker; small for a smoke run."""
    small = SMOKE if options.smoke else ()
    own = ("train.num_workers=1", "train.virtual_shards=1", *small, *more)
    return load_config(str(CONFIGS / "ml-1m.yaml"), list(own)).config


def read_log(options: argparse.Namespace, config: RunConfig) -> Log:
    """MovieLens-1M, or a made-up log for a smoke run."""
    return smoke_log() if options.smoke else load(options.data, config)


def quality(options: argparse.Namespace) -> Figures:
    """Targets a second, and the time until test of the epoch chosen by valid is the authors'."""
    config = settings(options)
    log, device = read_log(options, config), torch.device(options.device)
    trainer = Trainer(config, log.num_items, {0: log.users}, device)
    spent, curve, reached, used = 0.0, [], None, []
    while not trainer.finished:
        started = now(device)
        row = trainer.run_epoch()
        spent += now(device) - started
        used.append(utilisation())
        if trainer.progress.best_epoch == row.epoch:
            test, _ = metrics_of(trainer.model, log, config, "test")
        if reached is None and test["ndcg@10"] >= AUTHORS_NDCG:
            reached = round(spent, 1)
        curve.append({"s": round(spent, 2), "valid": round(row.valid["ndcg@10"], 4)})
    targets = sum(row.distinct_targets for row in trainer.progress.history)
    return {
        "seconds_to_authors_ndcg": reached,
        "seconds": round(spent, 1),
        "distinct_targets_per_s": round(targets / spent),
        "test": {name: round(test[name], 4) for name in ("hit@10", "ndcg@10")},
        "peak_mib": round(peak_memory_mib(device)),
        "gpu_utilisation": used,
        "curve": curve,
    }


def utilisation() -> int | None:
    """Share of the last second in which the GPU worked, in percent; None where nobody says."""
    try:
        return int(torch.cuda.utilization())
    except (ImportError, RuntimeError, AssertionError):
        return None


def precision(options: argparse.Namespace) -> Figures:
    """Valid and speed of bfloat16 beside float32, two seeds each: the difference is noise."""
    found: Figures = {}
    device = torch.device(options.device)
    for kind in ("fp32", "bf16"):
        valid, started = [], now(device)
        for seed in (2020, 2021):
            config = settings(
                options, f"train.precision={kind}", f"train.seed={seed}", "train.epochs=3"
            )
            log = read_log(options, config)
            trainer = Trainer(config, log.num_items, {0: log.users}, device)
            while not trainer.finished:
                row = trainer.run_epoch()
            valid.append(round(row.valid["ndcg@10"], 4))
        found[kind] = {"valid_ndcg@10": valid, "seconds": round(now(device) - started, 1)}
    return found


def memory(options: argparse.Namespace) -> Figures:
    """Peak of a whole epoch beside that of the few steps that ``train --dry-run`` looks at."""
    config = settings(options, "train.epochs=2")
    log, device = read_log(options, config), torch.device(options.device)
    found = {}
    for name, steps in (("dry_run_mib", 3), ("epoch_mib", None)):
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        trainer = Trainer(config, log.num_items, {0: log.users}, device)
        with contextlib.suppress(StopIteration):
            trainer.run_epoch(MidEpoch(_StopAfter(steps), lambda: None))
        found[name] = round(peak_memory_mib(device))
    return found


class _StopAfter(CheckpointClock):
    def __init__(self, steps: int | None) -> None:
        super().__init__(None, None, torch.device("cpu"))
        self._steps = steps

    def is_due(self, step: int) -> bool:
        """Never; ends the epoch after some steps."""
        if self._steps is not None and step >= self._steps:
            raise StopIteration
        return False


@torch.inference_mode()
def scoring(options: argparse.Namespace) -> Figures:
    """Users a second of encoder and exact top-K, 60,000 items, beside the encoder alone."""
    users, items = (300, 500) if options.smoke else (100_000, 60_000)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as directory:
        root = locate(directory, StorageConfig())
        small = ModelConfig(hidden_size=16, inner_size=16) if options.smoke else None
        make_inputs(root, users, items, 20 if options.smoke else 50, small)
        model = LightSANs.from_pretrained(root / "models" / "m").to(device)
        parts = root / "datasets" / "d" / "sequences"
        tables = [(parts / name).read_table() for name in parts.children()]
    index = ItemIndex(model.item_table())
    seconds = {"encoder_and_lists": 0.0, "encoder": 0.0}
    for name in ("warm", *seconds):
        for table in tables:
            histories = list_column(table, "item_ids")
            started = now(device)
            for first in range(0, len(histories.lengths), 2048):
                end = min(first + 2048, len(histories.lengths))
                begins, lengths = histories.offsets[first:end], histories.lengths[first:end]
                newest = np.minimum(lengths, model.config.max_seq_len)
                rows = gather(histories.item_ids, begins + lengths - newest, newest)
                vectors = model.encode(
                    torch.from_numpy(rows).to(device), torch.from_numpy(newest).to(device)
                )
                if name != "encoder":
                    seen = histories.item_ids[begins[0] : begins[-1] + lengths[-1]].astype(np.int64)
                    row = np.repeat(np.arange(end - first), lengths)
                    places = (torch.from_numpy(row).to(device), torch.from_numpy(seen).to(device))
                    index.top_k(vectors, 100, *places)
            if name in seconds:
                seconds[name] += now(device) - started
    return {f"{name}_users_per_s": round(users / spent) for name, spent in seconds.items()}


def pipeline(options: argparse.Namespace) -> Figures:
    """Run the commands: the whole pipeline, and a training that is killed and resumed."""
    if importlib.util.find_spec("ray") is None:
        raise ModuleNotFoundError("Ray is not installed: pack it with tools/pack_gpu.sh")
    gpu = str(options.device == "cuda").lower()
    with tempfile.TemporaryDirectory() as directory:
        name = "debug.yaml" if options.smoke else "ml-1m.yaml"
        data = options.data.absolute()
        if options.smoke:
            submit("fetch", "generated", "--to", directory)
            data = Path(directory, "generated.inter")
        own = [f"root={directory}", f"data.input={data}", "train.num_workers=1"]
        own += [f"train.use_gpu={gpu}", f"score.use_gpu={gpu}", "score.num_workers=1"]
        run = ["--config", str(CONFIGS / name), *(f"--set={setting}" for setting in own)]
        started = time.perf_counter()
        submit("pipeline", *run, "--set=train.epochs=3")
        seconds = time.perf_counter() - started
        killed = [*run, "--set=train.epochs=2", "--set=train.checkpoint_steps=5"]
        train = subprocess.Popen(command("train", *killed), cwd=ROOT, start_new_session=True)
        before = set(Path(directory).glob("models/*/checkpoints/*"))
        while train.poll() is None and not in_mid_epoch(Path(directory), before):
            time.sleep(0.1)
        os.killpg(train.pid, signal.SIGKILL)
        train.wait()
        submit("train", *killed)
        finished = sorted(Path(directory).glob("models/*/manifest.json"))
        return {"seconds": round(seconds, 1), "models": len(finished), "resumed": True}


def in_mid_epoch(root: Path, before: set[Path]) -> bool:
    """Whether a checkpoint has come since."""
    return bool(set(root.glob("models/*/checkpoints/*")) - before)


def command(*arguments: str) -> list[str]:
    """The command line of the program."""
    return [sys.executable, "submit.py", *arguments]


def submit(*arguments: str) -> None:
    """Run a command of the program; what it says is shown if it fails."""
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")


def other(name: str, *flags: str) -> Callable[[argparse.Namespace], Figures]:
    """The cases of another benchmark on this device."""

    def run(options: argparse.Namespace) -> Figures:
        on_gpu = list(flags) if options.device == "cuda" else []
        small = ["--smoke"] if options.smoke else []
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--json", *on_gpu, *small],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr[-1500:])
        report: Figures = json.loads(done.stdout.splitlines()[-1])
        return {"cases": report["cases"]}

    return run


def gpu_tests(options: argparse.Namespace) -> Figures:
    """Run the tests that need a GPU; elsewhere they skip themselves."""
    if importlib.util.find_spec("pytest") is None:
        raise ModuleNotFoundError("pytest is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    # Other files may import what a bare machine lacks.
    files = [p for p in sorted((ROOT / "tests/unit").rglob("test_*.py")) if MARK in p.read_text()]
    done = subprocess.run([*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True)
    return {"status": done.returncode, "end": done.stdout[-1500:]}


PARTS: Final = {
    "quality": Part(quality, 150),
    "pipeline": Part(pipeline, 150),
    "precision": Part(precision, 60),
    "memory": Part(memory, 30),
    "scoring": Part(scoring, 40),
    "topk": Part(other("topk", "--cuda"), 60),
    "loss_scaling": Part(other("loss_scaling", "--device", "cuda"), 90),
    "attention_scaling": Part(other("attention_scaling", "--device", "cuda"), 60),
    "tests": Part(gpu_tests, 60),
}


class _TooLongError(Exception):
    """A part took longer than its limit."""


def run_part(part: Part, options: argparse.Namespace) -> Figures:
    """Figures of a part, or why there are none."""

    def stop(*_: object) -> None:
        raise _TooLongError(f"stopped after {part.limit_s} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(part.limit_s if options.device == "cuda" else 10 * part.limit_s)
    started = time.perf_counter()
    try:
        figures = part.run(options)
    except Exception as error:  # what one part meets must not lose what the others say
        figures = {"failed": f"{type(error).__name__}: {error}"[-2000:]}
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return figures | {"took_s": round(time.perf_counter() - started, 1)}


def main() -> None:
    """Run the parts, tell each, and report."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--data", type=Path, default=Path("data/ml-1m.inter"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = harness.parse(parser)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; try the benchmark with --device cpu --smoke")
    found = {}
    for name in options.parts:
        found[name] = run_part(PARTS[name], options)
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    seconds = found.get("quality", {}).get("seconds_to_authors_ndcg")
    time_to_quality = harness.case(
        f"time to the authors' test ndcg@10 {AUTHORS_NDCG}",
        ours=seconds,
        peer=GOAL_S,
        unit="s",
        ratio=None if not seconds else round(GOAL_S / seconds, 2),
        goal=1.0,
    )
    where = torch.cuda.get_device_name() if options.device == "cuda" else harness.machine("CPU")
    harness.report(options, "gpu", where, [time_to_quality], parts=found, torch=torch.__version__)


if __name__ == "__main__":
    main()
