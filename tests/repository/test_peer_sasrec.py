"""The split that RecTools' SASRec is trained on."""

import numpy as np

from benchmarks.movielens import Log
from benchmarks.peer_sasrec import write_split
from benchmarks.train_rectools import interactions_of
from tests.factories import sequences_of


def test_the_peer_trains_on_what_stands_before_the_held_out_items(tmp_path):
    log = Log(sequences_of([1, 2, 3, 4, 5], [6, 7], [8, 9, 1]), 9, "made up")
    write_split(log, tmp_path / "split.npz")
    with np.load(tmp_path / "split.npz") as split:
        assert split["item_ids"].tolist() == [1, 2, 3, 6, 7, 8]
        assert split["offsets"].tolist() == [0, 3, 5, 6]
        assert split["targets"].tolist() == [4, 0, 9]
        rows = interactions_of(dict(split))
    assert rows["user_id"].tolist() == [0, 0, 0, 1, 1, 2]
    assert rows["datetime"].is_monotonic_increasing
