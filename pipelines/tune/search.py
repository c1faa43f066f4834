"""A search as Ray Tune sees it: search algorithm, scheduler, stopper and callback over records.

What Ray Tune would keep in pickles follows from the records of the trials instead. The engine draws
from them, and the scheduler is told again what they reported; so a search that was killed goes on
where it stood, on another machine if need be.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import Searcher

from lightsans.config import RunConfig, TuneConfig, to_dict
from lightsans.search.proposals import Proposer
from lightsans.search.space import SearchSpace
from pipelines.train.stage import model_id
from pipelines.tune.records import TrialRecord, TrialStore

EPOCH, SCORE = "epoch", "score"
NOBODY: Any = None
"""In place of Ray Tune's controller, at which our schedulers do not look."""


class Search:
    """The trials of a search, on the driver.

    Args:
        space: What may be tried, around the run that is varied.
        store: Where the trials are recorded.
        dataset_id: What they train on.
        on_change: Told of every trial that begins, reports or ends.
    """

    def __init__(
        self,
        space: SearchSpace,
        store: TrialStore,
        dataset_id: str,
        on_change: Callable[["Search", TrialRecord], None],
    ) -> None:
        self.space, self._store, self._dataset_id = space, store, dataset_id
        self._on_change = on_change
        self.settings: TuneConfig = space.base.tune
        self.metric = space.base.train.valid_metric
        self.epochs = space.base.train.epochs
        self._proposer = Proposer(space, self.settings.engine, self.settings.seed)
        self.combinations = self._proposer.combinations
        self.trials = {record.number: record for record in store.load()}
        self._kept = self._best_of(r for r in self.trials.values() if r.status != "running")
        self._waiting = [n for n, record in self.trials.items() if record.status == "running"]
        self._handed_out: set[int] = set()
        self._failures = Counter[int]()
        self._spent_before = store.load_spent()
        self._started = time.monotonic()
        self.interrupted = False

    @property
    def spent_s(self) -> float:
        """Seconds that the search has run, all its parts together."""
        return self._spent_before + time.monotonic() - self._started

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the best valid metric; of equal ones the first."""
        return self._best_of(self.trials.values())

    def _best_of(self, records: Iterable[TrialRecord]) -> TrialRecord | None:
        scored = [record for record in records if record.history and record.status != "failed"]
        return max(scored, key=lambda r: (r.score(self.metric) or 0.0, -r.number), default=None)

    def configuration(self, record: TrialRecord) -> RunConfig:
        """The training run that a trial is."""
        run = self.space.configure(record.values)
        return replace(run, tune=TuneConfig())

    def next(self) -> TrialRecord | None:
        """The next trial to run: first those that were interrupted or failed, then a new one."""
        record = self.trials[self._waiting.pop(0)] if self._waiting else self._draw()
        if record is not None:
            self._handed_out.add(record.number)
        return record

    @property
    def may_go_on(self) -> bool:
        """Whether a trial may come back for another attempt when there is no next one."""
        return bool(self._handed_out) and not self.is_over()

    def _draw(self) -> TrialRecord | None:
        limit = self.settings.max_trials
        if self.is_over() or (limit is not None and len(self.trials) >= limit):
            return None
        observed = [record.observation(self.metric) for record in self.trials.values()]
        values = self._proposer.next(observed)
        if values is None:
            return None
        number = len(self.trials) + 1
        run = self.space.configure(values)
        record = TrialRecord(number=number, values=values, model_id=model_id(run, self._dataset_id))
        self.trials[number] = record
        self._store.save(record)
        self._on_change(self, record)
        return record

    def report(self, number: int, row: dict[str, Any]) -> None:
        """A trial has ended an epoch, or tells its last one again."""
        record = self.trials[number]
        record.history = [r for r in record.history if r["epoch"] < row["epoch"]] + [row]
        self._on_change(self, record)

    def end(self, number: int, *, finished: bool = False, error: str | None = None) -> None:
        """A trial has ended: by itself, by the scheduler, or with an error."""
        record = self.trials[number]
        self._handed_out.discard(number)
        record.error = error
        record.status = "failed" if error else "finished" if finished else "stopped"
        self._store.save(record)
        self._store.save_spent(self.spent_s)
        self._tidy(record)
        self._on_change(self, record)

    def fail(self, number: int, error: str) -> None:
        """An attempt has failed: the trial goes on from its checkpoint, up to so many times."""
        self._failures[number] += 1
        if self._failures[number] > self.space.base.train.max_failures:
            self.end(number, error=error)
        else:
            self._handed_out.discard(number)
            self._waiting.append(number)

    def is_over(self) -> bool:
        """Whether the budget, or somebody's patience, is used up: running trials end, too."""
        limit = self.settings.max_minutes
        if self.interrupted or (limit is not None and self.spent_s >= limit * 60):
            return True
        target = self.settings.target
        best = self.best
        return target is not None and best is not None and (best.score(self.metric) or 0) >= target

    def close(self) -> None:
        """Note the time."""
        self._store.save_spent(self.spent_s)

    def _tidy(self, record: TrialRecord) -> None:
        """Of the trials that have ended, only the best one's checkpoints are of use."""
        candidates = [r for r in (self._kept, record) if r is not None]
        self._kept = self._best_of(candidates)
        for other in candidates:
            if other is not self._kept:
                self._store.trial_directory(other.number).delete()


