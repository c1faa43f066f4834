"""Ray Train around `lightsans.training.trainer`: DDP workers, checkpoints, and the model directory.

    models/<id>/  model.safetensors  items.parquet  config.yaml  metrics.json  history.json
                  curves.png         tensorboard/
                  checkpoints/       see `lightsans.storage.checkpoint_store`
                  manifest.json      written last

The id is a hash of everything the weights depend on: an interrupted run is continued by the same
command, a changed one starts anew. Ray Train starts workers, watches them and starts them again;
checkpoints are our own, since one worker writes them between two steps while all go on.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import Tensor

from lightsans.config import RunConfig, to_dict
from lightsans.config.file import dump_yaml, from_dict
from lightsans.dataset.loading import load_shards, load_within
from lightsans.dataset.sequences import Int64, UserSequences
from lightsans.dataset.vocabulary import item_id_mapping
from lightsans.errors import LightSANsError, NotFoundError, TrainingError
from lightsans.losses.cross_entropy import choose_loss
from lightsans.model.network import LightSANs
from lightsans.model.warm_start import warm_weights
from lightsans.storage import model_files as files
from lightsans.storage.checkpoint_store import (
    PROGRESS,
    CheckpointStore,
    Files,
    complete_checkpoints,
)
from lightsans.storage.location import Location, locate
from lightsans.storage.manifests import content_id, read_manifest, require_manifest, write_manifest
from lightsans.training import collectives as distributed
from lightsans.training.checkpoint_clock import CheckpointClock
from lightsans.training.progress import StepNews
from lightsans.training.trainer import MidEpoch, Trainer
from pipelines.console.logs import add_log_context, log_context
from pipelines.console.progress import say
from pipelines.session.preflight import preflight
from pipelines.session.ray_session import ensure_ray, original_errors
from pipelines.train.board import (
    has_failed,
    raise_noted_error,
    start_board,
    watch_board,
)
from pipelines.train.errors import explain, is_out_of_memory
from pipelines.train.tracking import log_to_mlflow, write_curves, write_scalars

FORMAT_VERSION = 2
OPTIMIZER = "optimizer.safetensors"
RESIZE_S = 30.0
"""How often a run of a changing number of workers looks for room for more."""

NO_EFFECT_ON_WEIGHTS = (
    "num_workers",
    "use_gpu",
    "eval_batch_size",
    "max_failures",
    "compile",
    "checkpoint_steps",
    "checkpoint_minutes",
    "keep_checkpoints",
    "collective_timeout_s",
    "tape_memory_mb",
    "mlflow_uri",
)


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
def run_train(
    config: RunConfig, dataset_id: str, *, force: bool = False, must_resume: bool = False
) -> TrainResult:
    """Train a model on a finished dataset, or find it trained; continue it if interrupted.

    Args:
        config: The run.
        dataset_id: What to train on.
        force: Train again, even if the model exists.
        must_resume: Never start anew.

    Raises:
        NotFoundError: The dataset is not finished; there is nothing to resume; or the model to
            begin with does not exist.
        TrainingError: The loss is not finite, there is nothing to train on, memory does not
            suffice, or workers kept dying.
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
    checkpoints = complete_checkpoints(directory / "checkpoints")
    if must_resume and not checkpoints:
        raise NotFoundError(
            f"{directory}: no checkpoint to resume from; the configuration or the data may have "
            "changed since (`submit.py config` shows it): drop --resume to start anew"
        )
    _check_warm_start(config)
    say(
        f"train: model {name} on dataset {dataset_id}, {_workers_text(config)}, {_end_text(config)}"
    )
    _say_which_loss(config, int(dataset_manifest["items"]))
    ensure_ray()
    fitting = preflight("train", config)
    if force:
        directory.delete()
    best, history = _fit(fitting, dataset, directory)
    manifest, metrics = finish_model(config, dataset, dataset_manifest, directory, best, history)
    return TrainResult(name, directory, False, manifest, metrics)


