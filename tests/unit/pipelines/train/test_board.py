"""Progress of training as it is printed."""

import io
import pickle
import resource
import signal
from dataclasses import replace

import pytest
from rich.console import Console
from rich.live import Live

from lightsans.errors import LightSANsError, StorageError, TrainingError
from lightsans.training.progress import EpochRow, StepProgress
from pipelines.session.clusters import ClusterUnreachableError
from pipelines.train import board as training_board
from pipelines.train.board import (
    Board,
    DirectoryBoard,
    ProgressPrinter,
    TrainingBoard,
    print_progress,
    raise_noted_error,
)

STEP = StepProgress(epoch=1, step=30, num_steps=90, loss=6.5, targets_per_s=12_345.6, left_s=61.8)


def row(epoch: int) -> EpochRow:
    return EpochRow(
        epoch=epoch, loss=6.25, targets=30_000, distinct_targets=20_000, train_s=3.0, valid_s=1.0,
        valid={"hit@10": 0.125, "ndcg@10": 0.0625, "mrr@10": 0.05},
    )  # fmt: skip


def test_a_finished_epoch_is_a_line_with_loss_metrics_speed_and_time_left(capsys):
    printer = ProgressPrinter(10, None)
    printer.epoch(row(1))
    printer.epoch(row(2))
    assert printer.shown == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "epoch   2/10  loss 6.2500  valid hit@10 0.1250 ndcg@10 0.0625 mrr@10 0.0500  "
        "10,000 targets/s  at most 32 s left"
    )


def test_a_resumed_run_says_where_it_goes_on_and_plans_from_there(capsys):
    printer = ProgressPrinter(10, None)
    printer.resume(4, 17)
    printer.epoch(row(5))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: the run goes on after epoch 4, step 17"
    assert lines[1].endswith("at most 20 s left")


def test_without_a_terminal_a_long_epoch_is_printed_now_and_then(capsys, monkeypatch):
    printer = ProgressPrinter(10, None)
    printer.step(STEP)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(training_board, "LINE_EVERY_S", 0.0)
    printer.step(STEP)
    assert capsys.readouterr().err == (
        "epoch 1: step 30/90  loss 6.5000  12,346 targets/s  62 s left of the epoch\n"
    )
    printer.epoch(row(1))
    capsys.readouterr()
    printer.step(STEP)  # late progress of an epoch that is over
    assert capsys.readouterr().err == ""


def test_on_a_terminal_the_current_epoch_is_a_live_line_below_the_finished_ones():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        printer = ProgressPrinter(10, live)
        printer.epoch(row(1))
        printer.step(StepProgress(2, 1, 90, 6.5, 12_345.6, 61.8))
        live.refresh()
    shown = screen.getvalue()
    assert "epoch   1/10" in shown
    assert shown.index("epoch   1/10") < shown.index("epoch 2: step 1/90")


@pytest.fixture(params=["memory", "directory"])
def board(request, tmp_path) -> Board:
    return TrainingBoard() if request.param == "memory" else DirectoryBoard(str(tmp_path))


def test_an_empty_board_has_no_news(board):
    assert board.read(0) == ((0, 0), None, [])
    assert board.error() is None
    raise_noted_error(board)


def test_a_board_keeps_the_last_position_and_step_and_all_epochs_in_order(board):
    board.resume(1, 5)
    board.resume(8, 3)
    board.step(STEP)
    board.step(replace(STEP, step=31))
    for epoch in (10, 9, 11):
        board.epoch(row(epoch))
    assert board.read(0) == ((8, 3), replace(STEP, step=31), [row(9), row(10), row(11)])
    assert board.read(10)[2] == [row(11)]


def test_the_first_of_several_errors_is_raised_with_its_class(board):
    board.fail(TrainingError("the loss became inf"))
    board.fail(LightSANsError("another worker waited"))
    with pytest.raises(TrainingError, match="the loss became inf"):
        raise_noted_error(board)


def test_what_one_process_notes_on_a_directory_another_reads(tmp_path):
    board = DirectoryBoard(str(tmp_path))
    (tmp_path / "part-1").write_bytes(b"half")  # of a worker that was killed
    pickle.loads(pickle.dumps(board)).epoch(row(2))
    assert board.read(1) == ((0, 0), None, [row(2)])


def test_progress_that_cannot_be_noted_is_not_shown_and_costs_nothing_else(tmp_path):
    board = DirectoryBoard(str(tmp_path / "gone"))
    board.step(STEP)
    board.epoch(row(1))
    board.fail(TrainingError("the loss became inf"))


@pytest.fixture
def full_disk():
    """No file of this process may hold a byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_hides_no_error_and_keeps_no_half_file(tmp_path, full_disk):
    board = DirectoryBoard(str(tmp_path))
    board.fail(TrainingError("the loss became inf"))  # raises nothing in its place
    board.step(STEP)
    assert list(tmp_path.iterdir()) == []
    assert board.error() is None


def test_an_error_of_a_class_of_its_own_is_noted_as_the_public_one(tmp_path):
    board = DirectoryBoard(str(tmp_path))
    board.fail(ClusterUnreachableError("nobody answers"))
    assert [type(board.error()), str(board.error())] == [StorageError, "nobody answers"]
    assert [path.name for path in tmp_path.iterdir()] == ["error"]


def test_a_board_that_goes_away_while_a_command_ends_is_not_an_error(tmp_path, capsys):
    with print_progress(DirectoryBoard(str(tmp_path / "gone")), 2):
        pass
    assert capsys.readouterr().err == ""
