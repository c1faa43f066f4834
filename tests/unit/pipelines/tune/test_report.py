"""Views of a search: the live table, lines, the leaderboard and the plots."""

import io

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipelines.tune.report import (
    TrialBoard,
    importances,
    leaderboard,
    save_leaderboard,
    save_plots,
)
from tests.factories import local
from tests.searches import make_search, row, run


@pytest.fixture
def search(tmp_path):
    """Two finished trials, a failed and a running one."""
    made = make_search(tmp_path / "search")
    run(made, [[0.1, 0.3], [0.2, 0.4]])
    failed, running = made.next(), made.next()
    assert failed is not None
    assert running is not None
    made.report(failed.number, row(1, 0.9))
    made.end(failed.number, error="the loss became nan")
    made.report(running.number, row(1, 0.35))
    return made


def test_the_leaderboard_is_from_the_best_with_failed_trials_last(search, tmp_path):
    directory = local(tmp_path / "out")
    save_leaderboard(leaderboard(search, search.space), directory)
    rows = pq.read_table(tmp_path / "out" / "leaderboard.parquet").to_pylist()
    assert [r["trial"] for r in rows] == [2, 4, 1, 3]
    assert [r["status"] for r in rows] == ["finished", "running", "finished", "failed"]
    assert rows[0]["valid_ndcg@10"] == 0.4
    assert rows[0]["best_epoch"] == 2
    assert rows[0]["train_s"] == 3.0
    assert rows[0]["model.k_interests"] == search.trials[2].values["model.k_interests"]
    assert rows[3]["error"] == "the loss became nan"
    text = (tmp_path / "out" / "leaderboard.csv").read_text()
    assert text.splitlines()[0].startswith('"rank","trial","status","epochs","best_epoch"')


def test_choices_of_mixed_kinds_have_a_column_all_the_same(tmp_path):
    raw = {"clip_norm": [None, 1.0], "hidden_act": ["gelu", "relu"]}
    search = make_search(tmp_path, raw=raw)
    run(search, [[0.1], [0.2], [0.3], [0.4]])
    table = leaderboard(search, search.space)
    assert sorted(map(str, table["train.clip_norm"].to_pylist())) == ["1.0", "1.0", "None", "None"]


def test_the_live_table_shows_running_trials_and_the_best(search):
    shown = io.StringIO()
    Console(file=shown, width=100).print(TrialBoard()._table(search))
    lines = shown.getvalue().splitlines()
    assert "4 trials, 6 epochs" in lines[0]
    assert [name for name in ("trial", "k_interests", "status", "ndcg@10") if name in lines[2]]
    assert "running" in lines[4]
    assert "0.3500" in lines[4]


def test_without_a_terminal_every_trial_that_ends_is_a_line(search, capsys):
    with TrialBoard() as board:
        board.show(search, search.trials[1])
        board.show(search, search.trials[3])
        board.show(search, search.trials[4])
    first, failed = capsys.readouterr().err.splitlines()
    assert first.startswith("trial 1 finished after 2 epochs: valid ndcg@10 0.3000 (k_interests ")
    assert first.endswith("best 0.4000 by trial 2")
    assert failed.endswith("the loss became nan")


def test_the_plots_show_what_matters(tmp_path):
    """The metric is the number of interests; the number of heads changes nothing."""
    raw = {"k_interests": [1, 2, 3, 4, 5, 6], "n_heads": [1, 2]}
    search = make_search(tmp_path / "search", raw=raw)
    for _ in range(12):
        record = search.next()
        assert record is not None
        search.report(record.number, row(1, 0.1 * record.values["model.k_interests"]))
        search.end(record.number, finished=True)
    shares = importances(search)
    assert shares["model.k_interests"] > 5 * shares["model.n_heads"]
    directory = local(tmp_path / "out")
    assert save_plots(search, directory) == shares
    for name in ("history.png", "importance.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_a_handful_of_trials_says_nothing_about_importance(search):
    assert importances(search) == {}
