"""What the commands of `submit.py` share: options, choice of dataset and model, JSON results."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from lightsans.config_file import LoadedConfig, load_config

# Stages are imported by what uses them: `--help` must not wait for Ray and torch.

ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="YAML file of settings.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a setting; repeatable."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object last on standard output.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Redo even when the result exists.")]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", metavar="ID", help="A dataset; default: the configuration's."),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="ID", help="A model; default: the configuration's.")
]
MapItemsOption = Annotated[
    bool,
    typer.Option("--map-items", help="Translate items by raw id when model and dataset disagree."),
]


def examples(*lines: str) -> str:
    """Example calls for the end of a command's help."""
    return "**Examples**\n\n" + "\n\n".join(f"`python submit.py {line}`" for line in lines)


@dataclass(frozen=True)
class Selection:
    """The configuration with the dataset and model it stands for."""

    loaded: LoadedConfig
    dataset_id: str
    model_id: str


def configured_dataset(loaded: LoadedConfig) -> str | None:
    """The dataset that the configuration stands for; None where it names no input."""
    from pipelines.preprocess import dataset_id

    return dataset_id(loaded.config) if loaded.config.data.input else None


def select(
    config: str | None,
    overrides: list[str] | None,
    dataset: str | None,
    model: str | None = None,
) -> Selection:
    """Load the configuration and find which dataset and model it, or the options, stand for."""
    from pipelines.preprocess import dataset_id
    from pipelines.train import model_id

    loaded = load_config(config, overrides or ())
    chosen = dataset or dataset_id(loaded.config)
    return Selection(loaded, chosen, model or model_id(loaded.config, chosen))


def dataset_json(result: Any) -> dict[str, Any]:
    """A `PreprocessResult` for ``--json``."""
    names = ("users", "trainable_users", "items", "fingerprint", "vocabulary_fingerprint", "rows")
    counts = {name: result.manifest[name] for name in names}
    return {
        "dataset_id": result.dataset_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        **counts,
    }


def model_json(result: Any) -> dict[str, Any]:
    """A `TrainResult` for ``--json``."""
    return {
        "model_id": result.model_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "epochs": result.manifest["epochs"],
        "best_epoch": result.manifest["best_epoch"],
        "metrics": result.metrics,
    }


def evaluation_json(result: Any, loaded: LoadedConfig) -> dict[str, Any]:
    """An `EvaluateResult` for ``--json``."""
    from pipelines.evaluate import protocol_dict

    return {
        "model_id": result.model_id,
        "dataset_id": result.dataset_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "protocol": protocol_dict(loaded.config),
        "metrics": result.metrics,
    }


def run_json(result: Any) -> dict[str, Any]:
    """A `ScoreResult` for ``--json``."""
    return {
        "run_id": result.run_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "users": result.manifest["users"],
        "popular_users": result.manifest["popular_users"],
    }