def _say_which_loss(config: RunConfig, num_items: int) -> None:
    if config.model.loss_type == "auto":
        device = "cuda" if config.train.use_gpu else "cpu"
        chosen = choose_loss(config.model, num_items, device)
        say(f"train: model.loss_type auto is {chosen} for {num_items:,} items on {device}")
        if chosen == "CE" and config.train.table_precision != "fp32":
            say("train: train.table_precision has no effect with CE; item vectors stay fp32")


def read_metrics(directory: Location) -> dict[str, Any]:
    """``metrics.json`` of a model directory."""
    return (directory / files.METRICS).read_json()


def _workers_text(config: RunConfig) -> str:
    least, most = config.train.least_workers, config.train.most_workers
    return f"{most} workers" if least == most else f"{least} to {most} workers"


def _end_text(config: RunConfig) -> str:
    train = config.train
    if train.refit_epochs is not None or train.patience == 0:
        return f"{train.refit_epochs or train.epochs} epochs"
    return (
        f"{train.epochs} epochs at most: it ends {train.patience} epochs after the best "
        f"{train.valid_metric}"
    )


def refit_config(config: RunConfig, dataset_id: str) -> RunConfig:
    """The configuration that trains on all data for as many epochs as valid chose.

    Raises:
        NotFoundError: The model whose epochs were chosen is not finished.
    """
    root = locate(config.root, config.storage)
    manifest = require_manifest(
        root / "models" / model_id(config, dataset_id),
        "a refit takes its number of epochs from this model; train it first, without --refit",
    )
    return replace(config, train=replace(config.train, refit_epochs=int(manifest["best_epoch"])))


def _fit(
    config: RunConfig, dataset: Location, directory: Location
) -> tuple[Location, list[dict[str, Any]]]:
    """Train with Ray; the location of the best checkpoint, and the learning curve."""
    board = start_board()
    train = config.train
    trainer = make_torch_trainer(config, dataset, directory, {"board": board})
    with original_errors(), watch_board(board, train.refit_epochs or train.epochs):
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise_noted_error(board)
            own = explain(error, train, "training")
            if own is None:
                raise
            raise own from error
    raise_noted_error(board)
    checkpoints = directory / "checkpoints"
    names = complete_checkpoints(checkpoints)
    if not names:
        raise TrainingError(f"{directory}: training ended without a checkpoint; see Ray's logs")
    progress = (checkpoints / names[-1] / PROGRESS).read_json()
    return checkpoints / f"epoch-{progress['best_epoch']:05d}", progress["history"]


def make_torch_trainer(
    config: RunConfig, dataset: Location, directory: Location, helpers: dict[str, Any]
) -> TorchTrainer:
    """The Ray Train run of a model, whose checkpoints lie in ``directory``.

    Args:
        config: The run.
        dataset: A finished dataset.
        directory: Of the model; a run that was interrupted there goes on.
        helpers: What else the workers get: ``board``, a `TrainingBoard`; for trials of a search
            ``tapes``, the sequences of each shard in Ray's object store, and ``gate``.
    """
    train = config.train
    return TorchTrainer(
        train_worker,
        train_loop_config={
            "config": to_dict(config),
            "dataset": dataset,
            "checkpoints": directory / "checkpoints",
            **helpers,
        },
        torch_config=TorchConfig(timeout_s=train.collective_timeout_s),
        # mypy reads the signature of Ray Train's first version
        scaling_config=ScalingConfig(
            num_workers=train.num_workers,  # type: ignore[arg-type]
            use_gpu=train.use_gpu,
            elastic_resize_monitor_interval_s=RESIZE_S,  # type: ignore[call-arg]
        ),
        run_config=ray.train.RunConfig(
            name="checkpoints",
            storage_path=directory.path,
            storage_filesystem=directory.arrow_filesystem,
            failure_config=FailureConfig(max_failures=train.max_failures),
        ),
    )


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
    except Exception as error:
        train = from_dict(loop_config["config"]).train
        own = explain(error, train, f"worker {distributed.rank()}")
        if own is None:
            raise
        if is_out_of_memory(error):  # it would happen again
            ray.get(board.fail.remote(own))
        raise own from error


