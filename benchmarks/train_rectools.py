"""SASRec of RecTools 0.19 trained by RecTools' own trainer, a line an epoch: `peer_sasrec`'s peer.

    .venv-rectools/bin/python benchmarks/train_rectools.py SPLIT.npz OUTPUT.jsonl [--epochs 16] …

Runs in an environment of its own, which `make bench-rectools` creates: RecTools needs numpy below
2. So this file imports nothing of the project. ``SPLIT.npz`` holds the histories before the
held-out items, end to end (``item_ids``, ``offsets``), and the item that comes next (``targets``, 0
where a user is not evaluated). A line has the epoch, processor seconds of training alone and of all
so far, the targets trained, and hit@10 and ndcg@10 over all evaluated users. Seen items are removed
unless ``remove_seen`` says otherwise; a target of -1 is an item that is not known: a miss. Where
there are ``test_item_ids`` and ``test_offsets``, OUTPUT.npz has the lists of these histories by the
epoch that valid chooses, without valid targets by the last.
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


def interactions_of(item_ids: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Histories as rows; their order stands for time."""
    lengths = np.diff(offsets)
    places = np.arange(len(item_ids))
    return pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(len(lengths)), lengths),
            "item_id": item_ids,
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


def lists_of(
    model: Any, dataset: Any, users: np.ndarray[Any, Any], remove_seen: bool
) -> pd.DataFrame:
    """The best items of some users, a row each; who has no item that the model knows has none."""
    return model.recommend(
        users, dataset, k=K, filter_viewed=remove_seen, on_unsupported_targets="ignore"
    )


def valid_metrics(
    model: Any, dataset: Any, targets: np.ndarray[Any, Any], remove_seen: bool
) -> dict[str, float]:
    """Metrics of the evaluated users; who gets no list, and unknown targets, count as misses."""
    users = np.flatnonzero(targets)
    if not len(users):
        return {"hit@10": 0.0, "ndcg@10": 0.0}
    lists = lists_of(model, dataset, users, remove_seen)
    found = lists[lists["item_id"].to_numpy() == targets[lists["user_id"].to_numpy()]]
    gains = 1 / np.log2(found["rank"].to_numpy() + 1)
    return {"hit@10": len(found) / len(users), "ndcg@10": float(gains.sum()) / len(users)}


def test_lists(model: Any, dataset: Any, num_users: int, remove_seen: bool) -> Any:
    """(E, 10) items of every history, best first; 0 where there is none."""
    lists = lists_of(model, dataset, np.arange(num_users), remove_seen)
    table = np.zeros((num_users, K), np.int64)
    table[lists["user_id"], lists["rank"] - 1] = lists["item_id"]
    return table


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
    remove_seen = bool(split.get("remove_seen", True))
    dataset = Dataset.construct(interactions_of(split["item_ids"], split["offsets"]))
    tested = None
    if "test_offsets" in split:
        histories = interactions_of(split["test_item_ids"], split["test_offsets"])
        tested = Dataset.construct(histories)
    lengths = np.diff(split["offsets"])
    per_epoch = int(np.minimum(lengths - 1, options.length)[lengths > 1].sum())
    model, trained, best = make_model(options), 0.0, 0.0
    started = time.process_time()
    with options.output.open("w") as lines:
        for epoch in range(1, options.epochs + 1):
            began = time.process_time()
            model.fit_partial(dataset, min_epochs=1, max_epochs=1)
            trained += time.process_time() - began
            row = {"epoch": epoch, "train_s": round(trained, 2), "targets": epoch * per_epoch}
            row |= valid_metrics(model, dataset, split["targets"], remove_seen)
            row["seconds"] = round(time.process_time() - started, 2)
            if tested is not None and row["ndcg@10"] >= best:
                lists = test_lists(model, tested, len(split["test_offsets"]) - 1, remove_seen)
                np.savez(options.output.with_suffix(".npz"), lists=lists)
                best = row["ndcg@10"]
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            if time.process_time() - started > 60 * options.minutes:
                break


if __name__ == "__main__":
    main()
