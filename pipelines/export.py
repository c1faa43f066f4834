"""Exports of models for serving: a directory per version, and a manifest that points to the newest.

    serving/<model>/  manifest.json     model, version and the paths of its files; replaced last
                      <version>/        user_encoder.pt2, items.parquet, item_vectors.npy, manifest

Files of a version never change once its manifest is there, so a reader that starts from
``serving/<model>/manifest.json`` finds files of one model, during an export too. Earlier versions
stay for readers that have begun with them.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.model.network import LightSANs
from lightsans.recommendations import serving_export
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import ModelManifest
from lightsans.storage.manifests import (
    Manifest,
    content_id,
    read_manifest,
    require_manifest,
    write_manifest,
)
from pipelines.session.lease import Owner
from pipelines.session.stage import find_or_make

FORMAT_VERSION = 3
_FILES = (serving_export.ENCODER, serving_export.VECTORS, serving_export.ITEMS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingManifest(Manifest):
    """Manifest of a version in ``serving/<model>``, and of the directory of all versions."""

    kind: ClassVar = "serving"

    format_version: int
    version: str | None = None
    """Name of the version's directory; None under format 1, which had none. Under format 2
    ``items.parquet`` does not say which items are recommendable."""
    model_id: str
    weights_sha256: str | None = None
    """Weights of the model; None under format 1."""
    vocabulary_fingerprint: str
    torch: str
    items: int
    max_seq_len: int
    hidden_size: int
    inputs: tuple[str, ...] | None = None
    """Inputs of the encoder, in order, for a model that reads times; None for item_ids and lengths
    alone."""
    files: Mapping[str, str] | None = None
    """Paths of the newest version's files, in the manifest that readers begin with."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A finished export."""

    target: Location
    """Directory where readers begin: its manifest points to the version."""
    location: Location
    """The files of the version."""
    skipped: bool
    manifest: ServingManifest


def run_export(config: RunConfig, model_id: str, to: str | None = None) -> ExportResult:
    """Export a model, or find it exported, and let the target's manifest point to it.

    Args:
        config: The run; only its root and storage matter.
        model_id: A finished model.
        to: Where to; None is ``serving/<model>`` below the root.

    Raises:
        NotFoundError: The model is not finished.
        LeaseError: Another process makes the same export, and was not waited for.
    """
    root = locate(config.root, config.storage)
    model = root / "models" / model_id
    source = require_manifest(ModelManifest, model, "run `submit.py train` first")
    target = locate(to, config.storage) if to else root / "serving" / model_id
    weights = files.weights_hash(model)
    question = {
        "model_id": model_id,
        "weights_sha256": weights,
        "vocabulary_fingerprint": source.vocabulary_fingerprint,
        "torch": torch.__version__,
    }
    version = target / content_id("serving", FORMAT_VERSION, question)

    def make(owner: Owner, anew: bool) -> ServingManifest:
        trained = LightSANs.from_pretrained(model)
        vectors = io.BytesIO()
        np.save(vectors, serving_export.item_vectors(trained))
        encoder, vocabulary = serving_export.encoder_to_bytes(trained), load_vocabulary(model)
        files.require_weights(model, weights)  # before and after it was read
        (version / serving_export.ENCODER).write_bytes(encoder)
        (version / serving_export.VECTORS).write_bytes(vectors.getvalue())
        items = serving_export.item_table(trained, vocabulary)
        (version / serving_export.ITEMS).write_table(items)
        return ServingManifest(
            format_version=FORMAT_VERSION,
            version=version.name,
            model_id=model_id,
            weights_sha256=weights,
            vocabulary_fingerprint=source.vocabulary_fingerprint,
            torch=torch.__version__,
            items=trained.num_items,
            max_seq_len=trained.config.max_seq_len,
            hidden_size=trained.config.hidden_size,
            inputs=serving_export.encoder_inputs(trained) if trained.reads_times else None,
        )

    manifest, skipped = find_or_make(
        ServingManifest,
        version,
        root,
        stage="export",
        kind="serving",
        make=make,
        hint="",
        uses=(model,),
    )
    pointer = replace(manifest, files={name: f"{version.name}/{name}" for name in _FILES})
    published = read_manifest(ServingManifest, target)
    if published is None or published.version != version.name:
        write_manifest(target, pointer)
        if published is not None and published.version is None:
            for name in _FILES:  # of format 1, which lay here: no manifest has them any more
                (target / name).delete()
    return ExportResult(target, version, skipped, manifest)