def _train(loop_config: dict[str, Any], board: Any) -> None:
    config = from_dict(loop_config["config"])
    dataset: Location = loop_config["dataset"]  # not config.root: workers run elsewhere
    manifest = require_manifest(dataset, "it was removed while training")
    shards = list(range(distributed.rank(), config.train.virtual_shards, distributed.world_size()))
    is_first = distributed.rank() == 0

    def on_step(news: StepNews) -> None:
        if is_first:
            board.step.remote(news)

    device = ray.train.torch.get_device()
    checkpoints: Location = loop_config["checkpoints"]
    store = CheckpointStore(checkpoints, config.train.keep_checkpoints)
    names: list[str | None] = [None, *store.names()]
    newest = distributed.from_first_worker(names[-1], device)
    with tempfile.TemporaryDirectory(prefix="lightsans-tapes-") as path:
        trainer = Trainer(
            config,
            int(manifest["items"]),
            _load_tapes(loop_config, config, manifest, shards, Path(path)),
            device,
            wrap=lambda module: ray.train.torch.prepare_model(module, move_to_device=False),
            on_step=on_step,
            item_counts=popularity(config, dataset),
            weights=first_weights(config, dataset) if newest is None else None,
        )
        if newest is not None:
            restore_trainer(trainer, lambda file: (checkpoints / newest / file).read_bytes())
            if is_first:
                board.resume.remote(*position(trainer))
        _train_epochs(trainer, config, store, loop_config)


def position(trainer: Trainer) -> tuple[int, int]:
    """Epochs that are done, and steps of the next one."""
    partial = trainer.progress.partial
    return len(trainer.progress.history), partial.step if partial else 0


def _load_tapes(
    loop_config: dict[str, Any],
    config: RunConfig,
    manifest: dict[str, Any],
    shards: list[int],
    path: Path,
) -> dict[int, UserSequences]:
    """The sequences of this worker's shards: from Ray's object store, or read and kept here."""
    tapes = loop_config.get("tapes")
    if tapes:
        return {shard: ray.get(tapes[shard]) for shard in shards}
    train = config.train
    if train.tape_memory_mb is None:
        return load_shards(loop_config["dataset"], manifest, shards, train.virtual_shards)
    return load_within(
        lambda shard: load_shards(loop_config["dataset"], manifest, [shard], train.virtual_shards)[
            shard
        ],
        shards,
        train.tape_memory_mb << 20,
        path,
    )


def _train_epochs(
    trainer: Trainer, config: RunConfig, store: CheckpointStore, loop_config: dict[str, Any]
) -> None:
    board, gate, is_first = loop_config["board"], loop_config.get("gate"), distributed.rank() == 0
    minutes = config.train.checkpoint_minutes
    clock = CheckpointClock(
        config.train.checkpoint_steps,
        None if minutes is None else 60 * minutes,
        ray.train.torch.get_device(),
        lambda: ray.train.get_preemption_info() is not None,
    )

    def save() -> None:
        # Of two that come too fast for the storage, one is as good: training does not wait.
        if is_first and not store.is_writing:
            write_checkpoint(trainer, store)

    while not trainer.finished:
        row = trainer.run_epoch(MidEpoch(clock, save))
        if is_first:
            write_checkpoint(trainer, store)
            if gate is not None or trainer.finished:
                store.wait()
            board.epoch.remote(row)
        if gate is not None and not ray.get(gate.arrive.remote(row, trainer.finished)):
            return  # the search ends this trial


def _check_warm_start(config: RunConfig) -> None:
    source = _warm_source(config)
    if source is not None:
        require_manifest(source, "train.warm_start (--from) needs a finished model")


def _warm_source(config: RunConfig) -> Location | None:
    name = config.train.warm_start
    if name is None:
        return None
    is_path = "/" in name
    return locate(name if is_path else f"{config.root}/models/{name}", config.storage)


