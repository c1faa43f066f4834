"""Ray Tune over the records of a search: search algorithm, scheduler, stopper and callback.

Ray Tune keeps nothing of its own: the searcher hands out the trials of a `Search`, and a scheduler
that starts anew is told what they reported before.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import Searcher

from lightsans import errors
from lightsans.config import to_dict
from lightsans.config.kinds import Scheduler
from lightsans.storage.records import from_json, to_json
from pipelines.tune.messages import SOURCE, EpochReport, LastResult, TrialConfig
from pipelines.tune.records import TrialRecord
from pipelines.tune.search import Search

EPOCH, SCORE = "epoch", "score"
NOBODY: Any = None
"""Placeholder for Ray Tune's controller, which our schedulers do not use."""


class RecordedSearcher(Searcher):
    """Ray Tune's search algorithm: hands out the trials of a `Search`."""

    def __init__(self, search: Search, num_workers: int) -> None:
        super().__init__()
        self._search, self._num_workers = search, num_workers

    def suggest(self, trial_id: str) -> Any:
        """The next trial for Ray Tune, by number and configuration."""
        record = self._search.next()
        if record is None:
            return None if self._search.may_go_on else Searcher.FINISHED
        run = self._search.configuration(record)
        # Workers of a trial are not started again by themselves: the whole trial is.
        train = replace(run.train, num_workers=self._num_workers, max_failures=0)
        run = replace(run, train=train)
        config = TrialConfig(number=record.number, model_id=record.model_id, run=to_dict(run))
        return to_json(config)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: `Recorder` has it from the same event."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the records are all."""


class Recorder(tune.Callback):
    """Passes what trials do on to the `Search`."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch."""
        if "row" in result:
            report = from_json(EpochReport, result, SOURCE)
            self._search.report(_number_of(trial), report.row)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The end, good or not; of an interrupted search trials stay running."""
        last = LastResult.of(trial.last_result)
        if last.fault is not None:
            self._search.give_up(getattr(errors, last.fault)(last.error))
            return
        if self._search.is_over() and not last.finished and last.error is None:
            return
        self._search.end(_number_of(trial), finished=last.finished, error=last.error)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The end of an attempt; of an interrupted search trials stay running.

        Ray Tune itself retries nothing: it would not try again where a process dies, or raises,
        while it takes over the next trial.
        """
        if self._search.is_over():
            return
        lines = Path(trial.error_file).read_text().strip().splitlines()
        self._search.fail(_number_of(trial), lines[-1].strip()[:500])


class BudgetStopper(tune.Stopper):
    """Ends the search when its budget is used up."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Trials end with the search, not for themselves."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is over."""
        return self._search.is_over()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles stoppers into files that are thrown away."""
        return {}


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A trial as a scheduler sees it; the same for all its attempts, now and earlier."""

    trial_id: str


class _Remembering(TrialScheduler):
    """Replays to a scheduler the reports of trials from before the search was interrupted.

    The last epoch of an interrupted trial is left out: the trial reports it again, as it is not
    known whether it was decided on. Repeated reports are not passed on.
    """

    _search: Search

    def remember(self, search: Search) -> None:
        self._search, self._told = search, dict[int, int]()
        for record in search.trials.values():
            if record.is_running or not record.history:
                continue
            reports = self._reports_of(record)
            self._add(record.number)
            self._tell(record.number, reports)
            super().on_trial_complete(NOBODY, _contestant(record.number), reports[-1])

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        number = _number_of(trial)
        self._add(number)
        self._tell(number, self._reports_of(self._search.trials[number])[:-1])

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self._tell(_number_of(trial), [result] if SCORE in result else [])

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if SCORE in result:  # else it failed
            number = _number_of(trial)
            super().on_trial_complete(NOBODY, _contestant(number), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing: what it has reported stays."""

    def _add(self, number: int) -> None:
        if number not in self._told:
            self._told[number] = 0
            super().on_trial_add(NOBODY, _contestant(number))

    def _tell(self, number: int, reports: Sequence[Mapping[str, Any]]) -> str:
        """Pass on what is new; the last decision."""
        decision: str = TrialScheduler.CONTINUE
        for report in reports:
            if report[EPOCH] > self._told[number]:
                self._told[number] = report[EPOCH]
                decision = super().on_trial_result(NOBODY, _contestant(number), dict(report))
        return decision

    def _reports_of(self, record: TrialRecord) -> list[dict[str, float]]:
        curve = record.curve(self._search.metric)
        return [{EPOCH: epoch, SCORE: score} for epoch, score in curve.items()]


def _number_of(trial: Any) -> int:
    return TrialConfig.of(trial.config).number


def _contestant(number: int) -> Any:
    return _Contestant(f"trial-{number}")


class _RememberingASHA(_Remembering, ASHAScheduler):
    pass


class _RememberingMedian(_Remembering, MedianStoppingRule):
    pass


def make_scheduler(search: Search) -> TrialScheduler:
    """The configured scheduler, which knows the trials so far."""
    scheduler = SCHEDULERS[search.settings.scheduler](search)
    if isinstance(scheduler, _Remembering):
        scheduler.remember(search)
    return scheduler


def _fifo(search: Search) -> TrialScheduler:
    return FIFOScheduler()  # type: ignore[no-untyped-call]


def _asha(search: Search) -> TrialScheduler:
    return _RememberingASHA(
        time_attr=EPOCH,
        metric=SCORE,
        mode="max",
        grace_period=min(search.settings.grace_epochs, search.epochs),
        max_t=search.epochs,
        reduction_factor=search.settings.reduction_factor,
    )


def _median(search: Search) -> TrialScheduler:
    return _RememberingMedian(
        time_attr=EPOCH,
        metric=SCORE,
        mode="max",
        grace_period=min(search.settings.grace_epochs, search.epochs),
        # A trial that yields its place would have to be saved and restored.
        min_time_slice=math.inf,  # type: ignore[arg-type]
    )


SCHEDULERS: Final[Mapping[Scheduler, Callable[[Search], TrialScheduler]]] = {
    "asha": _asha,
    "median": _median,
    "none": _fifo,
}
"""Makers of schedulers by name."""
