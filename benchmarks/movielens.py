"""Sequences of an ``.inter`` log in memory, without Ray: what the benchmarks train on.

The order and numbering are those of `submit.py preprocess`: by time, ties in order of the file;
items by falling count. Where there is no log, a synthetic one of the same size is used.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.csv

from lightsans.arrays import Int64
from lightsans.dataset.sequences import ItemTimes, UserSequences
from lightsans.synthetic.logs import generate_log

SMOKE = (
    "model.max_seq_len=8",
    "model.hidden_size=8",
    "model.inner_size=16",
    "train.window_stride=4",
    "train.epochs=2",
)
"""Settings with which a run on `smoke_log` takes seconds."""

SIZES = {"ml-100k": (943, 1_682, 100_000), "ml-1m": (6_040, 3_628, 836_478)}
"""Users, items and interactions; MovieLens-1M with ratings of at least 3."""


class Log(NamedTuple):
    """Interactions of users with items, in order of time."""

    users: UserSequences
    num_items: int
    source: str
    """The file, or a note that the log is synthetic."""
    raw_item_ids: Int64 = np.zeros(0, np.int64)
    """(N,) id of each item in the file, if it was kept."""
    times: Int64 = np.zeros(0, np.int64)
    """Time of each interaction of the tape, if it was kept."""


def load_log(path: Path, min_rating: float | None = None) -> Log:
    """The sequences of an ``.inter`` file, ratings below ``min_rating`` left out."""
    table = pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter="\t"))
    users, items, ratings, times = (column.to_numpy() for column in table.columns[:4])
    kept = np.ones(len(users), bool) if min_rating is None else ratings >= min_rating
    return arrange(users[kept], items[kept], times[kept], str(path))


def load_or_generate(name: str, directory: Path, min_rating: float | None = None) -> Log:
    """``directory/NAME.inter``, or a made-up log of its size where there is no such file."""
    path = directory / f"{name}.inter"
    if path.exists():
        return load_log(path, min_rating)
    made = generate_log(*SIZES[name])
    return arrange(made.user_ids, made.item_ids, made.timestamps, f"generated like {name}")


def arrange(users: Int64, items: Int64, times: Int64, source: str) -> Log:
    """Rows, in order of the file, as sequences; times are whole seconds."""
    raw_ids, item, count = np.unique(items, return_inverse=True, return_counts=True)
    rank = np.empty(len(raw_ids), np.int32)
    rank[np.argsort(-count, kind="stable")] = np.arange(1, len(raw_ids) + 1, dtype=np.int32)
    order = np.lexsort((np.arange(len(users)), times, users))
    lengths = np.unique(users, return_counts=True)[1]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    raw_item_ids = raw_ids[np.argsort(rank)]
    of_items = times[order] * 1_000_000
    sequences = UserSequences(rank[item[order]], offsets, times=ItemTimes(of_items))
    return Log(sequences, len(raw_ids), source, raw_item_ids, times[order])


def smoke_log() -> Log:
    """A small log, so that all code runs in seconds."""
    made = generate_log(60, 40, 1_200)
    return arrange(made.user_ids, made.item_ids, made.timestamps, "generated")
