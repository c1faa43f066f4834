"""Estimate of memory and time of a training run on the connected cluster: ``train --dry-run``."""

import contextlib
import time
from dataclasses import dataclass

import ray
import torch

from lightsans.config import RunConfig
from lightsans.dataset.loading import load_shards
from lightsans.dataset.samples import distinct_targets
from lightsans.dataset.sequences import for_refit
from lightsans.losses.objective import choose_loss
from lightsans.stages.first_weights import popularity
from lightsans.stages.item_features import training_features
from lightsans.stages.model_directory import count_parameters
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest
from lightsans.training.batches import plan_shard_epoch
from lightsans.training.checkpoint_clock import CheckpointClock
from lightsans.training.tally import peak_memory_mib
from lightsans.training.trainer import MidEpoch, Trainer
from pipelines.session.preflight import preflight
from pipelines.session.ray_session import ensure_ray, original_errors

MEASURE_S = 5.0
WARM_UP_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """One virtual shard's part of the first epoch."""

    steps: int
    targets: int
    distinct_targets: int
    tape_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One worker's memory and speed."""

    parameters: int
    model_mib: float
    memory_mib: float
    step_s: float
    valid_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """Estimate of a training run."""

    parameters: int
    loss_type: str
    workers: int
    epochs: int
    steps_per_epoch: int
    targets_per_epoch: int
    distinct_targets_per_epoch: int
    model_mib: float
    optimizer_mib: float
    tape_mib_per_worker: float
    peak_mib_per_worker: float
    step_s: float
    valid_s: float
    epoch_s: float
    total_s: float


def dry_run(config: RunConfig, dataset_id: str) -> DryRun:
    """Parameters, memory, steps and an estimate of the time, for the connected cluster.

    One worker trains on its share of a few global batches; from its speed follow the others'. What
    they wait for each other is not in it, nor that early stopping may end a run sooner.
    """
    dataset = locate(config.root, config.storage) / "datasets" / dataset_id
    manifest = require_manifest(DatasetManifest, dataset, "run `submit.py preprocess` first")
    ensure_ray()
    config = preflight("train", config)
    train = config.train
    workers = train.most_workers
    per_worker = {"num_gpus": 1.0, "num_cpus": 0.0} if train.use_gpu else {"num_cpus": 1.0}
    with original_errors():
        plans: list[ShardPlan] = ray.get(
            [_plan_shard.remote(config, dataset, shard) for shard in range(train.virtual_shards)]
        )
        measured: Measurement = ray.get(
            _measure.options(**per_worker).remote(config, dataset, workers)
        )
    epochs = train.refit_epochs or train.epochs
    steps = max(plan.steps for plan in plans)
    return DryRun(
        parameters=measured.parameters,
        loss_type=choose_loss(config.model, manifest.items, "cuda" if train.use_gpu else "cpu"),
        workers=workers,
        epochs=epochs,
        steps_per_epoch=steps,
        targets_per_epoch=sum(plan.targets for plan in plans),
        distinct_targets_per_epoch=sum(plan.distinct_targets for plan in plans),
        model_mib=measured.model_mib,
        optimizer_mib=round(2 * measured.model_mib, 2),  # Adam keeps two moments
        tape_mib_per_worker=round(sum(p.tape_bytes for p in plans) / workers / 2**20, 1),
        peak_mib_per_worker=measured.memory_mib,
        step_s=measured.step_s,
        valid_s=measured.valid_s,
        epoch_s=round(steps * measured.step_s + measured.valid_s, 1),
        total_s=round(epochs * (steps * measured.step_s + measured.valid_s), 1),
    )


@ray.remote
def _plan_shard(config: RunConfig, dataset: Location, shard: int) -> ShardPlan:
    manifest = require_manifest(DatasetManifest, dataset, "it was removed meanwhile")
    times = config.model.reads_times
    users = load_shards(dataset, manifest, [shard], config.train.virtual_shards, times)[shard]
    if config.train.refit_epochs is not None:
        users = for_refit(users)
    plan = plan_shard_epoch(users, shard, 0, config)
    return ShardPlan(
        steps=plan.num_batches,
        targets=int(plan.targets.sum()),
        distinct_targets=distinct_targets(users),
        tape_bytes=users.tape_bytes + users.offsets.nbytes,
    )


@ray.remote
def _measure(config: RunConfig, dataset: Location, workers: int) -> Measurement:
    """Train as worker 0 of so many would, for a few seconds."""
    manifest = require_manifest(DatasetManifest, dataset, "it was removed meanwhile")
    num_items = manifest.items
    shards = list(range(0, config.train.virtual_shards, workers))
    times = config.model.reads_times
    users = load_shards(dataset, manifest, shards, config.train.virtual_shards, times)
    device = torch.device("cuda" if config.train.use_gpu else "cpu")
    trainer = Trainer(
        config,
        num_items,
        users,
        device,
        item_counts=popularity(config, dataset),
        features=training_features(dataset, manifest),
    )
    stopwatch, started = _Stopwatch(), time.monotonic()
    with contextlib.suppress(_EnoughError):
        trainer.run_epoch(MidEpoch(stopwatch, lambda: None))
    step_s = stopwatch.step_s or time.monotonic() - started  # nobody asks after an only step
    started = time.monotonic()
    valid = {} if config.train.refit_epochs else trainer.validate()
    valid_s = time.monotonic() - started if valid else 0.0
    model_bytes = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    return Measurement(
        parameters=count_parameters(trainer.model),
        model_mib=round(model_bytes / 2**20, 2),
        memory_mib=round(peak_memory_mib(device), 1),
        step_s=round(step_s, 5),
        valid_s=round(valid_s, 2),
    )


class _EnoughError(Exception):
    """Ends an epoch that is only measured."""


class _Stopwatch(CheckpointClock):
    """Times the steps of an epoch, but for the first few where there are more, and ends it."""

    def __init__(self) -> None:
        super().__init__(None, None, torch.device("cpu"))
        self.step_s = 0.0

    def begin_epoch(self, step: int) -> None:
        """Measure from here."""
        self._measured_from, self._first = time.monotonic(), step

    def is_due(self, step: int) -> bool:
        """Never; raises once enough is measured."""
        now = time.monotonic()
        self.step_s = (now - self._measured_from) / (step - self._first)
        if step <= WARM_UP_STEPS:
            self._measured_from, self._first = now, step
        elif now - self._measured_from > MEASURE_S:
            raise _EnoughError
        return False
