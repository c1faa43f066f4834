"""What the commands of `submit.py` share: options, choice of dataset and model, JSON results."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from lightsans.config.file import LoadedConfig, load_config
from lightsans.errors import ConfigError

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
BaseOption = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="ID",
        help="Add to this dataset: read only the files that it does not list; sets data.base.",
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", metavar="ID", help="A dataset; default: the configuration's."),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="ID", help="A model; default: the configuration's.")
]
SpaceOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="FILE",
        help="What to search: YAML, or RecBole's hyper.test; sets tune.space.",
    ),
]
MapItemsOption = Annotated[
    bool,
    typer.Option("--map-items", help="Translate items by raw id when model and dataset disagree."),
]

ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Only go on with an interrupted run; without a checkpoint it is an error. (The plain "
        "command goes on too, and starts anew where there is none.)",
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODEL",
        help="Begin with the weights of this model (id or directory), items by raw id; sets "
        "train.warm_start.",
    ),
]
RefitOption = Annotated[
    bool,
    typer.Option(
        "--refit",
        help="Train on all data, valid and test included, for the number of epochs that the "
        "configuration's finished model was best at.",
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print parameters, memory, steps and an estimate of the time on this cluster; train "
        "for seconds, write nothing.",
    ),
]

SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="RUN_ID",
        help="Carry over from this earlier run (or LATEST) whose list would be the same, and score "
        "the others; with another model, lists of items or settings all are scored, and it says "
        "why.",
    ),
]


def examples(*lines: str) -> str:
    """Example calls for the end of a command's help."""
    return "**Examples**\n\n" + "\n\n".join(f"`python submit.py {line}`" for line in lines)


def with_space(overrides: list[str] | None, space: str | None) -> list[str]:
    """The overrides, and the space of a local file as one more of them.

    Raises:
        ConfigError: The file cannot be read, or is no space.
    """
    if space is None:
        return list(overrides or ())
    from lightsans.search.space import parse_space

    try:
        with open(space, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the search space {space}: {error}") from error
    return [*(overrides or ()), f"tune.space={json.dumps(parse_space(text, space))}"]


@dataclass(frozen=True)
class Selection:
    """The configuration with the dataset and model it stands for."""

    loaded: LoadedConfig
    dataset_id: str
    model_id: str


def configured_dataset(loaded: LoadedConfig) -> str | None:
    """The dataset that the configuration stands for; None where it names no input."""
    from pipelines.preprocess.stage import dataset_id

    return dataset_id(loaded.config) if loaded.config.data.input else None


def select(
    config: str | None,
    overrides: list[str] | None,
    dataset: str | None,
    model: str | None = None,
) -> Selection:
    """Load the configuration and find which dataset and model it, or the options, stand for."""
    from pipelines.preprocess.stage import dataset_id
    from pipelines.train.stage import model_id

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


def search_json(result: Any, loaded: LoadedConfig) -> dict[str, Any]:
    """A `TuneResult` for ``--json``."""
    names = ("metric", "trials", "epochs", "spent_s", "train_s", "slots", "importance", "best")
    return {
        "search_id": result.search_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        **{name: result.manifest[name] for name in names},
        "evaluation": evaluation_json(result.evaluation, loaded),
    }


def run_json(result: Any) -> dict[str, Any]:
    """A `ScoreResult` for ``--json``."""
    return {
        "run_id": result.run_id,
        "path": result.location.uri,
        "skipped": result.skipped,
        "users": result.manifest["users"],
        "popular_users": result.manifest["popular_users"],
        "carried_users": result.manifest["carried_users"],
        "warnings": result.manifest["warnings"],
    }