# ---- Ray Tune's side -----------------------------------------------------------------------------


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
        return {"number": record.number, "model_id": record.model_id, "run": to_dict(run)}

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
            self._search.report(trial.config["number"], result["row"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The end, good or not; of an interrupted search trials stay running."""
        last = trial.last_result
        finished = bool(last.get("finished"))
        if self._search.is_over() and not finished and "error" not in last:
            return
        self._search.end(trial.config["number"], finished=finished, error=last.get("error"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The end of an attempt; of an interrupted search trials stay running.

        Ray Tune itself retries nothing: it would not try again where a process dies, or raises,
        while it takes over the next trial.
        """
        if self._search.is_over():
            return
        lines = Path(trial.error_file).read_text().strip().splitlines()
        self._search.fail(trial.config["number"], lines[-1].strip()[:500])


class BudgetStopper(tune.Stopper):
    """Ends the search when its budget is used up."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Trials end with the search, not for themselves."""
        return False

    def stop_all(self) -> bool:
        """Whether it is over."""
        return self._search.is_over()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles stoppers into files that are thrown away."""
        return {}


@dataclass(frozen=True, slots=True)
class _Contestant:
    """What a scheduler looks at in a trial; the same for all its attempts, now and earlier."""

    trial_id: str


class _Remembering(TrialScheduler):
    """Tells a scheduler what trials reported before the search was interrupted.

    The last epoch of an interrupted trial is not told: the trial reports it again, because nobody
    knows whether it was decided on. Repeated reports are not passed on.
    """

    _search: Search

    def remember(self, search: Search) -> None:
        self._search, self._told = search, dict[int, int]()
        for record in search.trials.values():
            if record.status == "running" or not record.history:
                continue
            reports = self._reports_of(record)
            self._add(record.number)
            self._tell(record.number, reports)
            super().on_trial_complete(NOBODY, _contestant(record.number), reports[-1])

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        number = trial.config["number"]
        self._add(number)
        self._tell(number, self._reports_of(self._search.trials[number])[:-1])

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self._tell(trial.config["number"], [result] if SCORE in result else [])

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if SCORE in result:  # else it failed
            number = trial.config["number"]
            super().on_trial_complete(NOBODY, _contestant(number), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing: what it has reported stays."""

    def _add(self, number: int) -> None:
        if number not in self._told:
            self._told[number] = 0
            super().on_trial_add(NOBODY, _contestant(number))

    def _tell(self, number: int, reports: list[dict[str, Any]]) -> str:
        """Pass on what is new; the last decision."""
        decision: str = TrialScheduler.CONTINUE
        for report in reports:
            if report[EPOCH] > self._told[number]:
                self._told[number] = report[EPOCH]
                decision = super().on_trial_result(NOBODY, _contestant(number), report)
        return decision

    def _reports_of(self, record: TrialRecord) -> list[dict[str, Any]]:
        curve = record.curve(self._search.metric)
        return [{EPOCH: epoch, SCORE: score} for epoch, score in curve.items()]


def _contestant(number: int) -> Any:
    return _Contestant(f"trial-{number}")


class _RememberingASHA(_Remembering, ASHAScheduler):
    pass


class _RememberingMedian(_Remembering, MedianStoppingRule):
    pass


def make_scheduler(search: Search) -> TrialScheduler:
    """The configured scheduler, which knows the trials so far."""
    settings, epochs = search.settings, search.epochs
    if settings.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    grace = min(settings.grace_epochs, epochs)
    common: dict[str, Any] = {
        "time_attr": EPOCH,
        "metric": SCORE,
        "mode": "max",
        "grace_period": grace,
    }
    scheduler: _Remembering
    if settings.scheduler == "asha":
        scheduler = _RememberingASHA(
            max_t=epochs, reduction_factor=settings.reduction_factor, **common
        )
    else:
        # Infinite, because a trial that yields its place would have to be saved and restored.
        scheduler = _RememberingMedian(min_time_slice=math.inf, **common)  # type: ignore[arg-type]
    scheduler.remember(search)
    return scheduler
