"""The commands `import-recbole` and `export-recbole`."""

import hashlib
import io
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from lightsans.config import RunConfig
from lightsans.config.file import dump_yaml, from_dict
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.errors import ConfigError, InputError
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    ImportedFrom,
    ModelManifest,
    ModelMetrics,
)
from lightsans.storage.manifests import content_id, read_manifest, require_manifest
from lightsans.storage.parts import ITEMS
from lightsans.storage.records import to_json
from pipelines.commands.cluster import WaitOption
from pipelines.commands.options import (
    ConfigOption,
    DatasetOption,
    JsonOption,
    ModelOption,
    SetOption,
    configured_dataset,
    examples,
    read_config,
    select,
)
from pipelines.console.output import print_json

# torch is imported by the commands that need it: `--help` must not wait for it.

FORMAT_VERSION = 1

TokensOption = Annotated[
    str | None,
    typer.Option(
        "--tokens",
        metavar="FILE",
        help="Items in RecBole's order, one a line; default: first appearance in the dataset.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Items:
    """RecBole's items in its order, and what is known about them."""

    raw_item_ids: pa.Array
    counts: Any
    dataset: DatasetManifest | None
    """Manifest of the dataset; None without one."""


def import_recbole(
    checkpoint: Annotated[str, typer.Argument(metavar="FILE", help="RecBole's .pth file.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    tokens: TokensOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a model from a checkpoint of RecBole's LightSANs; nothing in the file is run.

    Items are known by RecBole's numbers only: their raw ids come from a dataset that was made of
    the same input with the same filters, or from a file. Evaluate and score it with --map-items.
    """
    from pipelines.session.stage import set_wait

    set_wait(wait)
    loaded = read_config(config, overrides)
    settings = loaded.config
    root = locate(settings.root, settings.storage)
    file = locate(checkpoint, settings.storage)
    items = _items(root, settings, dataset or configured_dataset(loaded), tokens)
    location = _write_model(root, settings, _read(file), str(file), items)
    found = {"model_id": location.name, "path": location.uri, "items": len(items.raw_item_ids)}
    if as_json:
        print_json(found)
    else:
        print(location)


def export_recbole(
    to: Annotated[str, typer.Option("--to", metavar="FILE", help="The .pth file to write.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    tokens: TokensOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model with `attention: reference` as a checkpoint that RecBole loads.

    Its items get RecBole's numbers: those of the dataset that the .inter file makes, or of a file.
    """
    import torch

    from lightsans.model.network import LightSANs
    from lightsans.recbole.item_order import reorder_items
    from lightsans.recbole.weights import recbole_settings, to_recbole

    loaded = read_config(config, overrides)
    settings = loaded.config
    root = locate(settings.root, settings.storage)
    chosen = model or select(config, overrides, dataset).model_id
    directory = root / "models" / chosen
    require_manifest(ModelManifest, directory, "run `submit.py train` or `import-recbole` first")
    own = LightSANs.from_pretrained(directory)
    weights = to_recbole(own)
    items = _items(root, settings, dataset or configured_dataset(loaded), tokens)
    known = load_vocabulary(directory).raw_item_ids
    reorder_items(weights, known, _cast(items.raw_item_ids, known.type, "the items"))
    content = {
        "config": recbole_settings(own),
        "epoch": 0,
        "state_dict": weights,
        "other_parameter": None,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    written = locate(to, settings.storage)
    written.write_bytes(buffer.getvalue())
    if as_json:
        print_json({"model_id": chosen, "path": written.uri, "items": len(known)})
    else:
        print(written)


def add_recbole_commands(app: typer.Typer) -> None:
    """Give the command line `import-recbole` and `export-recbole`."""
    app.command(
        "import-recbole",
        epilog=examples(
            "import-recbole saved/LightSANs.pth --config my.yaml",
            "import-recbole saved/LightSANs.pth -c my.yaml --tokens items.txt",
        ),
    )(import_recbole)
    app.command("export-recbole", epilog=examples("export-recbole -c my.yaml --to LightSANs.pth"))(
        export_recbole
    )


def _read(file: Location) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{file}: there is no such file; name an existing one") from error


def _items(root: Location, config: RunConfig, dataset_id: str | None, tokens: str | None) -> _Items:
    """RecBole's items, from a file of tokens or from a dataset."""
    from lightsans.recbole.item_order import parse_tokens

    if dataset_id is None:
        if tokens is None:
            raise ConfigError(
                "RecBole's items are not known: set data.input to its log, or give --tokens"
            )
        ordered = parse_tokens(_read(locate(tokens, config.storage)), tokens)
        return _Items(ordered, np.zeros(len(ordered), np.int64), None)
    dataset = root / "datasets" / dataset_id
    if tokens is None:
        manifest = require_manifest(
            DatasetManifest,
            dataset,
            "run `submit.py preprocess` on RecBole's input first, or give its items with --tokens",
        )
        vocabulary = load_vocabulary(dataset)
        ordered = _order_of(dataset, manifest, vocabulary)
        return _Items(ordered, _counts(ordered, vocabulary), manifest)
    ordered = parse_tokens(_read(locate(tokens, config.storage)), tokens)
    found = read_manifest(DatasetManifest, dataset)
    if found is None:
        return _Items(ordered, np.zeros(len(ordered), np.int64), None)
    vocabulary = load_vocabulary(dataset)
    ordered = _cast(ordered, vocabulary.raw_item_ids.type, tokens)
    return _Items(ordered, _counts(ordered, vocabulary), found)


def _order_of(dataset: Location, manifest: DatasetManifest, vocabulary: Vocabulary) -> pa.Array:
    from lightsans.recbole.item_order import items_by_first_appearance
    from lightsans.stages.filters import resolve_as_of
    from pipelines.preprocess.parts import Part, read_marker

    data = from_dict({"data": manifest.data}).data
    parts = read_marker(dataset).parts
    tables = (Part.of(part).load(dataset) for part in parts)
    return items_by_first_appearance(tables, vocabulary, data, resolve_as_of(data))


def _cast(ids: pa.Array, to: pa.DataType, name: str) -> pa.Array:
    try:
        return ids.cast(to)
    except pa.ArrowInvalid as error:
        raise InputError(f"{name}: item ids must be {to}, as in the dataset ({error})") from error


def _counts(ordered: pa.Array, vocabulary: Vocabulary) -> Any:
    """Interactions of each item; 0 for items that the dataset does not have."""
    return np.concatenate([[0], vocabulary.counts])[vocabulary.encode(ordered)].astype(np.int64)


def _write_model(
    root: Location, config: RunConfig, content: bytes, name: str, items: _Items
) -> Location:
    """A model directory, found or made."""
    import torch

    from lightsans.recbole.checkpoint_file import read_checkpoint
    from lightsans.recbole.weights import from_recbole
    from lightsans.storage import model_files as files
    from pipelines.session.lease import Owner
    from pipelines.session.stage import find_or_make

    checkpoint = read_checkpoint(content, name)
    model = from_recbole(checkpoint.state_dict, **checkpoint.settings)
    if model.num_items != len(items.raw_item_ids):
        raise InputError(
            f"{name}: has {model.num_items} items, but {len(items.raw_item_ids)} are named; "
            "use RecBole's input and filters (rating, k-core) in the dataset, or give --tokens"
        )
    vocabulary = Vocabulary(items.raw_item_ids, items.counts)
    question = {
        "recbole": hashlib.sha256(content).hexdigest(),
        "items": vocabulary.fingerprint,
        "dataset": "" if items.dataset is None else items.dataset.id,
    }
    directory = root / "models" / content_id("recbole", FORMAT_VERSION, question)

    def make(owner: Owner, anew: bool) -> ModelManifest:
        weights = files.weights_to_bytes(model)
        (directory / files.WEIGHTS).write_bytes(weights)
        vocabulary.save(directory / ITEMS)
        own = replace(config, model=model.config)
        (directory / files.CONFIG).write_bytes(dump_yaml(own).encode())
        (directory / files.METRICS).write_json(to_json(ModelMetrics(valid={})))
        (directory / files.HISTORY).write_json([])
        return ModelManifest(
            id=directory.name,
            format_version=FORMAT_VERSION,
            dataset_id=question["dataset"],
            dataset_fingerprint="" if items.dataset is None else items.dataset.fingerprint,
            vocabulary_fingerprint=vocabulary.fingerprint,
            weights_sha256=files.sha256(weights),
            items=model.num_items,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            epochs=checkpoint.epoch + 1,
            best_epoch=checkpoint.epoch + 1,
            train_s=0.0,
            torch=torch.__version__,
            imported_from=ImportedFrom(program="RecBole", file=name),
        )

    find_or_make(
        ModelManifest, directory, root, stage="import-recbole", kind="model", make=make, hint=""
    )
    return directory
