"""Ray Train around `lightsans.training`: DDP workers, checkpoints, and the model directory.

    models/<id>/  model.safetensors  items.parquet  config.yaml  metrics.json  history.json
                  checkpoints/       what Ray Train resumes from: the best and the latest epoch
                  manifest.json      written last

The id is a hash of everything the weights depend on, and the name under which Ray Train resumes:
an interrupted run is continued by the same command, a changed one starts anew.
"""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import CheckpointConfig, FailureConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from lightsans import checkpoint as files
from lightsans import distributed
from lightsans.config import RunConfig, to_dict
from lightsans.config_file import dump_yaml, from_dict
from lightsans.dataset import load_shards
from lightsans.errors import LightSANsError, TrainingError
from lightsans.learning_curve import EpochRow, StepNews
from lightsans.loss import choose_loss
from lightsans.manifest import content_id, read_manifest, require_manifest, write_manifest
from lightsans.model import LightSANs
from lightsans.storage import Location, locate
from lightsans.training import Trainer
from pipelines.logs import add_log_context, log_context
from pipelines.preflight import preflight
from pipelines.progress import say
from pipelines.ray_session import ensure_ray, original_errors
from pipelines.tracking import write_scalars
from pipelines.training_board import (
    has_failed,
    raise_noted_error,
    start_board,
    watch_board,
)

FORMAT_VERSION = 1
PROGRESS = "progress.json"
OPTIMIZER = "optimizer.safetensors"

