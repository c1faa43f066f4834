"""A search behind Ray Tune: attempts, schedulers that remember, and the stopper."""

import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from lightsans.errors import StorageError
from pipelines.tune.messages import TrialFailure
from pipelines.tune.ray_adapters import (
    NOBODY,
    BudgetStopper,
    RecordedSearcher,
    Recorder,
    make_scheduler,
)
from tests.searches import Trial, make_search, row, run, run_trial


class FailedTrial(Trial):
    """One whose error is in a file, as Ray Tune has it."""

    def __init__(self, number: int, directory: Path, error: str) -> None:
        super().__init__(number)
        path = directory / "error.txt"
        path.write_text(f"Failure # 1\nTraceback:\n  …\n{error}\n")
        self.error_file = str(path)


def test_a_trial_goes_on_after_failures_and_is_recorded_with_the_last_one(tmp_path):
    search = make_search(tmp_path, "train.max_failures=2", "tune.max_trials=2")
    searcher, recorder = RecordedSearcher(search, 1), Recorder(search)
    first, other = searcher.suggest("a"), searcher.suggest("b")
    assert (first["number"], other["number"]) == (1, 2)
    search.report(1, row(1, 0.2))
    for attempt in range(3):
        assert searcher.suggest("c") is None, "not the end: a trial may come back"
        recorder.on_trial_error(0, [], FailedTrial(1, tmp_path, f"attempt {attempt} died"))
        assert search.trials[1].status == ("failed" if attempt == 2 else "running")
        if attempt < 2:
            assert searcher.suggest("d") == first
    assert search.trials[1].error == "attempt 2 died"
    search.end(2, finished=True)
    assert searcher.suggest("e") == Searcher.FINISHED
    again = make_search(tmp_path, "tune.max_trials=2")
    assert again.trials[1].error == "attempt 2 died"
    assert again.best is None, "the other one never ended an epoch"


def test_a_trial_that_fails_while_the_search_ends_goes_on_with_it(tmp_path):
    """Ctrl-C in a terminal reaches the trials' processes as well."""
    search = make_search(tmp_path, "train.max_failures=0")
    searcher, recorder = RecordedSearcher(search, 1), Recorder(search)
    searcher.suggest("a")
    search.interrupted = True
    recorder.on_trial_error(0, [], FailedTrial(1, tmp_path, "died"))
    assert searcher.suggest("b") == Searcher.FINISHED
    [record] = make_search(tmp_path).trials.values()
    assert (record.status, record.error) == ("running", None)


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_schedulers_see_one_trial_in_all_its_attempts(tmp_path, scheduler):
    """A report of an attempt counts once, and is not judged again."""
    settings = (f"tune.scheduler={scheduler}", "tune.grace_epochs=1")
    whole = make_search(tmp_path / "whole", *settings)
    expected = run(whole, CURVES, make_scheduler(whole))
    search = make_search(tmp_path / "failing", *settings)
    rules, ended = make_scheduler(search), []
    for curve in CURVES:
        record = search.next()
        assert record is not None
        rules.on_trial_add(NOBODY, Trial(record.number))  # type: ignore[arg-type]
        search.report(record.number, row(1, curve[0]))
        result = {"epoch": 1, "score": curve[0]}
        attempt: Any = Trial(record.number)
        if rules.on_trial_result(NOBODY, attempt, result) == TrialScheduler.STOP:
            rules.on_trial_complete(NOBODY, attempt, result)
            search.end(record.number)
            ended.append("stopped at 1")
            continue
        rules.on_trial_error(NOBODY, attempt)
        search.fail(record.number, "died")
        assert search.next() is record
        ended.append(run_trial(search, record, curve, rules))
    assert ended == expected


def test_ray_tune_can_pickle_the_stopper_of_a_search_that_is_shown_on_a_terminal(tmp_path):
    search = make_search(tmp_path)
    stopper = BudgetStopper(search)
    search.drawn_by = threading.Lock()  # type: ignore[attr-defined]  # as a live table has
    assert pickle.dumps(stopper)


CURVES = [[0.1 * level + 0.01 * epoch for epoch in range(1, 10)] for level in (3, 1, 4, 2, 5, 1.5)]


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        # Rungs at 1 and 3; below the upper third of those before it, a trial ends.
        ("asha", ["finished", "stopped at 1", "finished", "stopped at 1", "finished",
                  "stopped at 1"]),
        # After three trials, a trial ends below the median of the others' running means.
        ("median", ["finished", "finished", "finished", "stopped at 1", "finished",
                    "stopped at 1"]),
        ("none", ["finished"] * 6),
    ],
)  # fmt: skip
def test_schedulers_end_poor_trials(tmp_path, scheduler, expected):
    search = make_search(tmp_path, f"tune.scheduler={scheduler}", "tune.grace_epochs=1")
    assert run(search, CURVES, make_scheduler(search)) == expected


