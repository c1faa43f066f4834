"""The split that RecTools' SASRec is trained on."""

from benchmarks.movielens import Log
from benchmarks.peer_sasrec import valid_split
from benchmarks.train_rectools import interactions_of
from tests.factories import sequences_of


def test_the_peer_trains_on_what_stands_before_the_held_out_items():
    log = Log(sequences_of([1, 2, 3, 4, 5], [6, 7], [8, 9, 1]), 9, "made up")
    split = valid_split(log)
    assert split["item_ids"].tolist() == [1, 2, 3, 6, 7, 8]
    assert split["offsets"].tolist() == [0, 3, 5, 6]
    assert split["targets"].tolist() == [4, 0, 9]
    rows = interactions_of(split["item_ids"], split["offsets"])
    assert rows["user_id"].tolist() == [0, 0, 0, 1, 1, 2]
    assert rows["datetime"].is_monotonic_increasing
