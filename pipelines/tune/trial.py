"""One trial of a search: an ordinary training run that reports after every epoch.

With one worker it trains in the process of the Ray Tune trial itself, with more in a Ray Train
group of its own. The workers of such a group wait after each epoch for a decision: the trial goes
on, or ends its workers in order and leaves no placement group behind. Both write
`pipelines.train.checkpoints`, and a trial that starts anew goes on from the newest.
"""

import asyncio
import threading
from collections import deque
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import ray
import torch
from ray import tune

from lightsans.config import RunConfig
from lightsans.config.file import from_dict
from lightsans.dataset.loading import load_shards
from lightsans.errors import (
    AccessError,
    InputError,
    LeaseError,
    LightSANsError,
    StorageError,
)
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import is_finished, require_manifest
from lightsans.storage.model_files import HISTORY
from lightsans.training.progress import EpochRow, read_history
from lightsans.training.trainer import MidEpoch
from pipelines.session.lease import Owner
from pipelines.session.ray_session import find_own_error, on_this_machine
from pipelines.train.board import ActorBoard, Board, TrainingBoard
from pipelines.train.checkpoints import write_checkpoint
from pipelines.train.errors import explain, is_out_of_memory
from pipelines.train.job import WorkerJob
from pipelines.train.ray_group import make_torch_trainer
from pipelines.train.worker import Place, open_store, start_clock, start_trainer
from pipelines.tune.messages import EpochReport, TrialConfig, TrialFailure
from pipelines.tune.records import checkpointed_progress, newest_checkpoint

POLL_S = 0.5
FAULTS = (StorageError, AccessError, LeaseError)
"""Errors that any trial would meet: they end the search, and no trial fails by them."""


class TrialTask(NamedTuple):
    """Data and directories that all trials of a search share."""

    dataset: Location
    trials: Location
    """Directory of the search's trials."""
    models: Location
    """Finished models: a trial that is one of them is not trained again."""
    tapes: list[Any]
    """Sequences of each virtual shard: one copy a node, which its trials read in place."""
    owner: Owner | None = None
    """Token of the search that may write checkpoints; None where no other can."""
    begins_with: str | None = None
    """SHA-256 of the weights of ``train.warm_start``, which the search's id stands for."""

    def job_of(self, config: RunConfig, directory: Location, board: Board) -> WorkerJob:
        """The job of the workers of one trial."""
        return WorkerJob(
            config=config,
            dataset=self.dataset,
            model=directory,
            board=board,
            owner=self.owner,
            begins_with=self.begins_with,
            tapes=tuple(self.tapes),
        )


class News(NamedTuple):
    """An epoch that ended, and whether it was the last one."""

    row: EpochRow
    finished: bool


class Run(Protocol):
    """A training run, epoch by epoch."""

    def next_epoch(self) -> News:
        """Train one more epoch; its checkpoint is written."""

    def close(self) -> None:
        """End the run where it stands."""


@ray.remote(num_cpus=0, max_retries=-1, num_returns=2)  # no CPU: trials may hold all of them
def load_tape(dataset: Location, shard: int, num_shards: int, with_times: bool) -> tuple[Any, None]:
    """The trainable sequences of one virtual shard, and nothing: for who waits for them only."""
    manifest = require_manifest(DatasetManifest, dataset, "it was removed during the search")
    return load_shards(dataset, manifest, [shard], num_shards, with_times)[shard], None


class TrialTrainable(tune.Trainable):
    """A trial for Ray Tune: see `pipelines.tune.messages` for its configuration and results.

    Ray Tune has no checkpoint to save or to load: every epoch writes its own, and a run finds its
    newest.
    """

    def setup(self, config: dict[str, Any], task: TrialTask | None = None) -> None:
        """Take a configuration; the data is read when the first epoch starts."""
        assert task is not None
        self._task = task
        self._run: Run | None = None
        self._has_begun = False
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial into this process, which has everything imported."""
        self.cleanup()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch. After an interruption, the last one is reported again first."""
        try:
            if not self._has_begun:
                self._has_begun = True
                news = self._last_news()
                if news is not None:
                    return self._result(news)
            if self._run is None:
                self._run = self._start()
            return self._result(self._run.next_epoch())
        except LightSANsError as error:
            own = find_own_error(error) or error  # of a task: without its traceback
            fault = type(own).__name__ if isinstance(own, FAULTS) else None
            return TrialFailure(error=str(own), fault=fault).to_result()
        except Exception as error:
            told = explain(error, self._config.train, f"trial {self._number}")
            if told is None or not is_out_of_memory(error):
                raise
            return TrialFailure(error=str(told)).to_result()

    def cleanup(self) -> None:
        """End what is running."""
        if self._run is not None:
            self._run.close()
        self._run = None

    def _begin(self, config: dict[str, Any]) -> None:
        trial = TrialConfig.of(config)
        self._config, self._number = from_dict(trial.run), trial.number
        self._directory = self._task.trials / f"{self._number:04d}"
        self._model_id = trial.model_id
        self._best, self._has_begun = 0.0, False

    def _start(self) -> Run:
        model = self._task.models / self._model_id
        if is_finished(model):
            return FinishedRun(model)
        if self._config.train.num_workers == 1:
            return LocalRun(self._config, self._task, self._directory)
        return DistributedRun(self._config, self._task, self._directory)

    def _last_news(self) -> News | None:
        """The last epoch of a trial that was interrupted."""
        train = self._config.train
        progress = checkpointed_progress(self._directory)
        if not progress.history:
            return None
        self._best = max(row.valid.get(train.valid_metric, 0.0) for row in progress.history)
        finished = progress.stopped or len(progress.history) >= train.epochs
        return News(progress.history[-1], finished)

    def _result(self, news: News) -> dict[str, Any]:
        row, finished = news
        if not row.valid:
            raise InputError(
                "0 users could be evaluated on valid, so a search has nothing to choose by; "
                "tune on a dataset whose users have three interactions or more"
            )
        self._best = max(self._best, row.valid[self._config.train.valid_metric])
        report = EpochReport(epoch=row.epoch, score=self._best, row=row, finished=finished)
        return report.to_result()


