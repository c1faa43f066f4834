"""Learning curves where people look at them: TensorBoard, a PNG, MLflow.

``tensorboard --logdir ROOT/models`` compares runs. TensorBoard and MLflow are of the ``tracking``
extra; without TensorBoard its files are not written, and training is the same.

A report that fails never fails a finished model: it stays in ``pending.json``, and the next run of
the same command tries it again.
"""

import contextlib
import importlib.util
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightsans.config import RunConfig, to_dict
from lightsans.errors import ConfigError
from lightsans.reports.plots import picture
from lightsans.scratch import scratch_directory
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import ModelManifest
from lightsans.storage.model_files import HISTORY
from lightsans.training.progress import EpochRow, read_history
from pipelines.console.progress import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PENDING = "pending.json"
FIGURES = (
    "loss",
    "gradient_norm",
    "learning_rate",
    "memory_mib",
    "train_s",
    "load_s",
    "communication_s",
    "compute_s",
    "valid_s",
)
"""Figures of an epoch that are followed beside its metrics and its throughput."""


def scalars(row: EpochRow) -> dict[str, float]:
    """Figures of an epoch by name."""
    found = {name: float(getattr(row, name)) for name in FIGURES}
    found["targets_per_s"] = row.targets_per_s
    return found | {f"valid/{name}": value for name, value in row.valid.items()}


def mark_pending(config: RunConfig, directory: Location) -> None:
    """Note which reports a model is to get, before its manifest is written."""
    names = ["tensorboard", "curves"] + ["mlflow"] * (config.train.mlflow_uri is not None)
    (directory / PENDING).write_json({"reports": names})


def write_pending_reports(config: RunConfig, directory: Location, manifest: ModelManifest) -> None:
    """Write the reports of a finished model that are still missing.

    Whatever a report raises is said, and the report stays pending.
    """
    try:
        pending = (directory / PENDING).read_json()["reports"]
    except FileNotFoundError:
        return
    history = read_history(directory / HISTORY)
    left = []
    for name in pending:
        try:
            _write_report(name, config, directory, manifest, history)
        except Exception as error:  # a library's or a server's: the model does not depend on it
            left.append(name)
            say(
                f"train: model {directory.name} is finished, but its report {name} failed "
                f"({type(error).__name__}: {error}); the next run of this command tries it again"
            )
    if left:
        (directory / PENDING).write_json({"reports": left})
    else:
        (directory / PENDING).delete()


def _write_report(
    name: str,
    config: RunConfig,
    directory: Location,
    manifest: ModelManifest,
    history: list[EpochRow],
) -> None:
    match name:
        case "tensorboard":
            write_scalars(history, directory / "tensorboard")
        case "curves":
            write_curves(history, config.train.valid_metric, directory / "curves.png")
        case "mlflow" if config.train.mlflow_uri is not None:
            log_to_mlflow(config, history, manifest)


def write_scalars(history: list[EpochRow], directory: Location) -> None:
    """Write the rows of a learning curve as TensorBoard events into ``directory``.

    Args:
        history: One row per epoch.
        directory: Where the event file goes; what it holds is replaced.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    directory.delete()
    with scratch_directory("lightsans-tensorboard-") as path:
        writer = EventFileWriter(path)
        for row in history:
            values = [Summary.Value(tag=k, simple_value=v) for k, v in scalars(row).items()]
            summary = Summary(value=values)
            writer.add_event(Event(wall_time=time.time(), step=row.epoch, summary=summary))
        writer.close()
        for events in Path(path).iterdir():
            (directory / events.name).write_bytes(events.read_bytes())


def write_curves(history: list[EpochRow], metric: str, path: Location) -> None:
    """Draw loss, valid metric and the split of time by epoch as a PNG."""
    if importlib.util.find_spec("matplotlib") is not None:
        path.write_bytes(picture(partial(_draw_curves, history, metric), panels=3))


def _draw_curves(
    history: list[EpochRow], metric: str, loss: "Axes", valid: "Axes", split: "Axes"
) -> None:
    epochs = [row.epoch for row in history]
    loss.plot(epochs, [row.loss for row in history])
    loss.set(title="Training loss", xlabel="epoch")
    if all(metric in row.valid for row in history):
        values = [row.valid[metric] for row in history]
        best = max(range(len(values)), key=lambda i: (values[i], -i))
        valid.plot(epochs, values)
        valid.plot(epochs[best], values[best], "o")
    valid.set(title=f"Valid {metric}", xlabel="epoch")
    names = ("load_s", "compute_s", "communication_s", "valid_s")
    split.stackplot(epochs, [[getattr(row, n) for row in history] for n in names], labels=names)
    split.set(title="Seconds of an epoch", xlabel="epoch")
    split.legend()


def require_mlflow(config: RunConfig) -> None:
    """Check that MLflow is installed where the run is to be logged to it.

    Raises:
        ConfigError: It is not.
    """
    if config.train.mlflow_uri is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            f"train.mlflow_uri={config.train.mlflow_uri} needs MLflow; run `pip install "
            "-c requirements.lock mlflow-skinny`, or set it to null"
        )


def log_to_mlflow(config: RunConfig, history: list[EpochRow], manifest: ModelManifest) -> None:
    """Log a finished model as a run of the MLflow experiment ``lightsans``, named by its id.

    A model that is finished again, after ``--force``, becomes a new run of the same name; so does
    one whose logging was interrupted, and the run of that attempt ends as ``FAILED``.

    Raises:
        ConfigError: MLflow is not installed.
    """
    require_mlflow(config)
    uri = config.train.mlflow_uri
    assert uri is not None
    if "://" not in uri or uri.startswith("file:"):
        # MLflow 3 asks whether a directory is meant, which is what the setting says
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    # By default MLflow tries for minutes; the next run tries again anyway.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("lightsans")
    experiment_id = (
        experiment.experiment_id if experiment else client.create_experiment("lightsans")
    )
    run = client.create_run(experiment_id, run_name=manifest.id).info.run_id
    try:
        _log_run(client, run, config, history)
        client.set_tag(run, "dataset_id", manifest.dataset_id)
        client.set_terminated(run)
    except BaseException:
        with contextlib.suppress(Exception):  # the server may be away
            client.set_terminated(run, "FAILED")
        raise


def _log_run(client: Any, run: str, config: RunConfig, history: list[EpochRow]) -> None:
    """Log settings and learning curve."""
    from mlflow.entities import Metric, Param

    settings = [
        Param(f"{section}.{name}", str(value))
        for section, values in to_dict(config).items()
        if section in ("model", "train") and isinstance(values, dict)
        for name, value in values.items()
    ]
    client.log_batch(run, params=settings)
    for row in history:
        # MLflow's names have no @, and an epoch's time is when it ended, which was not recorded
        metrics = [
            Metric(name.replace("@", "_at_"), value, 0, row.epoch)
            for name, value in scalars(row).items()
        ]
        client.log_batch(run, metrics=metrics)
