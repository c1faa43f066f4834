"""The command `export`: a model for serving without this package."""

from typing import Annotated

import typer

from pipelines.commands.cluster import WaitOption
from pipelines.commands.options import (
    ConfigOption,
    DatasetOption,
    JsonOption,
    ModelOption,
    SetOption,
    examples,
    read_config,
    select,
)
from pipelines.console.output import print_json

# The stage is imported by the command: `--help` must not wait for torch.


def export(
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DIR", help="Where to; default: serving/ID below the root."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model for serving: a program for user vectors, and the items' vectors.

    In a directory per version: user_encoder.pt2 (torch.export), items.parquet (raw ids and
    vectors) and item_vectors.npy. DIR/manifest.json, replaced last, names the version's files.
    docs/serving.md has recipes.
    """
    from pipelines.export import run_export
    from pipelines.session.stage import set_wait

    set_wait(wait)
    settings = read_config(config, overrides).config
    chosen = model or select(config, overrides, dataset).model_id
    result = run_export(settings, chosen, to)
    if as_json:
        names = ("model_id", "version", "items", "max_seq_len", "hidden_size")
        facts = {name: getattr(result.manifest, name) for name in names}
        print_json({**facts, "path": result.target.uri, "directory": result.location.uri})
    else:
        print(result.location)


def add_export_commands(app: typer.Typer) -> None:
    """Give the command line `export`."""
    app.command(
        epilog=examples("export --config my.yaml", "export -c my.yaml --to s3://bucket/serving")
    )(export)
