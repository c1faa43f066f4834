"""A dataset and a model whose parts are scored in this process, one after the other: no Ray."""

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import ray
import torch

from lightsans import LightSANs
from lightsans.config import ModelConfig, RunConfig
from lightsans.config.file import load_config
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import ModelManifest, RunPart
from lightsans.storage.manifests import is_finished, require_manifest, write_manifest
from lightsans.storage.records import from_json
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from pipelines.score import stage
from pipelines.score.job import finished_parts
from pipelines.score.parts import PartScorer
from pipelines.score.shared_model import load_shared
from pipelines.score.stage import ScoreResult, run_score

MODEL = ModelConfig(
    max_seq_len=8, hidden_size=16, inner_size=16, n_layers=1, k_interests=2, n_heads=2
)
USERS, ITEMS = 60, 40
MADE: list[str] = []
"""Parts that the last call of `score` made."""


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `run_score` score and count parts in this process."""
    monkeypatch.setattr(stage, "ensure_ray", lambda: None)
    monkeypatch.setattr(stage, "preflight", lambda name, config: config)
    monkeypatch.setattr(stage, "write_report", lambda job, eligible, content, previous: [])
    monkeypatch.setattr(stage, "_score_parts", score_here)
    monkeypatch.setattr(ray, "get", lambda packed: packed)


def make_root(path: Any) -> Location:
    """A dataset ``d`` of three parts, and a model ``m``."""
    root = locate(str(path), load_config(None, []).config.storage)
    write_synthetic_dataset(root / "datasets" / "d", USERS, ITEMS, history=6, num_parts=3)
    write_synthetic_model(root / "models" / "m", MODEL, ITEMS, "d")
    (root / "models" / "m" / files.METRICS).write_json({"valid": {}})
    train_again(root)
    return root


def train_again(root: Location, scale: float = 1.0) -> None:
    """Replace the weights under the same id, as `train --force` does."""
    model = root / "models" / "m"
    network = LightSANs.from_pretrained(model)
    with torch.no_grad():
        network.item_embedding.weight.mul_(scale)
    weights = files.weights_to_bytes(network)
    (model / files.WEIGHTS).write_bytes(weights)
    manifest = require_manifest(ModelManifest, model, "")
    write_manifest(model, replace(manifest, weights_sha256=files.sha256(weights)))


def configure(root: Location, *settings: str) -> RunConfig:
    return load_config(None, [f"root={root}", "score.k=5", *settings]).config


def score(root: Location, **arguments: Any) -> ScoreResult:
    return score_with(root, **arguments)


def score_with(root: Location, *settings: str, **arguments: Any) -> ScoreResult:
    MADE.clear()
    return run_score(configure(root, *settings), "d", "m", **arguments)


def scorer_of(job: Any, choice: Any) -> PartScorer:
    shared: Any = load_shared(job.config, job.dataset, job.model, job.question, choice, None)
    return PartScorer(job, [shared])


def score_here(job: Any, choice: Any) -> list[RunPart]:
    """Score the parts that are missing."""
    names = [part.name for part in job.dataset_manifest.parts]
    done = finished_parts(job)
    scorer = scorer_of(job, choice)
    for name in names:
        if name not in done:
            commit = scorer(pa.table({"name": [name]}))["commit"][0].as_py()
            done[name] = from_json(RunPart, json.loads(commit), name)
            MADE.append(name)
    return [done[name] for name in names]


def finished_runs(root: Location) -> list[str]:
    runs = root / "recommendations"
    return [name for name in runs.children() if is_finished(runs / name)]


def lists_of(result: ScoreResult) -> set[str]:
    """Recommended items of all users."""
    parts = [(result.location / part.name).read_table() for part in result.manifest.parts]
    return {item for part in parts for items in part["item_ids"].to_pylist() for item in items}