NO_EFFECT_ON_WEIGHTS = ("num_workers", "use_gpu", "eval_batch_size", "max_failures")


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished model."""

    model_id: str
    location: Location
    skipped: bool
    manifest: dict[str, Any]
    metrics: dict[str, Any]


def model_id(config: RunConfig, dataset_id: str) -> str:
    """The id of the model that this configuration makes of a dataset."""
    train = {k: v for k, v in asdict(config.train).items() if k not in NO_EFFECT_ON_WEIGHTS}
    # How the valid metric is computed decides which epoch is kept.
    protocol = {"remove_seen": config.evaluate.remove_seen}
    if config.model.loss_type == "auto":
        protocol["use_gpu"] = config.train.use_gpu  # by which the loss is chosen
    question = {"dataset": dataset_id, "model": asdict(config.model), "train": train, **protocol}
    return content_id("model", FORMAT_VERSION, question)


@log_context(stage="train")
def run_train(config: RunConfig, dataset_id: str, *, force: bool = False) -> TrainResult:
    """Train a model on a finished dataset, or find it trained; continue it if interrupted.

    Raises:
        NotFoundError: The dataset is not finished.
        TrainingError: The loss is not finite, there is nothing to train on, or workers kept dying.
    """
    root = locate(config.root, config.storage)
    dataset = root / "datasets" / dataset_id
    dataset_manifest = require_manifest(dataset, "run `submit.py preprocess` first")
    name = model_id(config, dataset_id)
    add_log_context(dataset_id=dataset_id, model_id=name)
    directory = root / "models" / name
    manifest = read_manifest(directory)
    if manifest is not None and not force:
        say(f"train: model {name} is up to date ({directory}); --force redoes it")
        return TrainResult(name, directory, True, manifest, read_metrics(directory))
    say(f"train: model {name} on dataset {dataset_id}, {config.train.num_workers} workers")
    _say_which_loss(config, int(dataset_manifest["items"]))
    ensure_ray()
    fitting = preflight("train", config)
    if force:
        directory.delete()
    best = _fit(fitting, dataset, directory)
    manifest, metrics = _finish(config, dataset, dataset_manifest, directory, best)
    return TrainResult(name, directory, False, manifest, metrics)


def _say_which_loss(config: RunConfig, num_items: int) -> None:
    if config.model.loss_type == "auto":
        device = "cuda" if config.train.use_gpu else "cpu"
        chosen = choose_loss(config.model, num_items, device)
        say(f"train: model.loss_type auto is {chosen} for {num_items:,} items on {device}")


def read_metrics(directory: Location) -> dict[str, Any]:
    """``metrics.json`` of a model directory."""
    return (directory / files.METRICS).read_json()


def _fit(config: RunConfig, dataset: Location, directory: Location) -> Location:
    """Train with Ray; the location of the best checkpoint."""
    board = start_board()
    train = config.train
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": to_dict(config), "dataset": dataset, "board": board},
        scaling_config=ScalingConfig(num_workers=train.num_workers, use_gpu=train.use_gpu),
        run_config=ray.train.RunConfig(
            name="checkpoints",
            storage_path=directory.path,
            storage_filesystem=directory.arrow_filesystem,
            failure_config=FailureConfig(max_failures=train.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=1,  # the best; the latest is kept besides
                checkpoint_score_attribute=train.valid_metric,
                checkpoint_score_order="max",
            ),
        ),
    )
    with original_errors(), watch_board(board, train.epochs):
        result = trainer.fit()
    raise_noted_error(board)
    best = result.get_best_checkpoint(train.valid_metric, "max")
    if best is None:
        raise TrainingError(f"{directory}: training ended without a checkpoint; see Ray's logs")
    return directory / "checkpoints" / Path(best.path).name


def train_worker(loop_config: dict[str, Any]) -> None:
    """What each worker of the Ray Train group runs.

    Ray Train starts the workers again whenever one fails. Where that is no use, as with a loss that
    is not finite, the error waits on the board, and workers that were started again end at once.
    """
    board = loop_config["board"]
    if has_failed(board):
        return
    try:
        _train(loop_config, board)
    except LightSANsError as error:
        ray.get(board.fail.remote(error))
        raise


def _train(loop_config: dict[str, Any], board: Any) -> None:
    config = from_dict(loop_config["config"])
    dataset: Location = loop_config["dataset"]  # not config.root: workers run elsewhere
    manifest = require_manifest(dataset, "it was removed while training")
    shards = list(range(distributed.rank(), config.train.virtual_shards, distributed.world_size()))
    is_first = distributed.rank() == 0

    def on_step(news: StepNews) -> None:
        if is_first:
            board.step.remote(news)

    trainer = Trainer(
        config,
        int(manifest["items"]),
        load_shards(dataset, manifest, shards, config.train.virtual_shards),
        ray.train.torch.get_device(),
        wrap=lambda module: ray.train.torch.prepare_model(module, move_to_device=False),
        on_step=on_step,
        item_counts=None
        if config.model.negative_sampling == "uniform"
        else files.load_vocabulary(dataset).counts,
    )
    _restore(trainer)
    if is_first and trainer.progress.history:
        board.resume.remote(len(trainer.progress.history))
    while not trainer.finished:
        row = trainer.run_epoch()
        if is_first:
            board.epoch.remote(row)
        _report(trainer, row)


def _restore(trainer: Trainer) -> None:
    """Go on from the latest checkpoint of this run, if there is one."""
    latest = ray.train.get_checkpoint()
    if latest is None:
        return
    with latest.as_directory() as path:
        directory = Path(path)
        trainer.restore(
            files.tensors_from_bytes((directory / files.WEIGHTS).read_bytes()),
            files.tensors_from_bytes((directory / OPTIMIZER).read_bytes()),
            (directory / PROGRESS).read_text(),
        )


def _report(trainer: Trainer, row: EpochRow) -> None:
    """Hand the epoch's metrics, and rank 0's checkpoint, to Ray Train. A barrier for all ranks."""
    metrics = {"epoch": row.epoch, "loss": row.loss, **row.valid}
    if distributed.rank() != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory(prefix="lightsans-checkpoint-") as path:
        directory = Path(path)
        (directory / files.WEIGHTS).write_bytes(files.weights_to_bytes(trainer.model))
        (directory / OPTIMIZER).write_bytes(files.tensors_to_bytes(trainer.state()))
        (directory / PROGRESS).write_text(trainer.progress.to_json())
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(path),
            checkpoint_dir_name=f"epoch-{row.epoch:05d}",
        )


def _finish(
    config: RunConfig,
    dataset: Location,
    dataset_manifest: dict[str, Any],
    directory: Location,
    best: Location,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the model directory from the best checkpoint; the manifest comes last."""
    history = _latest_history(directory)
    best_row = next(row for row in history if f"epoch-{row['epoch']:05d}" == best.name)
    weights = (best / files.WEIGHTS).read_bytes()
    (directory / files.WEIGHTS).write_bytes(weights)
    (directory / files.ITEMS).write_bytes((dataset / files.ITEMS).read_bytes())
    (directory / files.CONFIG).write_bytes(dump_yaml(config).encode())
    (directory / files.HISTORY).write_json(history)
    write_scalars(history, directory / "tensorboard")
    metrics = {"valid": best_row["valid"]}
    (directory / files.METRICS).write_json(metrics)
    model = files.model_from_bytes(weights, str(best))
    manifest = write_manifest(
        directory,
        {
            "kind": "model",
            "id": directory.name,
            "format_version": FORMAT_VERSION,
            "dataset_id": dataset.name,
            "dataset_fingerprint": dataset_manifest["fingerprint"],
            "vocabulary_fingerprint": dataset_manifest["vocabulary_fingerprint"],
            "items": model.num_items,
            "parameters": count_parameters(model),
            "epochs": len(history),
            "best_epoch": best_row["epoch"],
            "train_s": round(sum(row["train_s"] for row in history), 1),
            "torch": torch.__version__,
        },
    )
    say(
        f"train: {len(history)} epochs, best {best_row['epoch']}, valid "
        + ", ".join(f"{k} {v:.4f}" for k, v in best_row["valid"].items() if k.endswith("@10"))
    )
    return manifest, metrics


def _latest_history(directory: Location) -> list[dict[str, Any]]:
    """The learning curve in the newest checkpoint."""
    names = [n for n in (directory / "checkpoints").children() if n.startswith("epoch-")]
    progress = (directory / "checkpoints" / max(names) / PROGRESS).read_bytes()
    history: list[dict[str, Any]] = json.loads(progress)["history"]
    return history


def count_parameters(model: LightSANs) -> int:
    """Trainable numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
