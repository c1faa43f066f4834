"""A search on the driver: drawing, budgets, records, and schedulers that remember."""

import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from lightsans.config import RunConfig, StorageConfig
from lightsans.config.file import load_config
from lightsans.search.space import build_space
from lightsans.storage.location import locate
from pipelines.tune.records import TrialRecord, TrialStore
from pipelines.tune.search import (
    NOBODY,
    BudgetStopper,
    RecordedSearcher,
    Recorder,
    Search,
    make_scheduler,
)

SPACE = {"k_interests": [1, 2, 3, 4, 5, 6]}


class Trial:
    """What Ray Tune's schedulers and callbacks see of a trial."""

    def __init__(self, number: int) -> None:
        self.trial_id, self.config = f"trial-{number}", {"number": number}


class FailedTrial(Trial):
    """One whose error is in a file, as Ray Tune has it."""

    def __init__(self, number: int, directory: Path, error: str) -> None:
        super().__init__(number)
        path = directory / "error.txt"
        path.write_text(f"Failure # 1\nTraceback:\n  …\n{error}\n")
        self.error_file = str(path)


def make_search(directory, *overrides: str, raw: dict[str, Any] | None = None) -> Search:
    config = load_config(None, ["tune.engine=random", "train.epochs=9", *overrides]).config
    space = build_space(raw or SPACE, config, "tune.space")
    return Search(space, store_of(directory), "dataset", lambda search, record: None)


def store_of(directory) -> TrialStore:
    return TrialStore(locate(str(directory), StorageConfig()))


def row(epoch: int, score: float) -> dict[str, Any]:
    times = {"train_s": 1.0, "valid_s": 0.5, "loss": 1.0, "targets": 1, "distinct_targets": 1}
    return {"epoch": epoch, "valid": {"ndcg@10": score, "hit@10": score}, **times}


def run(search: Search, scores: list[list[float]], scheduler: Any = None) -> list[str]:
    """Run trials one after the other; how each ended."""
    ended = []
    for curve in scores:
        record = search.next()
        assert record is not None
        ended.append(run_trial(search, record, curve, scheduler))
    return ended


def run_trial(search: Search, record: TrialRecord, curve: list[float], scheduler: Any) -> str:
    trial = Trial(record.number)
    if scheduler is not None:
        scheduler.on_trial_add(None, trial)
    best = 0.0
    for epoch, score in enumerate(curve, 1):
        best = max(best, score)
        if epoch <= len(record.history) - 1:
            continue  # only the last epoch is told again
        search.report(record.number, row(epoch, score))
        result = {"epoch": epoch, "score": best}
        decision = TrialScheduler.CONTINUE
        if scheduler is not None:
            decision = scheduler.on_trial_result(None, trial, result)
        if decision == TrialScheduler.STOP or epoch == len(curve):
            finished = epoch == len(curve)
            if scheduler is not None:
                scheduler.on_trial_complete(None, trial, result)
            search.end(record.number, finished=finished)
            return "finished" if finished else f"stopped at {epoch}"
    raise AssertionError(record)


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
    """What an attempt reported counts once, and is not judged again."""
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


def test_trials_are_searched_over_what_the_configuration_says_and_without_a_space(tmp_path):
    search = make_search(tmp_path, "train.learning_rate=0.5")
    record = search.next()
    assert record is not None
    run_config = search.configuration(record)
    assert run_config.train.learning_rate == 0.5
    assert run_config.model.k_interests == record.values["model.k_interests"]
    assert run_config.tune == RunConfig().tune


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


def test_a_base_with_other_settings_is_another_search(tmp_path):
    from pipelines.tune.stage import search_id

    space = make_search(tmp_path).space
    base = space.base

    def id_with(**changes: Any) -> str:
        changed = replace(base, tune=replace(base.tune, **changes))
        return search_id(replace(space, base=changed), "dataset")

    assert id_with(max_trials=3, max_minutes=1.0, target=0.5, max_concurrent=1) == id_with()
    assert id_with(seed=1) != id_with()
    assert id_with(scheduler="none") != id_with()
    other = build_space({"k_interests": [1, 2]}, base, "tune.space")
    assert search_id(other, "dataset") != id_with()
    assert search_id(space, "another") != id_with()
