"""A search on the driver: drawing, budgets and records."""

import errno
from pathlib import Path

import pytest

from lightsans.config import RunConfig, StorageConfig
from lightsans.errors import LeaseError
from lightsans.storage import location
from lightsans.storage.checkpoint_store import PROGRESS
from lightsans.storage.location import locate
from pipelines.session.lease import Lease, Owner
from pipelines.tune.records import TrialRecord, TrialStore, newest_checkpoint
from tests.searches import make_search, row, run, store_of


def test_trials_are_numbered_recorded_and_found_again(tmp_path):
    search = make_search(tmp_path)
    run(search, [[0.1, 0.3, 0.2], [0.2]])
    again = make_search(tmp_path)
    assert again.trials == search.trials
    assert [record.status for record in again.trials.values()] == ["finished", "finished"]
    best = again.best
    assert best is not None
    assert (best.number, best.score("ndcg@10")) == (1, 0.3)
    assert best.best_row("ndcg@10") == row(2, 0.3)


def test_a_new_search_goes_on_with_the_running_trials_and_then_draws_the_same(tmp_path):
    whole = make_search(tmp_path / "whole")
    expected = [whole.next() for _ in range(4)]
    search = make_search(tmp_path / "killed")
    first, second = search.next(), search.next()
    assert first is not None
    search.end(first.number, finished=True)
    again = make_search(tmp_path / "killed")
    drawn = [again.next() for _ in range(3)]
    assert drawn[0] == second
    assert [r.values for r in drawn if r] == [r.values for r in expected[1:] if r]


def test_the_search_ends_with_its_combinations_or_its_number_of_trials(tmp_path):
    search = make_search(tmp_path / "all")
    run(search, [[0.1]] * 6)
    assert search.next() is None
    search = make_search(tmp_path / "three", "tune.max_trials=3")
    run(search, [[0.1]] * 3)
    assert search.next() is None


def test_a_target_ends_the_search_and_keeps_the_trial_that_reached_it(tmp_path):
    search = make_search(tmp_path, "tune.target=0.25")
    record = search.next()
    assert record is not None
    search.report(record.number, row(1, 0.2))
    assert not search.is_over()
    search.report(record.number, row(2, 0.3))
    assert search.is_over()
    assert search.next() is None


def test_time_is_counted_over_interruptions(tmp_path):
    store_of(tmp_path).save_spent(59.9)
    assert not make_search(tmp_path, "tune.max_minutes=2").is_over()
    store_of(tmp_path).save_spent(120.5)
    assert make_search(tmp_path, "tune.max_minutes=2").is_over()
    assert make_search(tmp_path, "tune.max_minutes=2").next() is None


def test_a_failed_trial_has_an_error_and_is_never_the_best(tmp_path):
    search = make_search(tmp_path)
    run(search, [[0.1]])
    record = search.next()
    assert record is not None
    search.report(record.number, row(1, 0.9))
    search.end(record.number, error="the loss became nan")
    again = make_search(tmp_path)
    assert again.trials[2].status == "failed"
    assert again.trials[2].error == "the loss became nan"
    assert again.best is not None
    assert again.best.number == 1


def test_only_the_best_trial_keeps_its_checkpoints(tmp_path):
    search = make_search(tmp_path)
    for score in (0.2, 0.1, 0.3):
        record = search.next()
        assert record is not None
        (tmp_path / "trials" / f"{record.number:04d}" / "checkpoints").mkdir(parents=True)
        search.report(record.number, row(1, score))
        search.end(record.number, finished=True)
    kept = [path.name for path in (tmp_path / "trials").iterdir() if path.is_dir()]
    assert kept == ["0003"]


def test_what_goes_wrong_while_the_processes_of_an_ended_trial_end_is_no_failure(tmp_path):
    search = make_search(tmp_path)
    run(search, [[0.2], [0.1]])
    search.fail(2, "its directory is not empty")
    assert search.trials[2].status == "finished"
    record = search.next()
    assert record is not None
    assert record.number == 3


def test_checkpoints_that_were_written_after_the_end_of_a_trial_are_removed_at_last(tmp_path):
    search = make_search(tmp_path)
    run(search, [[0.2], [0.1]])
    for number in (1, 2):
        (tmp_path / "trials" / f"{number:04d}" / "checkpoints").mkdir(parents=True)
    search.close()
    assert [path.name for path in (tmp_path / "trials").iterdir() if path.is_dir()] == ["0001"]


def test_half_of_a_removed_checkpoint_is_never_taken_for_one(tmp_path, monkeypatch):
    store = store_of(tmp_path)
    checkpoint = store.trial_directory(1) / "checkpoints" / "epoch-00001"
    for name in ("model.safetensors", PROGRESS):
        (checkpoint / name).write_bytes(b"{}")

    def interrupted(path: str) -> None:
        Path(path, "model.safetensors").unlink(missing_ok=True)
        raise OSError(errno.EIO, "the disk is gone", path)

    monkeypatch.setattr(location, "remove_tree", interrupted)
    with pytest.raises(OSError, match="the disk is gone"):
        store.delete_checkpoints(1)
    assert newest_checkpoint(store.trial_directory(1)) is None


def test_trials_are_searched_over_what_the_configuration_says_and_without_a_space(tmp_path):
    search = make_search(tmp_path, "train.learning_rate=0.5")
    record = search.next()
    assert record is not None
    run_config = search.configuration(record)
    assert run_config.train.learning_rate == 0.5
    assert run_config.model.k_interests == record.values["model.k_interests"]
    assert run_config.tune == RunConfig().tune


def test_a_search_that_lost_its_lease_changes_no_record_and_deletes_no_checkpoint(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("pipelines.session.waiting.POLL_S", 0.02)
    directory = locate(str(tmp_path), StorageConfig())
    lock = directory / "locks" / "search.json"
    first, second = Lease(lock, "first", 0.01), Lease(lock, "second", 60)
    first.take()
    late = TrialStore(directory, Owner(lock, first.token).require)
    late.save(TrialRecord(number=1, values={}, model_id="m"))
    (late.trial_directory(1) / "x").write_bytes(b"of second")
    second.take(wait_s=10)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for change in (
        lambda: late.save(TrialRecord(number=1, values={}, model_id="m", status="failed")),
        lambda: late.save_spent(1),
        lambda: late.delete_checkpoints(1),
    ):
        with pytest.raises(LeaseError, match="lost to second"):
            change()
    assert kept == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
