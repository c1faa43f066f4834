"""Learning curves where people look at them: TensorBoard, a PNG, MLflow.

``tensorboard --logdir ROOT/models`` compares runs. TensorBoard and MLflow are of the ``tracking``
extra; without TensorBoard its files are not written, and training is the same.
"""

import importlib.util
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightsans.config import RunConfig, to_dict
from lightsans.errors import ConfigError
from lightsans.storage.location import Location

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
Row = Mapping[str, Any]
"""A `lightsans.training.progress.EpochRow` as a dict."""


def scalars(row: Row) -> dict[str, float]:
    """What is followed over the epochs, by name."""
    found = {name: float(row[name]) for name in FIGURES}
    found["targets_per_s"] = row["targets"] / max(row["train_s"], 1e-9)
    return found | {f"valid/{name}": value for name, value in row["valid"].items()}


def write_scalars(history: list[dict[str, Any]], directory: Location) -> None:
    """Write the rows of a learning curve as TensorBoard events into ``directory``.

    Args:
        history: One row per epoch.
        directory: Where the event file goes; what it holds is replaced.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter  # seconds to import

    directory.delete()
    with tempfile.TemporaryDirectory(prefix="lightsans-tensorboard-") as path:
        with SummaryWriter(path) as writer:
            for row in history:
                for name, value in scalars(row).items():
                    writer.add_scalar(name, value, row["epoch"])
        for events in Path(path).iterdir():
            (directory / events.name).write_bytes(events.read_bytes())


def write_curves(history: list[dict[str, Any]], metric: str, path: Location) -> None:
    """Draw loss, valid metric and the split of time by epoch as a PNG."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure  # seconds to import; no global state, unlike pyplot

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    loss, valid, split = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    loss.plot(epochs, [row["loss"] for row in history])
    loss.set(title="training loss", xlabel="epoch")
    if all(metric in row["valid"] for row in history):
        values = [row["valid"][metric] for row in history]
        best = max(range(len(values)), key=lambda i: (values[i], -i))
        valid.plot(epochs, values)
        valid.plot(epochs[best], values[best], "o")
    valid.set(title=f"valid {metric}", xlabel="epoch")
    names = ("load_s", "compute_s", "communication_s", "valid_s")
    split.stackplot(epochs, [[row[n] for row in history] for n in names], labels=names)
    split.set(title="seconds of an epoch", xlabel="epoch")
    split.legend(fontsize="small")
    with path.open_atomic() as aside:
        figure.savefig(aside, format="png", dpi=120)


def log_to_mlflow(
    config: RunConfig, history: list[dict[str, Any]], manifest: dict[str, Any]
) -> None:
    """Log a finished model as a run of the MLflow experiment ``lightsans``, named by its id.

    A model that is finished again, after ``--force``, becomes a new run of the same name.

    Raises:
        ConfigError: MLflow is not installed.
    """
    assert config.train.mlflow_uri is not None
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            f"train.mlflow_uri={config.train.mlflow_uri} needs MLflow; run `pip install "
            "-c requirements.lock mlflow-skinny`, or set it to null"
        )
    if "://" not in config.train.mlflow_uri or config.train.mlflow_uri.startswith("file:"):
        # MLflow 3 asks whether a directory is meant, which is what the setting says
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(config.train.mlflow_uri)
    experiment = client.get_experiment_by_name("lightsans")
    experiment_id = (
        experiment.experiment_id if experiment else client.create_experiment("lightsans")
    )
    run = client.create_run(experiment_id, run_name=manifest["id"]).info.run_id
    settings = [
        Param(f"{section}.{name}", str(value))
        for section, values in to_dict(config).items()
        if section in ("model", "train") and isinstance(values, dict)
        for name, value in values.items()
    ]
    client.log_batch(run, params=settings)
    for row in history:
        # MLflow's names have no @, and an epoch's time is when it ended, which nobody wrote down
        metrics = [
            Metric(name.replace("@", "_at_"), value, 0, row["epoch"])
            for name, value in scalars(row).items()
        ]
        client.log_batch(run, metrics=metrics)
    client.set_tag(run, "dataset_id", manifest["dataset_id"])
    client.set_terminated(run)
