"""Work of the workers of a training: they load sequences, train, write checkpoints.

They are started, watched and started again by Ray Train (`pipelines.train.ray_group`) or, where
there is little to train, by the driver (`pipelines.train.task_group`). Checkpoints are our own,
since one worker writes them between two steps while all go on.
"""

from collections.abc import Callable
from typing import NamedTuple

import ray
import torch
from torch import nn

from lightsans.config import TrainConfig
from lightsans.dataset.loading import load_shards, load_within
from lightsans.dataset.sequences import UserSequences
from lightsans.errors import LightSANsError
from lightsans.stages.first_weights import first_weights, popularity
from lightsans.storage.checkpoint_store import CheckpointStore
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest
from lightsans.training import collectives
from lightsans.training.checkpoint_clock import CheckpointClock
from lightsans.training.progress import StepProgress
from lightsans.training.trainer import MidEpoch, Trainer
from pipelines.session.lease import Owner
from pipelines.train.checkpoints import features_of_run, restore_trainer, write_checkpoint
from pipelines.train.errors import explain, is_out_of_memory
from pipelines.train.job import WorkerJob


class Place(NamedTuple):
    """Place of a worker: its device, and the others."""

    device: torch.device
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    """Connects the objective with those of the other workers (DDP); see `Trainer`."""
    has_notice: Callable[[], bool] = lambda: False
    """Whether the machine is about to be taken away."""


def train_worker(job: WorkerJob, place: Place) -> None:
    """Train as one worker of a group, whose collectives are connected.

    Workers are started again whenever one fails. Where that is no use, as with a loss that is not
    finite, the error waits on the board, and workers that were started again end at once.
    """
    if job.board.error() is not None:
        return
    try:
        _train(job, place)
    except LightSANsError as error:
        job.board.fail(error)
        raise
    except Exception as error:
        own = explain(error, job.config.train, f"worker {collectives.rank()}")
        if own is None:
            raise
        if is_out_of_memory(error):  # it would happen again
            job.board.fail(own)
        raise own from error


def _train(job: WorkerJob, place: Place) -> None:
    train = job.config.train
    shards = list(range(collectives.rank(), train.virtual_shards, collectives.world_size()))
    is_first = collectives.rank() == 0

    def on_step(progress: StepProgress) -> None:
        if is_first:
            job.board.step(progress)

    store = open_store(job.checkpoints, train.keep_checkpoints, job.owner)
    names: list[str | None] = [None, *store.names()]
    newest = collectives.from_first_worker(names[-1], place.device)
    resumed = None if newest is None else job.checkpoints / newest
    trainer = start_trainer(job, place, shards, resumed, on_step)
    if resumed is not None and is_first:
        partial = trainer.progress.partial
        step = partial.step if partial else 0
        job.board.resume(len(trainer.progress.history), step)
    try:
        _train_epochs(trainer, store, job, place)
    finally:
        store.close()  # the process may outlive the training


def start_trainer(
    job: WorkerJob,
    place: Place,
    shards: list[int],
    checkpoint: Location | None,
    on_step: Callable[[StepProgress], None] = lambda progress: None,
) -> Trainer:
    """The trainer of some shards, at a checkpoint or, without one, with its first weights."""
    config, dataset = job.config, job.dataset
    manifest = require_manifest(DatasetManifest, dataset, "it was removed while training")
    features = features_of_run(config, dataset, manifest, checkpoint)
    weights = None
    if checkpoint is None:
        weights = first_weights(config, dataset, job.begins_with, features)
    trainer = Trainer(
        config,
        manifest.items,
        _load_tapes(job, manifest, shards),
        place.device,
        wrap=place.wrap,
        on_step=on_step,
        item_counts=popularity(config, dataset),
        weights=weights,
        features=features,
    )
    if checkpoint is not None:
        restore_trainer(trainer, checkpoint)
    return trainer


def start_clock(train: TrainConfig, place: Place) -> CheckpointClock:
    """The clock of the checkpoints within an epoch."""
    minutes = train.checkpoint_minutes
    seconds = None if minutes is None else 60 * minutes
    return CheckpointClock(train.checkpoint_steps, seconds, place.device, place.has_notice)


def open_store(checkpoints: Location, keep: int, owner: Owner | None) -> CheckpointStore:
    """The store of a run's checkpoints, to which only workers of the present owner write."""
    if owner is None:
        return CheckpointStore(checkpoints, keep)
    # Workers may outlive the process that started them: they ask before every checkpoint.
    return CheckpointStore(checkpoints, keep, owner.token or "", owner.require)


def _load_tapes(
    job: WorkerJob, manifest: DatasetManifest, shards: list[int]
) -> dict[int, UserSequences]:
    """The sequences of this worker's shards: from Ray's object store, or read and kept here."""
    if job.tapes:
        return {shard: ray.get(job.tapes[shard]) for shard in shards}
    train = job.config.train

    def load(chosen: list[int]) -> dict[int, UserSequences]:
        times = job.config.model.reads_times
        return load_shards(job.dataset, manifest, chosen, train.virtual_shards, times)

    if train.tape_memory_mb is None:
        return load(shards)
    return load_within(lambda shard: load([shard])[shard], shards, train.tape_memory_mb << 20)


def _train_epochs(trainer: Trainer, store: CheckpointStore, job: WorkerJob, place: Place) -> None:
    is_first, clock = collectives.rank() == 0, start_clock(job.config.train, place)

    def save() -> None:
        # Of two that come too fast for the storage, one is as good: training does not wait.
        if is_first and not store.is_writing:
            write_checkpoint(trainer, store)

    while not trainer.finished:
        row = trainer.run_epoch(MidEpoch(clock, save))
        if is_first:
            write_checkpoint(trainer, store)
            if job.barrier is not None or trainer.finished:
                store.wait()
            job.board.epoch(row)
        if job.barrier is None:
            continue
        if not ray.get(job.barrier.arrive.remote(row, trainer.finished)):
            return  # the search ends this trial
