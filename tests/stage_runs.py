"""Tiny runs of every stage, on disk or S3, and what two runs of one stage must have in common."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from lightsans.config import ModelConfig, StorageConfig
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.model.network import LightSANs
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest, RunManifest
from lightsans.storage.manifests import is_finished, require_manifest, write_manifest
from lightsans.storage.parts import sequence_parts
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from lightsans.training.progress import read_history
from pipelines.evaluate.stage import EvaluationManifest
from pipelines.export import ServingManifest
from pipelines.tune.records import SearchManifest
from tests.integration.conftest import TINY

MODEL = ModelConfig(
    max_seq_len=12, hidden_size=16, inner_size=32, n_layers=1, k_interests=3, n_heads=2
)
USERS, ITEMS = 200, 60


def rows_of_dataset(dataset: Location) -> Any:
    manifest = require_manifest(DatasetManifest, dataset, "")
    parts = [part.read_table() for part in sequence_parts(dataset, manifest)]
    return manifest.fingerprint, pa.concat_tables(parts).to_pylist()


def learning_of_model(model: Location) -> Any:
    history = read_history(model / files.HISTORY)
    curve = [(row.loss, row.valid) for row in history]
    content = (model / files.WEIGHTS).read_bytes()
    weights = files.saved_model(content, model.name).weights
    values = {name: tensor.tolist() for name, tensor in weights.items()}
    assert require_manifest(ModelManifest, model, "").weights_sha256 == files.sha256(content)
    return curve, (model / files.METRICS).read_json(), values


def metrics_of_report(report: Location) -> Any:
    return require_manifest(EvaluationManifest, report, "").figures.metrics


def rows_of_run(run: Location) -> Any:
    parts = require_manifest(RunManifest, run, "").parts
    recorded = [file for part in parts for file in part.files]
    for file in recorded:
        assert files.sha256((run / file.path).read_bytes()) == file.sha256
    return pa.concat_tables([(run / file.path).read_table() for file in recorded]).to_pylist()


def trials_of_search(search: Location) -> Any:
    manifest = require_manifest(SearchManifest, search, "")
    leaderboard = (search / "leaderboard.parquet").read_table().drop_columns(["train_s"])
    return manifest.trials, manifest.best, leaderboard.to_pylist()


def content_of_export(target: Location) -> Any:
    pointer = require_manifest(ServingManifest, target, "")
    paths = pointer.files
    assert paths is not None
    items = (target / paths["items.parquet"]).read_table().to_pylist()
    vectors = (target / paths["item_vectors.npy"]).read_bytes()
    assert (target / paths["user_encoder.pt2"]).exists()
    return pointer.version, pointer.weights_sha256, items, vectors


@dataclass(frozen=True, slots=True)
class Stage:
    """A command, and what it leaves."""

    command: str
    arguments: tuple[str, ...]
    results: str
    """The room below the root in which the one finished result lies."""
    content: Callable[[Location], Any]
    """Content that is equal whenever the same is made."""
    uses_ray: bool = True


DATASET, BOTH = ("--dataset", "d"), ("--dataset", "d", "--model", "m")
SPACE = {"learning_rate": {"choice": [0.01, 0.001]}}
STAGES = (
    Stage("preprocess", (), "datasets", rows_of_dataset),
    Stage("train", DATASET, "models", learning_of_model),
    Stage("evaluate", BOTH, "reports", metrics_of_report),
    Stage("score", BOTH, "recommendations", rows_of_run),
    Stage("tune", DATASET, "tune", trials_of_search),
    Stage("export", ("--model", "m"), "serving", content_of_export, uses_ray=False),
)
BY_NAME = {stage.command: stage for stage in STAGES}


@dataclass(frozen=True, slots=True)
class Root:
    """Where the results of one run lie."""

    location: Location
    settings: tuple[str, ...]

    def finished(self, stage: Stage) -> list[Location]:
        found = self.location / stage.results
        results = [found / name for name in found.children()]
        return [result for result in results if is_finished(result)]

    def contents(self, stage: Stage) -> list[tuple[str, Any]]:
        """Names and contents of the finished results."""
        return [(result.name, stage.content(result)) for result in self.finished(stage)]

    def holders(self) -> list[int]:
        """Ids of the processes that have or had the lease last."""
        locks = self.location / "locks"
        names = [name for name in locks.children() if name.endswith(".json")]
        return [(locks / name).read_json()["pid"] for name in names]

    def files(self) -> dict[str, tuple[Any, ...]]:
        """All that tells whether a file below the root was written, by its path."""
        found = self.location.filesystem.find(self.location.path, detail=True)
        told = ("size", "mtime", "ino", "ETag", "LastModified")
        return {path: tuple(info.get(name) for name in told) for path, info in found.items()}

    def words(self, stage: Stage, *more: str) -> list[str]:
        """The command line of the stage, with more settings."""
        settings = [*self.settings, *more]
        options = [word for setting in settings for word in ("-s", setting)]
        return [stage.command, *stage.arguments, *options]


@functools.cache
def random_weights() -> bytes:
    """The content of a weights file: made once, since equal weights may have unequal headers."""
    torch.manual_seed(0)
    return files.weights_to_bytes(LightSANs(MODEL, ITEMS))


def write_model(model: Location) -> None:
    """Write a model of random weights with all that later stages ask of it; always the same."""
    write_synthetic_model(model, MODEL, ITEMS, "d")
    (model / files.WEIGHTS).write_bytes(random_weights())
    (model / files.METRICS).write_json({"valid": {}})
    fingerprint = load_vocabulary(model).fingerprint
    manifest = require_manifest(ModelManifest, model, "")
    write_manifest(model, replace(manifest, vocabulary_fingerprint=fingerprint))


def make_root(
    uri: str, storage: StorageConfig, stage: Stage, log: Path | str, *, users: int = USERS,
    parts: int = 3,
) -> Root:  # fmt: skip
    """A root with all that a stage needs, and settings that make it quick."""
    location = locate(uri, storage)
    if "--dataset" in stage.arguments:
        write_synthetic_dataset(
            location / "datasets" / "d", users, ITEMS, history=12, num_parts=parts, newcomers=0
        )
    if "--model" in stage.arguments:
        write_model(location / "models" / "m")
    settings = [
        *TINY, f"root={uri}", f"data.input={log}", "train.num_workers=1", "train.epochs=2",
        "train.checkpoint_steps=2", "score.num_workers=1", "tune.engine=grid",
        "tune.scheduler=none", f"tune.space={json.dumps(SPACE)}",
    ]  # fmt: skip
    if storage.endpoint_url:
        settings.append(f"storage.endpoint_url={storage.endpoint_url}")
    return Root(location, tuple(settings))
