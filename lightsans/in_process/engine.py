"""Engines do the work of a `Recommender`: this process, or whatever else keeps to `Engine`."""

import functools
import logging
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import pyarrow as pa
import torch

from lightsans.config import RunConfig, TemporalConfig
from lightsans.config.marks import Mark, values_with
from lightsans.dataset.loading import load_shards, load_trainable
from lightsans.errors import ConfigError
from lightsans.in_process.dataset import make_dataset
from lightsans.ranking.baselines import TransitionCounts
from lightsans.recommendations.user_groups import groups_identity
from lightsans.reports.evaluation_figures import (
    EvaluationFigures,
    add_measured,
    describe_evaluation,
    measured_from_bytes,
)
from lightsans.scratch import scratch_directory
from lightsans.stages.evaluate_job import (
    RECENT,
    SPLITS,
    TRANSITIONS,
    WORK,
    EvaluateJob,
    counted_parts,
    most_counted,
)
from lightsans.stages.first_weights import (
    first_weights,
    popularity,
    warm_source,
    warm_weights_hash,
)
from lightsans.stages.given_lists import cut_lists, describe_matched
from lightsans.stages.item_features import begin_features
from lightsans.stages.model_directory import write_model
from lightsans.stages.part_evaluator import PartEvaluator
from lightsans.stages.untested import require_held_out, require_unlearnt
from lightsans.stages.window import find_window, recent_rows
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, JudgedModel, ModelManifest
from lightsans.storage.manifests import content_id, read_manifest, require_manifest, write_manifest
from lightsans.storage.parts import sequence_parts
from lightsans.training.progress import EpochRow
from lightsans.training.trainer import Trainer

_log = logging.getLogger("lightsans")


class Engine(Protocol):
    """Makes datasets and models below ``config.root``, and evaluates them."""

    def make_dataset(self, config: RunConfig) -> str:
        """Make a dataset of the file that ``data.input`` names; its id."""

    def train(self, config: RunConfig, dataset_id: str) -> str:
        """Train a model of a dataset; its id."""

    def refit(self, config: RunConfig, dataset_id: str, model_id: str) -> tuple[str, str]:
        """Train on all rows, for the epochs of a model that was chosen by held-out ones; both ids.

        The dataset is another one where the first holds its newest items out of the vocabulary.
        """

    def evaluate(self, config: RunConfig, dataset_id: str, model_id: str) -> EvaluationFigures:
        """Metrics of a model and the baselines, with their statistics."""


