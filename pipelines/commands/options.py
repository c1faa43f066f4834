"""Options that commands share, and the dataset and model that a call stands for."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lightsans.config.file import LoadedConfig, load_config
from lightsans.errors import ConfigError

PROFILES = Path(__file__).resolve().parents[1] / "profiles"
"""Directory of the profiles (``profile: NAME``): settings for a kind of machine, one file each."""

# Stages are imported by what uses them: `--help` must not wait for Ray and torch.

PROGRAM = "lightsans" if os.path.basename(sys.argv[0]) == "lightsans" else "python submit.py"
"""Name of the running command: the program of an installed package, or a checkout's script."""


def _require_id(value: str | None) -> str | None:
    """Refuse what can be no id: nothing at all, a path, or more than a file name may have."""
    if value is not None and (
        not value or "/" in value or value in (".", "..") or len(value) > 100
    ):
        shown = value if len(value) <= 100 else f"{value[:100]}…"
        raise typer.BadParameter(
            f"{shown!r} is no id; ids are directory names such as 0a1b2c3d4e5f"
        )
    return value


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
        callback=_require_id,
        help="Add to this dataset: read only the files that it does not list; sets data.base.",
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="ID",
        callback=_require_id,
        help="A dataset; default: the configuration's.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="ID", callback=_require_id, help="A model; default: the configuration's."
    ),
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
PipelineRefitOption = Annotated[
    bool,
    typer.Option(
        "--refit",
        help="Once the model is tested, train one on everything, held-out interactions and the "
        "newest items included, and recommend with that (nightly.refit says how).",
    ),
]
OfRefitOption = Annotated[
    bool,
    typer.Option(
        "--refit", help="The model that has learnt everything, as `pipeline --refit` makes it."
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

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN_ID", callback=_require_id, help="A finished run.")
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="RUN_ID",
        callback=_require_id,
        help="Carry over from this earlier run (or LATEST) whose list would be the same, and score "
        "the others; with another model, lists of items or settings all are scored, and it says "
        "why.",
    ),
]


RecommendationsOption = Annotated[
    str | None,
    typer.Option(
        "--recommendations",
        metavar="FILE",
        help="Rank these lists, too: parquet, csv and so on, a row a user or a row an item, with "
        "the ids of the log; sets evaluate.recommendations.",
    ),
]


def examples(*lines: str) -> str:
    """Example calls for the end of a command's help."""
    return "**Examples**\n\n" + "\n\n".join(f"`{PROGRAM} {line}`" for line in lines)


def read_config(path: str | None, overrides: Sequence[str] | None) -> LoadedConfig:
    """The configuration of a command: its file, profile and overrides.

    Raises:
        ConfigError: The file cannot be read, or a setting or the profile is unknown or wrong.
    """
    return load_config(path, overrides or (), profiles=PROFILES)


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


def with_recommendations(overrides: list[str] | None, path: str | None) -> list[str]:
    """The overrides, and the lists of somebody else as one more of them."""
    given = list(overrides or ())
    return given if path is None else [*given, f"evaluate.recommendations={json.dumps(path)}"]


@dataclass(frozen=True)
class Selection:
    """The configuration with the dataset and model it stands for."""

    loaded: LoadedConfig
    dataset_id: str
    model_id: str


def configured_dataset(loaded: LoadedConfig) -> str | None:
    """The dataset that the configuration stands for; None where it names no input."""
    from pipelines.preprocess.identity import dataset_id

    return dataset_id(loaded.config) if loaded.config.data.input else None


def select(
    config: str | None,
    overrides: list[str] | None,
    dataset: str | None,
    model: str | None = None,
    refit: bool = False,
) -> Selection:
    """Load the configuration and find which dataset and model it, or the options, stand for.

    With ``refit`` these are the ones that have learnt everything, as `pipeline --refit` makes them.
    """
    if refit and model is not None:
        raise ConfigError("--refit and --model both name a model; give one of them")
    loaded = read_config(config, overrides)  # before the imports: its mistakes are told at once
    from pipelines.preprocess.identity import dataset_id
    from pipelines.train.identity import model_id

    chosen = dataset or dataset_id(loaded.config)
    if refit:
        from pipelines.refit.stage import refit_ids

        return Selection(loaded, *refit_ids(loaded.config, chosen))
    return Selection(loaded, chosen, model or model_id(loaded.config, chosen))
