"""The split that RecTools' SASRec is trained on, and what is kept of its training."""

import json
import subprocess

import numpy as np
import pytest

from benchmarks import peer_sasrec
from benchmarks.movielens import Log
from benchmarks.peer_sasrec import run_peer, valid_split
from benchmarks.train_rectools import interactions_of
from lightsans.config import RunConfig, TrainConfig
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


SPLIT = {"item_ids": np.arange(3), "test_offsets": np.array([0, 3])}


class Peer:
    """Acts as the peer: a line an epoch, and lists; it may be killed before its last epoch."""

    def __init__(self) -> None:
        self.seeds: list[str] = []
        self.is_killed = False

    def run(self, command, check, env):
        given = dict(zip(command[4::2], command[5::2], strict=True))
        self.seeds.append(given["--seed"])
        epochs = int(given["--epochs"]) - self.is_killed
        text = "".join(json.dumps({"epoch": n + 1}) + "\n" for n in range(epochs))
        lines = command[3]
        with open(lines, "w") as file:
            file.write(text + '{"epo' * self.is_killed)
        np.savez(lines.replace(".jsonl", ".npz"), lists=np.full(1, len(self.seeds)))
        if self.is_killed:
            raise subprocess.CalledProcessError(-9, command)


@pytest.fixture
def peer(monkeypatch, tmp_path):
    acting = Peer()
    (tmp_path / "python").touch()
    monkeypatch.setattr(peer_sasrec, "PEER", tmp_path / "python")
    monkeypatch.setattr(subprocess, "run", acting.run)
    return acting


def test_a_peer_that_was_killed_is_trained_anew(peer, tmp_path):
    kept = tmp_path / "kept"
    for epochs in (1, 3):
        peer.is_killed = True
        with pytest.raises(subprocess.CalledProcessError):
            run_peer(SPLIT, RunConfig(), epochs, 60, kept)
        assert not (kept / "rectools.npz").exists()
    peer.is_killed = False
    assert [row["epoch"] for row in run_peer(SPLIT, RunConfig(), 3, 60, kept)] == [1, 2, 3]
    assert np.load(kept / "rectools.npz")["lists"].tolist() == [3]


def test_a_finished_peer_is_found_by_all_that_was_asked_of_it(peer, tmp_path):
    kept = tmp_path / "kept"
    other = {**SPLIT, "item_ids": np.arange(4)}
    for _ in range(2):
        assert len(run_peer(SPLIT, RunConfig(), 2, 60, kept)) == 2
    assert len(peer.seeds) == 1
    for count, (split, epochs, minutes) in enumerate(
        [(SPLIT, 3, 60), (SPLIT, 3, 90), (other, 3, 90)], start=2
    ):
        assert len(run_peer(split, RunConfig(), epochs, minutes, kept)) == 3
        assert len(peer.seeds) == count
    again = RunConfig(train=TrainConfig(seed=7))
    run_peer(other, again, 3, 90, kept)
    assert peer.seeds[-1] == "7"
    assert np.load(kept / "rectools.npz")["lists"].tolist() == [5]
