"""The command `export`: a model for serving without this package."""

import io
from typing import Annotated

import typer

from lightsans.storage.location import locate
from lightsans.storage.manifests import require_manifest, write_manifest
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

# torch is imported by the command: `--help` must not wait for it.

FORMAT_VERSION = 1


def export(
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DIR", help="Where to; default: serving/ID below the root."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model for serving: a program for user vectors, and the items' vectors.

    user_encoder.pt2 (torch.export), items.parquet (raw ids and vectors), item_vectors.npy, and
    manifest.json, last. docs/serving.md has recipes.
    """
    import numpy as np
    import torch

    from lightsans.dataset.vocabulary import load_vocabulary
    from lightsans.model.network import LightSANs
    from lightsans.recommendations import serving_export as files

    settings = read_config(config, overrides).config
    root = locate(settings.root, settings.storage)
    chosen = model or select(config, overrides, dataset).model_id
    directory = root / "models" / chosen
    source = require_manifest(directory, "run `submit.py train` first")
    trained = LightSANs.from_pretrained(directory)
    target = locate(to, settings.storage) if to else root / "serving" / chosen
    vectors = io.BytesIO()
    np.save(vectors, files.item_vectors(trained))
    (target / files.ENCODER).write_bytes(files.encoder_to_bytes(trained))
    (target / files.VECTORS).write_bytes(vectors.getvalue())
    (target / files.ITEMS).write_table(files.item_table(trained, load_vocabulary(directory)))
    facts = {
        "model_id": chosen,
        "items": trained.num_items,
        "max_seq_len": trained.config.max_seq_len,
        "hidden_size": trained.config.hidden_size,
    }
    fingerprint = {"vocabulary_fingerprint": source["vocabulary_fingerprint"]}
    kind = {"kind": "serving", "format_version": FORMAT_VERSION}
    write_manifest(target, {**kind, **facts, **fingerprint, "torch": torch.__version__})
    if as_json:
        print_json({**facts, "path": target.uri})
    else:
        print(target)


def add_export_commands(app: typer.Typer) -> None:
    """Give the command line `export`."""
    app.command(
        epilog=examples("export --config my.yaml", "export -c my.yaml --to s3://bucket/serving")
    )(export)