class LocalEngine:
    """Does everything in this process, one step after the other.

    PyTorch computes with one thread, as in a worker of the pipeline: sums of floats depend on how
    many there are, and steps are so small that threads mostly wait for each other.
    """

    def make_dataset(self, config: RunConfig) -> str:
        """See `Engine`."""
        return make_dataset(config)

    def train(self, config: RunConfig, dataset_id: str) -> str:
        """See `Engine`."""
        return self._train(config, dataset_id, None)

    def _train(self, config: RunConfig, dataset_id: str, judged: JudgedModel | None) -> str:
        root = locate(config.root, config.storage)
        dataset = root / "datasets" / dataset_id
        manifest = require_manifest(DatasetManifest, dataset, "fit again")
        if config.train.refit_epochs is None:
            require_held_out(manifest, "refit_epochs says for how many epochs to train")
        question = {
            "dataset": dataset_id,
            "model": values_with(config.model, Mark.CONTENT),
            "train": values_with(config.train, Mark.CONTENT),
            "warm_start": warm_weights_hash(config),
            "use_gpu": config.train.use_gpu,
            **values_with(config.evaluate, Mark.VALIDATES),
            **({} if judged is None else {"judged": judged.weights_sha256}),
        }
        directory = root / "models" / content_id("frame-model", files.FORMAT_VERSION, question)
        if read_manifest(ModelManifest, directory) is None:
            with one_thread():
                made = _train(config, dataset, manifest, directory)
                write_manifest(directory, replace(made, judged=judged))
        return directory.name

    def refit(self, config: RunConfig, dataset_id: str, model_id: str) -> tuple[str, str]:
        """See `Engine`."""
        root = locate(config.root, config.storage)
        chosen = require_manifest(ModelManifest, root / "models" / model_id, "fit again")
        manifest = require_manifest(DatasetManifest, root / "datasets" / dataset_id, "fit again")
        judged = JudgedModel(
            model_id=model_id,
            weights_sha256=files.weights_hash(root / "models" / model_id),
            dataset_id=dataset_id,
            method="full",
        )
        if manifest.split.cuts_by_time:  # the newest items are not in its vocabulary
            data = replace(config.data, split="none", temporal=TemporalConfig())
            dataset_id = make_dataset(replace(config, data=data), dataset_id)
        train = replace(config.train, refit_epochs=chosen.best_epoch)
        return dataset_id, self._train(replace(config, train=train), dataset_id, judged)

    def evaluate(self, config: RunConfig, dataset_id: str, model_id: str) -> EvaluationFigures:
        """See `Engine`; nothing is left on storage."""
        root = locate(config.root, config.storage)
        dataset, model = root / "datasets" / dataset_id, root / "models" / model_id
        manifest = require_manifest(DatasetManifest, dataset, "fit again")
        require_unlearnt(manifest, require_manifest(ModelManifest, model, "fit again"))
        with scratch_directory() as scratch:
            job = EvaluateJob(
                config=config,
                dataset=dataset,
                dataset_manifest=manifest,
                model=model,
                map_items=False,
                window=find_window(config.evaluate.popular_days, manifest),
                report=locate(scratch, config.storage),
                require_owner=lambda: None,
                groups=groups_identity(config, manifest.data),
            )
            with one_thread():
                return _evaluate(job, manifest)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, PyTorch computes with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    config: RunConfig, dataset: Location, manifest: DatasetManifest, directory: Location
) -> ModelManifest:
    """Write all of a model but its manifest, which is given back."""
    _require_gpu(config)
    shards = config.train.virtual_shards
    features = begin_features(dataset, manifest, warm_source(config))
    trainer = Trainer(
        config,
        manifest.items,
        load_shards(dataset, manifest, list(range(shards)), shards, config.model.reads_times),
        torch.device("cuda" if config.train.use_gpu else "cpu"),
        item_counts=popularity(config, dataset),
        weights=first_weights(config, dataset, features=features),
        features=features,
    )
    history = trainer.progress.history
    best, weights = -1, b""
    while not trainer.finished:
        row = trainer.run_epoch()
        _log.info("%s", _describe(row, config))
        if trainer.progress.best_epoch != best:
            best = trainer.progress.best_epoch
            weights = files.weights_to_bytes(trainer.model, trainer.weights())
    best_row = next(row for row in history if row.epoch == best)
    finished = read_manifest(ModelManifest, directory)
    if finished is not None:  # another process trained it meanwhile
        return finished
    return write_model(
        config, dataset, manifest, directory, weights, best_row, history, str(directory)
    )


def _require_gpu(config: RunConfig) -> None:
    """Refuse to train on a GPU where PyTorch has none.

    Raises:
        ConfigError: There is none.
    """
    if config.train.use_gpu and not torch.cuda.is_available():
        raise ConfigError(
            "train.use_gpu=true, and PyTorch finds no GPU on this machine; set it to false, or "
            "install a PyTorch with CUDA and look at torch.cuda.is_available()"
        )


def _describe(row: EpochRow, config: RunConfig) -> str:
    metric = config.train.valid_metric
    valid = f"{metric} {row.valid[metric]:.4f}" if metric in row.valid else "none"
    return (
        f"epoch {row.epoch}/{config.train.epochs}: loss {row.loss:.4f}, valid {valid}, "
        f"{row.train_s + row.valid_s:.1f} s"
    )


def _evaluate(job: EvaluateJob, manifest: DatasetManifest) -> EvaluationFigures:
    parts, work = sequence_parts(job.dataset, manifest), job.report / WORK
    protocol = job.config.evaluate
    counted = counted_parts(parts, manifest, most_counted(protocol, recent=False))
    counts = (TransitionCounts.count(load_trainable(part), manifest.items) for part in counted)
    (work / TRANSITIONS).write_bytes(functools.reduce(operator.add, counts).to_bytes())
    if job.window is not None:
        window = job.window
        counted = counted_parts(parts, manifest, most_counted(protocol, recent=True))
        rows = (recent_rows(part, window) for part in counted)
        (work / RECENT).write_bytes(functools.reduce(operator.add, rows).to_bytes())
    matched = None
    if job.config.evaluate.recommendations is not None:
        matched = cut_lists(job.config, job.dataset, manifest, work)
    evaluator = PartEvaluator(job)
    for part in parts:
        evaluator(pa.table({"name": [part.name]}))
    measured = add_measured(
        measured_from_bytes((work / f"{part.name}.npz").read_bytes()) for part in parts
    )
    ks = tuple(job.config.evaluate.ks)
    found = describe_evaluation(measured, job.scorers, SPLITS, ks, matched)
    if found.matched is not None:
        _log.info("%s", describe_matched(found.matched, found.users["test"]))
    return found
