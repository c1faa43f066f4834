"""The trials of a search, on the driver: what is drawn, what ended, when the budget is used up.

All state follows from the records of the trials. The engine draws from them, so a search that was
killed goes on where it stood, on another machine if need be.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from lightsans.config import RunConfig, TuneConfig
from lightsans.errors import LightSANsError
from lightsans.search.proposals import Proposer
from lightsans.search.space import SearchSpace
from lightsans.training.progress import EpochRow
from pipelines.train.identity import model_id
from pipelines.tune.records import TrialRecord, TrialStore


class Search:
    """The trials of a search, on the driver.

    Args:
        space: Values that may be tried, around the run that is varied.
        store: Where the trials are recorded.
        dataset_id: Dataset that they train on.
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
        self._kept = self._best_of(r for r in self.trials.values() if not r.is_running)
        self._waiting = [n for n, record in self.trials.items() if record.is_running]
        self._handed_out: set[int] = set()
        self._failures = Counter[int]()
        self._spent_before = store.load_spent()
        self._started = time.monotonic()
        self.interrupted = False
        self.fault: LightSANsError | None = None

    @property
    def spent_s(self) -> float:
        """Seconds that the search has run, all its parts together."""
        return self._spent_before + time.monotonic() - self._started

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the best valid metric; of equal ones the first."""
        return self._best_of(self.trials.values())

    def _best_of(self, records: Iterable[TrialRecord]) -> TrialRecord | None:
        scored = [record for record in records if record.history and not record.has_failed]
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

    def report(self, number: int, row: EpochRow) -> None:
        """Record an epoch of a trial, new or repeated."""
        record = self.trials[number]
        record.history = [r for r in record.history if r.epoch < row.epoch] + [row]
        self._on_change(self, record)

    def end(self, number: int, *, finished: bool = False, error: str | None = None) -> None:
        """A trial has ended: by itself, by the scheduler, or with an error."""
        record = self.trials[number]
        self._handed_out.discard(number)
        record.error = error
        record.status = "failed" if error else "finished" if finished else "stopped"
        self._store.save(record)
        self._store.save_spent(self.spent_s)
        self._on_change(self, record)
        self._tidy(record)

    def fail(self, number: int, error: str) -> None:
        """An attempt has failed: the trial goes on from its checkpoint, up to so many times.

        Nothing happens to a trial that has ended: what failed is the end of its processes.
        """
        if not self.trials[number].is_running:
            return
        self._failures[number] += 1
        if self._failures[number] > self.space.base.train.max_failures:
            self.end(number, error=error)
        else:
            self._handed_out.discard(number)
            self._waiting.append(number)

    def is_over(self) -> bool:
        """Whether budget or target is reached, or the search ended early: trials end."""
        limit = self.settings.max_minutes
        if (
            self.interrupted
            or self.fault is not None
            or (limit is not None and self.spent_s >= limit * 60)
        ):
            return True
        target = self.settings.target
        best = self.best
        return target is not None and best is not None and (best.score(self.metric) or 0) >= target

    def give_up(self, fault: LightSANsError) -> None:
        """End with an error that no trial is to blame for; they stay running, for the next time."""
        self.fault = self.fault or fault

    def close(self) -> None:
        """Note the time, and remove what processes of ended trials wrote after their end."""
        self._store.save_spent(self.spent_s)
        for record in self.trials.values():
            if not record.is_running and record is not self._kept:
                self._store.delete_checkpoints(record.number)

    def _tidy(self, record: TrialRecord) -> None:
        """Remove the checkpoints of ended trials, except those of the best one."""
        candidates = [r for r in (self._kept, record) if r is not None]
        self._kept = self._best_of(candidates)
        for other in candidates:
            if other is not self._kept:
                self._store.delete_checkpoints(other.number)
