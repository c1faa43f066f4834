"""The stage ``train``: a finished dataset becomes a model.

The id of a model is a hash of everything its weights depend on: an interrupted run is continued by
the same command, a changed one starts anew.

    stage              finds the model or has it trained
    identity           the id of a model, and what a refit takes from the judged one: without Ray
    job                what the workers are told
    worker             what they run
    task_group         few users on one machine: workers are tasks, in processes that are there
    ray_group          otherwise: workers of Ray Train
    checkpoints        a trainer's state as files
    model_directory    the files of a finished model
    tracking           learning curves for people: TensorBoard, a picture, MLflow
    board              live progress, from the workers to the terminal
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace

from lightsans.config import RunConfig
from lightsans.config.kinds import auto_loss, trains_rows
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import NotFoundError, TrainingError
from lightsans.scratch import scratch_directory
from lightsans.stages.first_weights import warm_source, warm_weights_hash
from lightsans.stages.untested import require_held_out
from lightsans.storage.checkpoint_store import (
    PROGRESS,
    Checkpoint,
    checkpoint_name,
    complete_checkpoints,
    discard_without_best,
    find_checkpoint,
)
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    JudgedModel,
    ModelManifest,
    ModelMetrics,
)
from lightsans.storage.manifests import remove_result, require_manifest
from lightsans.storage.parts import read_metrics
from lightsans.training.progress import EpochRow, Progress
from pipelines.console.logs import add_log_context, log_context
from pipelines.console.progress import say
from pipelines.publish import require_unpublished
from pipelines.session.clusters import is_cluster
from pipelines.session.lease import Owner
from pipelines.session.preflight import preflight
from pipelines.session.ray_session import ensure_ray, original_errors
from pipelines.session.stage import find_or_make
from pipelines.train import task_group
from pipelines.train.board import (
    ActorBoard,
    Board,
    DirectoryBoard,
    print_progress,
    raise_noted_error,
)
from pipelines.train.identity import model_id
from pipelines.train.job import WorkerJob
from pipelines.train.model_directory import write_model_files
from pipelines.train.tracking import require_mlflow, write_pending_reports

MAX_RESTARTS = 2
"""Times that training starts again because the checkpoint of its best epoch has vanished."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished model."""

    model_id: str
    location: Location
    skipped: bool
    manifest: ModelManifest
    metrics: ModelMetrics


@log_context(stage="train")
def run_train(
    config: RunConfig,
    dataset_id: str,
    *,
    force: bool = False,
    must_resume: bool = False,
    judged: JudgedModel | None = None,
) -> TrainResult:
    """Train a model on a finished dataset, or find it trained; continue it if interrupted.

    One process at a time trains a model; another one waits for it.

    Args:
        config: The run.
        dataset_id: Dataset to train on.
        force: Train again, even if the model exists.
        must_resume: Never start anew.
        judged: The model that a refit stands for, for its manifest.

    Raises:
        ConfigError: ``train.mlflow_uri`` is set and MLflow is not installed, ``force`` would
            remove the model of the published run, or the dataset holds nothing out and
            ``train.refit_epochs`` is null.
        NotFoundError: The dataset is not finished; there is nothing to resume; or the model to
            begin with does not exist.
        LeaseError: Another run trains this model and was not waited for any longer, or took over.
        InputError: The dataset has nothing to train on.
        TrainingError: The loss is not finite, memory does not suffice, or workers kept dying.
    """
    root = locate(config.root, config.storage)
    dataset = root / "datasets" / dataset_id
    dataset_manifest = require_manifest(
        DatasetManifest, dataset, "run `submit.py preprocess` first"
    )
    if config.train.refit_epochs is None:
        require_held_out(dataset_manifest, "train.refit_epochs says for how many epochs to train")
    name = model_id(config, dataset_id)
    add_log_context(dataset_id=dataset_id, model_id=name)
    directory = root / "models" / name

    def make(owner: Owner, anew: bool) -> ModelManifest:
        if must_resume and not complete_checkpoints(directory / "checkpoints"):
            raise NotFoundError(
                f"{directory}: no checkpoint to resume from; the configuration or the data may "
                "have changed since (`submit.py config` shows it): drop --resume to start anew"
            )
        require_mlflow(config)
        say(
            f"train: model {name} on dataset {dataset_id}, {_workers_text(config)}, "
            f"{_end_text(config)}"
        )
        _say_which_loss(config, dataset_manifest.items)
        load_vocabulary(dataset)  # raises if it was replaced: not only after the training
        ensure_ray()
        fitting = preflight("train", config)
        if anew:
            owner.require()
            remove_result(directory)
        best, history = _fit(fitting, dataset, directory, owner)
        owner.require()
        made = write_model_files(config, dataset, dataset_manifest, directory, best, history)
        return replace(made, judged=judged)

    if force:
        require_unpublished(root, directory)
    manifest, found = find_or_make(
        ModelManifest,
        directory,
        root,
        stage="train",
        kind="model",
        make=make,
        force=force,
        uses=[each for each in (dataset, warm_source(config)) if each is not None],
    )
    write_pending_reports(config, directory, manifest)
    return TrainResult(name, directory, found, manifest, read_metrics(directory))


