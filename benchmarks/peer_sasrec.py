"""RecTools' SASRec and our `causal` on one split: targets a second, and time to a valid ndcg@10.

    make bench NAME=peer_sasrec ARGS="[--smoke] [--json] [--data data/ml-1m.inter]
        [--epochs 16] [--minutes 60] [--output DIRECTORY] [--set NAME=VALUE …]"

MovieLens-1M in SASRec's convention: 64 numbers, histories of 200, softmax over all items, seen
items removed. Both run on one thread, one after the other, and time is processor time, so that
other work beside them does not count. RecTools runs as a process in `.venv-rectools`, which `make
bench-rectools` creates; without it only ours is run. Its goal is the best valid ndcg@10 of its
epochs: our time until ours reaches it, where our run ends, is set against its own. With
``--output`` the peer's epochs are kept, and not run again for who asks for the same.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.movielens import SMOKE, Log, smoke_log
from benchmarks.quality import METRIC, time_to
from benchmarks.train_to_quality import CONFIGS, load
from benchmarks.training import Trained, train
from lightsans.arrays import Array
from lightsans.config import RunConfig
from lightsans.config.file import load_config
from lightsans.dataset.held_out import hold_out

PEER = Path(".venv-rectools/bin/python")
PEER_NAME = "SASRec of RecTools 0.19"
SCRIPT = Path(__file__).with_name("train_rectools.py")


def valid_split(log: Log) -> dict[str, Array]:
    """Split for RecTools: all but each user's last two items, and the valid targets."""
    held_out = hold_out(log.users, "valid")
    offsets, lengths = log.users.offsets, log.users.lengths.astype(np.int64)
    targets = np.zeros(len(lengths), np.int64)
    targets[held_out.users] = held_out.target_ids
    lengths[held_out.users] = held_out.lengths
    pieces = [log.users.item_ids[b : b + n] for b, n in zip(offsets, lengths, strict=False)]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return {"item_ids": np.concatenate(pieces), "offsets": ends, "targets": targets}


def run_peer(
    split: dict[str, Array], config: RunConfig, epochs: int, minutes: float, directory: Path
) -> list[dict[str, Any]]:
    """Train the peer, or find its epochs of an earlier call; none without its environment.

    A call that asks for anything else, or follows one that was killed, trains it anew.

    Args:
        split: Input of `train_rectools`.
        config: Sizes and seed.
        epochs: How many epochs.
        minutes: Most processor time.
        directory: Keeps what was asked with all epochs, in ``rectools.json``, and, where the split
            has a test, lists in ``rectools.npz``.

    Raises:
        CalledProcessError: It failed; its own words stand above.
    """
    if not PEER.exists():
        print(f"{PEER} is missing: `make bench-rectools` creates it; ours runs alone", flush=True)
        return []
    asked: dict[str, Any] = {
        "--epochs": epochs,
        "--width": config.model.hidden_size,
        "--length": config.model.max_seq_len,
        "--heads": config.model.n_heads,
        "--seed": config.train.seed,
        "--minutes": minutes,
    }
    arguments = [str(part) for pair in asked.items() for part in pair]
    asked["split"] = digest(split)
    finished = directory / "rectools.json"
    kept = json.loads(finished.read_text()) if finished.exists() else {}
    if kept.get("asked") != asked:
        finished.unlink(missing_ok=True)
        kept = {"asked": asked, "epochs": train_peer(split, arguments, directory)}
        part = directory / "rectools.json.part"
        part.write_text(json.dumps(kept))
        part.replace(finished)
    epochs_of_peer: list[dict[str, Any]] = kept["epochs"]
    return epochs_of_peer


def train_peer(
    split: dict[str, Array], arguments: list[str], directory: Path
) -> list[dict[str, Any]]:
    """Run `train_rectools` to its end; its epochs."""
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / "split.npz", allow_pickle=False, **split)
    lines = directory / "part.jsonl"
    command = [str(PEER), str(SCRIPT), str(directory / "split.npz"), str(lines), *arguments]
    # Nothing of this environment: the peer's numpy is another one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment)
    if "test_offsets" in split:
        lines.with_suffix(".npz").replace(directory / "rectools.npz")
    return [json.loads(line) for line in lines.read_text().splitlines()]


def digest(split: dict[str, Array]) -> str:
    """SHA-256 of the arrays."""
    found = hashlib.sha256()
    for name, values in sorted(split.items()):
        found.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    return found.hexdigest()


def cases(ours: Trained, peer: list[dict[str, Any]]) -> list[harness.Case]:
    """Speed of training and validation, and time to the peer's best valid metric."""
    targets = sum(row.targets for row in ours.curve)
    speed = targets / ours.seconds[-1]
    peer_speed = peer[-1]["targets"] / peer[-1]["seconds"] if peer else None
    best = max(peer, key=lambda row: float(row[METRIC])) if peer else None
    reached = None if best is None else time_to(ours, best[METRIC])
    found = [
        harness.case(
            "targets trained, validation included",
            ours=round(speed, 1),
            peer=None if peer_speed is None else round(peer_speed, 1),
            peer_name=PEER_NAME,
            unit="targets/s",
            ratio=None if peer_speed is None else round(speed / peer_speed, 2),
            goal=None,
            peer_steps_alone=peer[-1]["targets"] / peer[-1]["train_s"] if peer else None,
        )
    ]
    if best is not None:
        found.append(
            harness.case(
                f"time to valid {METRIC} {best[METRIC]:.4f}, epoch {best['epoch']} of {len(peer)}",
                ours=reached,
                peer=best["seconds"],
                peer_name=PEER_NAME,
                unit="s",
                ratio=None if reached is None else round(best["seconds"] / reached, 2),
                goal=1.0,
            )
        )
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log, two epochs, no goals")
    parser.add_argument("--data", type=Path, default=Path("data/ml-1m.inter"))
    parser.add_argument("--epochs", type=int, default=16, help="of the peer")
    parser.add_argument("--minutes", type=float, default=60.0, help="limit of each side")
    parser.add_argument(
        "--output", type=Path, help="keeps the split and the peer's epochs, for later calls"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="overrides")
    options = harness.parse(parser)
    options.epochs = 2 if options.smoke else options.epochs
    return options


def main() -> None:
    """Train both and report."""
    options = parse()
    torch.set_num_threads(1)
    alone = ["train.num_workers=1", "train.virtual_shards=1"]
    small = SMOKE if options.smoke else ()
    path = str(CONFIGS / "ml-1m-sasrec.yaml")
    config = load_config(path, [*alone, *small, *options.overrides]).config
    log = smoke_log() if options.smoke else load(options.data, config)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) if options.output is None else options.output
        peer = run_peer(valid_split(log), config, options.epochs, options.minutes, directory)
    best = max((float(row[METRIC]) for row in peer), default=math.inf)
    ours = train(log, config, options.minutes, "cpu", lambda row: row.valid[METRIC] >= best)
    found = cases(ours, peer)
    for case in found:
        print(f"{case['case']}: {case['ours']} / {case['peer']} {case['unit']} = {case['ratio']}")
    where = harness.machine("1 thread, processor time")
    curve = [round(row.valid[METRIC], 4) for row in ours.curve]
    harness.report(options, "peer_sasrec", where, found, data=log.source, ours=curve, epochs=peer)


if __name__ == "__main__":
    main()
