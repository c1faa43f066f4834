"""The split by time that `benchmarks.temporal` measures on, and which runs it finds finished."""

import sys
from argparse import Namespace

import numpy as np
import pytest
import torch

from benchmarks import temporal
from benchmarks.ladder import finished
from benchmarks.temporal import Session, in_work, main
from benchmarks.temporal_split import Rows, cut_by_time
from lightsans.preparation.temporal import MICROS, Cutoffs


def test_a_log_is_cut_by_time_and_what_comes_next_counts_whether_known_or_not():
    seconds = np.array([1, 12, 2, 3, 13, 23, 24, 25])
    users = np.array([1, 1, 2, 2, 2, 2, 2, 2])
    items = np.array([10, 30, 20, 10, 20, 40, 10, 50])
    rows = Rows.of(users, items, seconds)
    cut = cut_by_time(rows, Cutoffs(10 * MICROS, 20 * MICROS), 1)
    assert cut.raw_item_ids.tolist() == [-1, 10, 20]  # by falling count, before the first cut-off
    assert cut.next_items(rows, "valid") == [["30"], ["20"]]
    assert cut.next_items(rows, "test") == [["40", "10", "50"]]
    lists = np.array([[1, 2] + [0] * 8])
    # Of three the second comes first: a hit of any, none of the first.
    gains = 1 / np.log2(np.arange(2, 5))
    expected = [[0, 0, 1, gains[0] / gains.sum()]]
    met = cut.next_items(rows, "test")
    assert cut.gains(lists, met, "test").values == pytest.approx(np.array(expected))


def test_a_refit_has_everything_before_the_second_cut_off_for_training():
    rows = Rows.of(np.array([1, 1, 1]), np.array([10, 20, 30]), np.array([1, 12, 23]))
    cut = cut_by_time(rows, Cutoffs(20 * MICROS, 20 * MICROS), 1)
    assert cut.raw_item_ids.tolist() == [-1, 10, 20]
    assert cut.users.train_lengths.tolist() == [2]
    assert cut.next_items(rows, "valid") == []
    assert cut.next_items(rows, "test") == [["30"]]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the benchmark; tells which shares were trained on, and minutes of peers."""
    done = list[float]()

    def train_rung(session, rung, seed):
        done.append(session.options.share)
        return {"valid": 0.1, "best_epoch": 1, "cpu_minutes": 1}

    def test_run(session, run, chosen):
        done.append(session.options.peer_minutes)
        return [{"tested": "judged"}]

    def run(*arguments):
        fixed = ["--log", "completejourney", "--rungs", "plain", "--work", str(tmp_path)]
        lines = ["--lines", str(tmp_path / "lines.jsonl")]
        monkeypatch.setattr(sys, "argv", ["temporal", *fixed, *lines, *arguments])
        main()
        return done

    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(Session, "open", classmethod(lambda cls, given: cls(None, None, given)))
    monkeypatch.setattr(temporal, "train_rung", train_rung)
    monkeypatch.setattr(temporal, "test_run", test_run)
    return run


def test_a_run_on_other_rows_or_with_another_budget_is_not_the_finished_one(call):
    assert call() == [3]
    assert call("--share", "2") == [3, 2]
    assert call() == [3, 2]
    assert call("--test") == [3, 2, 15.0]
    assert call("--test", "--peer-minutes", "4") == [3, 2, 15.0, 4.0]
    assert call("--test") == [3, 2, 15.0, 4.0]
    # Another seed of the rung is trained and tested, and the first one not again.
    assert call("--test", "--seeds", "2020", "2021") == [3, 2, 15.0, 4.0, 3, 15.0]


def test_files_of_other_rows_have_other_names():
    made = [("ml-1m", 3, False), ("ml-1m", 3, True), ("ml-1m", 2, False)]
    names = [
        in_work(Namespace(log=log, share=share, smoke=smoke, work="w"), "plain-1-8.pt")
        for log, share, smoke in made
    ]
    assert len(set(names)) == 3


def test_kept_lines_say_which_rows_they_were_measured_on():
    kept = finished(temporal.LINES)
    assert kept
    assert all({"log", "share", "smoke"} <= set(line) for line in kept)
    assert all("peer_most" in line for line in kept if "tested" in line)