@pytest.mark.parametrize("scheduler", ["asha", "median"])
@pytest.mark.parametrize("ended", [1, 2, 3, 4, 5])
def test_a_scheduler_decides_after_an_interruption_as_it_would_have(tmp_path, scheduler, ended):
    settings = (f"tune.scheduler={scheduler}", "tune.grace_epochs=1")
    whole = make_search(tmp_path / "whole", *settings)
    expected = run(whole, CURVES, make_scheduler(whole))
    search = make_search(tmp_path / "killed", *settings)
    run(search, CURVES[:ended], make_scheduler(search))
    again = make_search(tmp_path / "killed", *settings)
    assert run(again, CURVES[ended:], make_scheduler(again)) == expected[ended:]


def test_an_interrupted_trial_is_not_judged_again_for_rungs_that_it_has_passed(tmp_path):
    """It passed rung 1 as the first; better trials have passed since."""
    search = make_search(tmp_path, "tune.grace_epochs=1")
    scheduler = make_scheduler(search)
    record = search.next()
    assert record is not None
    search.report(1, row(1, 0.1))
    search.report(1, row(2, 0.1))
    run(search, [[0.5] * 9, [0.6] * 9], scheduler)
    again = make_search(tmp_path, "tune.grace_epochs=1")
    again.trials[1].history = [row(1, 0.1), row(2, 0.1)]  # as its checkpoint has them
    resumed = again.next()
    assert resumed is not None
    assert resumed.number == 1
    assert run_trial(again, resumed, [0.1] * 9, make_scheduler(again)) == "stopped at 3"


def run_in_turns(search: Any, scheduler: Any, curves: list[list[float]]) -> list[str]:
    """Run all trials at once, an epoch of each in turn, the last one first; how each ended."""
    records = [search.next() for _ in curves]
    trials = {record.number: Trial(record.number) for record in records}
    for trial in trials.values():
        scheduler.on_trial_add(NOBODY, trial)
    ended: dict[int, str] = {}
    for epoch in range(1, len(curves[0]) + 1):
        for record, curve in reversed(list(zip(records, curves, strict=True))):
            if record.number in ended:
                continue
            search.report(record.number, row(epoch, curve[epoch - 1]))
            result = {"epoch": epoch, "score": curve[epoch - 1]}
            decision = scheduler.on_trial_result(NOBODY, trials[record.number], result)
            if decision == TrialScheduler.STOP or epoch == len(curve):
                scheduler.on_trial_complete(NOBODY, trials[record.number], result)
                is_whole = epoch == len(curve)
                search.end(record.number, finished=is_whole)
                ended[record.number] = "finished" if is_whole else f"stopped at {epoch}"
    return [ended[record.number] for record in records]


@pytest.mark.parametrize(
    ("scheduler", "is_equal"), [("none", True), ("asha", False), ("median", False)]
)
def test_only_without_a_scheduler_trials_end_alike_whatever_runs_at_once(
    tmp_path, scheduler, is_equal
):
    settings = (f"tune.scheduler={scheduler}", "tune.grace_epochs=1")
    one, many = (make_search(tmp_path / name, *settings) for name in ("one", "many"))
    alone = run(one, CURVES, make_scheduler(one))
    together = run_in_turns(many, make_scheduler(many), CURVES)
    assert (alone == together) == is_equal
    values = [[record.values for record in each.trials.values()] for each in (one, many)]
    assert values[0] == values[1]
    if is_equal:
        assert many.best is not None
        assert many.best.values == one.best.values  # type: ignore[union-attr]


def test_an_outage_ends_the_search_and_its_trials_go_on_with_the_next_one(tmp_path):
    search = make_search(tmp_path, "train.max_failures=0")
    searcher, recorder = RecordedSearcher(search, 1), Recorder(search)
    searcher.suggest("a")
    searcher.suggest("b")
    trial = Trial(1)
    trial.last_result = TrialFailure(error="s3://b: no answer", fault="StorageError").to_result()
    recorder.on_trial_complete(0, [], trial)
    recorder.on_trial_error(0, [], FailedTrial(2, tmp_path, "died"))  # of the same, perhaps
    assert isinstance(search.fault, StorageError)
    assert str(search.fault) == "s3://b: no answer"
    assert searcher.suggest("c") == Searcher.FINISHED
    again = make_search(tmp_path)
    assert [record.status for record in again.trials.values()] == ["running", "running"]
