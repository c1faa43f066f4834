"""Manifests for tests that only need some fields of them."""

from dataclasses import replace
from typing import Any

from lightsans.config import DataConfig, to_dict
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    ModelManifest,
    RowSummary,
    RunFile,
    RunManifest,
    RunPart,
)
from lightsans.storage.model_files import sha256


def dataset_manifest(name: str = "d", **changes: Any) -> DatasetManifest:
    """A dataset of no rows, with other fields where ``changes`` says so."""
    manifest = DatasetManifest(
        id=name,
        format_version=2,
        users=0,
        trainable_users=0,
        items=0,
        interactions=0,
        fingerprint="f",
        vocabulary_fingerprint="v",
        rows=RowSummary(read=0, rejected={}, excluded=0, valid=0, exact_duplicates=0, left={}),
        k_core_rounds=0,
        user_id_type="string",
        item_id_type="string",
        timestamp_unit="us",
        time_range=("2020-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00"),
        num_buckets=4096,
        num_parts=1,
        parts=(),
        data=to_dict(DataConfig()),
        base=None,
        input=(),
    )
    return replace(manifest, **changes)


def model_manifest(name: str = "m", **changes: Any) -> ModelManifest:
    """A model of no epochs, with other fields where ``changes`` says so."""
    manifest = ModelManifest(
        id=name,
        format_version=2,
        dataset_id="d",
        dataset_fingerprint="f",
        vocabulary_fingerprint="v",
        items=0,
        parameters=0,
        epochs=0,
        best_epoch=0,
        train_s=0.0,
        torch="2.13.0",
    )
    return replace(manifest, **changes)


def run_part(name: str, **changes: Any) -> RunPart:
    """A part without users, with other fields where ``changes`` says so."""
    part = RunPart(
        name=name,
        users=0,
        popular_users=0,
        carried_users=0,
        other_users=0,
        unknown_interactions=0,
        files=(),
    )
    return replace(part, **changes)


def run_file(run: Location, path: str, rows: int) -> RunFile:
    """A file of a run as it lies there."""
    content = (run / path).read_bytes()
    return RunFile(path=path, rows=rows, bytes=len(content), sha256=sha256(content))


def run_manifest(name: str = "r", **changes: Any) -> RunManifest:
    """A run of no users, with other fields where ``changes`` says so."""
    manifest = RunManifest(
        id=name,
        format_version=2,
        dataset_id="d",
        model_id="m",
        map_items=False,
        settings={"k": 10, "layout": "wide", "segment": None},
        since=None,
        dataset_fingerprint="f",
        users=0,
        popular_users=0,
        carried_users=0,
        other_users=0,
        unknown_interactions=0,
        user_id_type="string",
        item_id_type="string",
        num_parts=1,
        parts=(),
        warnings=(),
    )
    return replace(manifest, **changes)