class LocalRun:
    """A run in this process."""

    def __init__(self, config: RunConfig, task: TrialTask, directory: Location) -> None:
        job = task.job_of(config, directory, TrainingBoard())  # Ray Tune tells of its epochs
        device = torch.device("cuda" if config.train.use_gpu else "cpu")
        place = Place(device)
        shards = list(range(len(task.tapes)))
        self._trainer = start_trainer(job, place, shards, newest_checkpoint(directory))
        self._store = open_store(job.checkpoints, 1, task.owner)
        self._mid_epoch = MidEpoch(start_clock(config.train, place), self._save)

    def next_epoch(self) -> News:
        """Train an epoch and write its checkpoint."""
        row = self._trainer.run_epoch(self._mid_epoch)
        write_checkpoint(self._trainer, self._store)
        self._store.wait()
        return News(row, self._trainer.finished)

    def close(self) -> None:
        """Nothing is running between epochs."""

    def _save(self) -> None:
        if not self._store.is_writing:
            write_checkpoint(self._trainer, self._store)


class FinishedRun:
    """Replays the curve of a finished model."""

    def __init__(self, model: Location) -> None:
        self._rows = deque(read_history(model / HISTORY))

    def next_epoch(self) -> News:
        """The next epoch of the learning curve."""
        return News(self._rows.popleft(), not self._rows)

    def close(self) -> None:
        """Nothing is running."""


class DistributedRun:
    """A run of several workers, started by Ray Train from here."""

    def __init__(self, config: RunConfig, task: TrialTask, directory: Location) -> None:
        barrier: Any = ray.remote(num_cpus=0)(Barrier)  # workers that start again need it
        self._barrier = barrier.options(scheduling_strategy=on_this_machine()).remote()
        self._epoch = len(checkpointed_progress(directory).history)
        job = task.job_of(config, directory, ActorBoard.start())
        self._fit = make_torch_trainer(replace(job, barrier=self._barrier)).fit
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._fit()
        except BaseException as error:
            self._error = error

    def next_epoch(self) -> News:
        """Let the workers go on, and wait for their next epoch."""
        news = self._barrier.next.remote(self._epoch)
        while not ray.wait([news], timeout=POLL_S)[0]:
            if not self._thread.is_alive():
                raise self._why_ended()
        row, finished = ray.get(news)
        self._epoch = row.epoch
        return News(row, finished)

    def _why_ended(self) -> BaseException:
        if self._error is None:
            return RuntimeError("the workers ended before the last epoch")
        return find_own_error(self._error) or self._error

    def close(self) -> None:
        """Tell the workers to end, and wait until they have."""
        ray.get(self._barrier.close.remote())
        self._thread.join()


class Barrier:
    """Barrier at which the workers of a trial wait after each epoch; an asynchronous Ray actor."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._news: tuple[EpochRow, bool] | None = None
        self._passed = 0
        self._closed = False

    async def arrive(self, row: EpochRow, finished: bool) -> bool:
        """A worker has ended an epoch, checkpoint included; whether it is to go on."""
        async with self._changed:
            self._news = (row, finished)
            self._changed.notify_all()
            if not finished:
                await self._changed.wait_for(lambda: self._closed or self._passed >= row.epoch)
            return not self._closed

    async def next(self, epoch: int) -> tuple[EpochRow, bool]:
        """Let workers pass that have ended ``epoch``; the first later epoch that ends."""
        async with self._changed:
            self._passed = max(self._passed, epoch)
            self._changed.notify_all()
            await self._changed.wait_for(
                lambda: self._news is not None and self._news[0].epoch > epoch
            )
            assert self._news is not None
            return self._news

    async def close(self) -> None:
        """Close the barrier: waiting workers end."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()
