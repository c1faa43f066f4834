"""SASRec of RecTools 0.19 trained by RecTools' own trainer, a line an epoch: `peer_sasrec`'s peer.

    .venv-rectools/bin/python benchmarks/train_rectools.py SPLIT.npz OUTPUT.jsonl [--epochs 16] …

Runs in an environment of its own, which `make bench-rectools` creates: RecTools needs numpy below
2. So this file imports nothing of the project. ``SPLIT.npz`` holds the histories before the
held-out items, end to end (``item_ids``, ``offsets``), and the item that comes next (``targets``, 0
where a user is not evaluated). A line has the epoch, processor seconds of training alone and of all
so far, the targets trained, and hit@10 and ndcg@10 over all evaluated users, seen items removed.
"""

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

K = 10


def interactions_of(split: dict[str, Any]) -> pd.DataFrame:
    """The histories as rows; their order stands for time."""
    lengths = np.diff(split["offsets"])
    places = np.arange(len(split["item_ids"]))
    return pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(len(lengths)), lengths),
            "item_id": split["item_ids"],
            "weight": 1.0,
            "datetime": pd.Timestamp("2000-01-01") + pd.to_timedelta(places, unit="s"),
        }
    )


def make_model(options: argparse.Namespace) -> Any:
    """RecTools' defaults but for width, length, heads and what the command line gives."""
    from pytorch_lightning import Trainer, seed_everything  # type: ignore[import-not-found]
    from rectools.models import SASRecModel  # type: ignore[import-not-found]

    def make_trainer() -> Any:
        return Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    seed_everything(options.seed)
    return SASRecModel(
        n_factors=options.width,
        n_heads=options.heads,
        session_max_len=options.length,
        loss="softmax",
        epochs=1,
        get_trainer_func=make_trainer,
    )


def valid_metrics(model: Any, dataset: Any, targets: np.ndarray[Any, Any]) -> dict[str, float]:
    """Metrics of the evaluated users; who gets no list, and unknown targets, count as misses."""
    users = np.flatnonzero(targets)
    lists = model.recommend(users, dataset, k=K, filter_viewed=True)
    found = lists[lists["item_id"].to_numpy() == targets[lists["user_id"].to_numpy()]]
    gains = 1 / np.log2(found["rank"].to_numpy() + 1)
    return {"hit@10": len(found) / len(users), "ndcg@10": float(gains.sum()) / len(users)}


def parse() -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("split", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--minutes", type=float, default=60.0, help="limit of processor time")
    return parser.parse_args()


def main() -> None:
    """Train, and write a line an epoch."""
    options = parse()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    from rectools.dataset import Dataset  # type: ignore[import-not-found]

    with np.load(options.split) as content:
        split = {name: content[name] for name in content.files}
    dataset = Dataset.construct(interactions_of(split))
    lengths = np.diff(split["offsets"])
    per_epoch = int(np.minimum(lengths - 1, options.length)[lengths > 1].sum())
    model, trained = make_model(options), 0.0
    started = time.process_time()
    with options.output.open("w") as lines:
        for epoch in range(1, options.epochs + 1):
            began = time.process_time()
            model.fit_partial(dataset, min_epochs=1, max_epochs=1)
            trained += time.process_time() - began
            row = {"epoch": epoch, "train_s": round(trained, 2), "targets": epoch * per_epoch}
            row |= valid_metrics(model, dataset, split["targets"])
            row["seconds"] = round(time.process_time() - started, 2)
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            if time.process_time() - started > 60 * options.minutes:
                break


if __name__ == "__main__":
    main()