def _fit(
    config: RunConfig, dataset: Location, directory: Location, owner: Owner
) -> tuple[Location, list[EpochRow]]:
    """Train with Ray; the location of the best checkpoint, and the learning curve."""
    checkpoints = directory / "checkpoints"
    for _ in range(1 + MAX_RESTARTS):
        # The best checkpoint may be missing from the start, or have been removed during training.
        _require_best_checkpoints(checkpoints)
        newest = _run_workers(config, dataset, directory, owner)
        progress = Progress.from_json(newest.progress, str(newest.location / PROGRESS))
        best = checkpoints / checkpoint_name(progress.best_epoch)
        if find_checkpoint(best) is not None:
            return best, progress.history
    raise TrainingError(
        f"{best}: the checkpoint of the best epoch was removed during training, "
        f"{1 + MAX_RESTARTS} times; find out what removes files in {directory}, then run the "
        "command again"
    )


def _require_best_checkpoints(checkpoints: Location) -> None:
    """Go back to the newest checkpoint from which the run can be finished, and say so."""
    missing = discard_without_best(checkpoints)
    if missing:
        left = complete_checkpoints(checkpoints)
        say(
            f"train: {checkpoints}: {' and '.join(missing)}, the best so far, "
            f"{'is' if len(missing) == 1 else 'are'} missing; training "
            + (f"goes on from {left[-1]}" if left else "starts anew")
        )


def _run_workers(
    config: RunConfig, dataset: Location, directory: Location, owner: Owner
) -> Checkpoint:
    """Train until the last epoch or early stopping; the newest checkpoint."""
    train, in_tasks = config.train, task_group.suits(config, dataset)
    with ExitStack() as stack:
        job = WorkerJob(
            config=config,
            dataset=dataset,
            model=directory,
            board=_open_board(in_tasks, stack),
            owner=owner,
            begins_with=warm_weights_hash(config),
        )
        with original_errors(), print_progress(job.board, train.refit_epochs or train.epochs):
            try:
                _run_group(job, in_tasks)
            except Exception:
                raise_noted_error(job.board)  # which tells more
                raise
        raise_noted_error(job.board)
    names = complete_checkpoints(job.checkpoints)
    newest = find_checkpoint(job.checkpoints / names[-1]) if names else None
    if newest is None:
        raise TrainingError(f"{directory}: training ended without a checkpoint; see Ray's logs")
    return newest


def _open_board(in_tasks: bool, stack: ExitStack) -> Board:
    if in_tasks and not is_cluster():  # whose machine may show its tasks other files
        return DirectoryBoard(stack.enter_context(scratch_directory()))
    return ActorBoard.start()


def _run_group(job: WorkerJob, in_tasks: bool) -> None:
    if in_tasks:
        task_group.train_in_tasks(job)
        return
    from pipelines.train.ray_group import train_with_ray  # takes seconds, with pandas and ray.data

    train_with_ray(job)


def _say_which_loss(config: RunConfig, num_items: int) -> None:
    if config.model.loss_is_chosen:
        device = "cuda" if config.train.use_gpu else "cpu"
        chosen = auto_loss(num_items, device)
        say(f"train: model.loss_type auto is {chosen} for {num_items:,} items on {device}")
        is_dense = not trains_rows(chosen, config.model.attention)
        if is_dense and config.train.table_precision != "fp32":
            say(f"train: train.table_precision has no effect with {chosen}; item vectors stay fp32")


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