def first_weights(config: RunConfig, dataset: Location) -> dict[str, Tensor] | None:
    """What a run begins with: the weights of ``train.warm_start``; None for new ones."""
    source = _warm_source(config)
    if source is None:
        return None
    own, theirs = files.load_vocabulary(dataset), files.load_vocabulary(source)
    mapping = item_id_mapping(own, theirs, True, f"{dataset} and {source}")
    model = files.load_model(source)
    return warm_weights(model, config.model, own.num_items, mapping, config.train.seed, str(source))


def popularity(config: RunConfig, dataset: Location) -> Int64 | None:
    """Interactions of each item, where the configured negatives are drawn by them."""
    if config.model.negative_sampling == "uniform":
        return None
    return files.load_vocabulary(dataset).counts


def restore_trainer(trainer: Trainer, read: Callable[[str], bytes]) -> None:
    """Bring a trainer to where the checkpoint is whose files ``read`` gives."""
    trainer.restore(
        files.tensors_from_bytes(read(files.WEIGHTS)),
        files.tensors_from_bytes(read(OPTIMIZER)),
        read(PROGRESS).decode(),
    )


def snapshot(trainer: Trainer) -> Callable[[], Files]:
    """A copy of a trainer's state in this host's memory, from which another thread makes files."""
    weights = {name: _copy(tensor) for name, tensor in trainer.weights().items()}
    state = {name: _copy(tensor) for name, tensor in trainer.state().items()}
    progress = trainer.progress.to_json().encode()
    return partial(_make_files, trainer.model, weights, state, progress)


def checkpoint_files(trainer: Trainer) -> Files:
    """The files of a checkpoint; `PROGRESS` comes last, so what has it is complete."""
    return snapshot(trainer)()


def write_checkpoint(trainer: Trainer, store: CheckpointStore) -> None:
    """Begin to write a checkpoint of where a trainer stands; the best epoch's is kept."""
    best = f"epoch-{trainer.progress.best_epoch:05d}"
    store.write(trainer.progress.name, snapshot(trainer), also_kept=[best])


def _make_files(
    model: LightSANs, weights: dict[str, Tensor], state: dict[str, Tensor], progress: bytes
) -> Files:
    return {
        files.WEIGHTS: files.weights_to_bytes(model, weights),
        OPTIMIZER: files.tensors_to_bytes(state),
        PROGRESS: progress,
    }


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def finish_model(
    config: RunConfig,
    dataset: Location,
    dataset_manifest: dict[str, Any],
    directory: Location,
    best: Location,
    history: list[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the model directory from the best checkpoint; the manifest comes last.

    Returns:
        The manifest and ``metrics.json``.
    """
    best_row = next(row for row in history if f"epoch-{row['epoch']:05d}" == best.name)
    weights = (best / files.WEIGHTS).read_bytes()
    (directory / files.WEIGHTS).write_bytes(weights)
    (directory / files.ITEMS).write_bytes((dataset / files.ITEMS).read_bytes())
    (directory / files.CONFIG).write_bytes(dump_yaml(config).encode())
    (directory / files.HISTORY).write_json(history)
    write_scalars(history, directory / "tensorboard")
    write_curves(history, config.train.valid_metric, directory / "curves.png")
    valid = best_row["valid"]
    metrics = {"valid": valid}
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
            "weights_sha256": files.sha256(weights),
            "items": model.num_items,
            "parameters": count_parameters(model),
            "epochs": len(history),
            "best_epoch": best_row["epoch"],
            "train_s": round(sum(row["train_s"] for row in history), 1),
            "torch": torch.__version__,
            "refit": config.train.refit_epochs is not None,
        },
    )
    if config.train.mlflow_uri is not None:
        log_to_mlflow(config, history, manifest)
    say(
        f"train: {len(history)} epochs, best {best_row['epoch']}, valid "
        + (", ".join(f"{k} {v:.4f}" for k, v in valid.items() if k.endswith("@10")) or "none")
    )
    return manifest, metrics


def count_parameters(model: LightSANs) -> int:
    """Trainable numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
