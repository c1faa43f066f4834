"""Similar items: the nearest items of every item of a model, on Ray.

    similar/<id>/  part-*.parquet, _commits/, manifest.json

A part is a stretch of the items, in order of their ids. A small file in ``_commits/``, written
after a part, makes it a finished one, so a rerun makes only the parts that are missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from lightsans.arrays import Array
from lightsans.config import RunConfig
from lightsans.config.marks import Mark, values_with
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.model.network import LightSANs
from lightsans.recommendations.item_choice import ItemChoice, read_item_choice
from lightsans.recommendations.similar_items import SimilarItems
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import ModelManifest
from lightsans.storage.manifests import Manifest, content_id, remove_result, require_manifest
from lightsans.storage.records import fields_beside, from_json, to_json
from pipelines.console.logs import add_log_context, log_context
from pipelines.console.progress import say
from pipelines.session.lease import Owner
from pipelines.session.ray_session import ensure_ray
from pipelines.session.stage import find_or_make
from pipelines.session.tasks import remote, run_tasks

FORMAT_VERSION = 1
COMMITS = "_commits"
ITEMS_PER_PART = 32_768
_AT_ONCE = 1024
"""Items whose lists are made at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarPart:
    """A finished part; also the content of its file in ``_commits/``."""

    name: str
    first: int
    last: int
    rows: int
    short_lists: int
    """Lists with fewer than ``similar.k`` items."""
    weights_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarManifest(Manifest):
    """Manifest of ``similar/<id>``."""

    kind: ClassVar = "similar"

    id: str
    format_version: int
    model_id: str
    settings: Mapping[str, Any] = fields_beside()
    """Settings that decide the content, by name; lists and rules as fingerprints."""
    weights_sha256: str
    vocabulary_fingerprint: str
    items: int
    short_lists: int
    parts: tuple[SimilarPart, ...]


@dataclass(frozen=True, slots=True)
class SimilarResult:
    """Finished lists of similar items."""

    similar_id: str
    location: Location
    skipped: bool
    manifest: SimilarManifest


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything that a task must know."""

    config: RunConfig
    model: Location
    target: Location
    weights: str
    owner: Owner


@log_context(stage="similar")
def run_similar(config: RunConfig, model_id: str, *, force: bool = False) -> SimilarResult:
    """Write the nearest items of every item of a model, or find or complete them.

    Args:
        config: The run; ``similar`` says how many and how near, ``score`` which items and rules.
        model_id: A finished model.
        force: Make them again from nothing.

    Raises:
        NotFoundError: The model is not finished.
    """
    add_log_context(model_id=model_id)
    root = locate(config.root, config.storage)
    model = root / "models" / model_id
    source = require_manifest(ModelManifest, model, "run `submit.py train` first")
    choice = read_item_choice(config)
    question = _question(config, choice, model_id)
    target = root / "similar" / content_id("similar", FORMAT_VERSION, question)

    def make(owner: Owner, anew: bool) -> SimilarManifest:
        weights = files.weights_hash(model)
        ensure_ray()
        if anew:
            owner.require()
            remove_result(target)
        items = load_vocabulary(model)
        job = _Job(config, model, target, weights, owner)
        parts = _make_parts(job, choice, items.num_items)
        files.require_weights(model, weights)
        return SimilarManifest(
            id=target.name,
            format_version=FORMAT_VERSION,
            model_id=model_id,
            settings={name: value for name, value in question.items() if name != "model_id"},
            weights_sha256=weights,
            vocabulary_fingerprint=source.vocabulary_fingerprint,
            items=sum(part.rows for part in parts),
            short_lists=sum(part.short_lists for part in parts),
            parts=tuple(parts),
        )

    manifest, skipped = find_or_make(
        SimilarManifest, target, root, stage="similar", kind="similar", make=make, force=force,
        is_current=lambda found: files.is_made_of(found, model), uses=(model,),
    )  # fmt: skip
    if not skipped:
        say(f"similar: lists of {manifest.items:,} items ({target})", items=manifest.items)
    return SimilarResult(target.name, target, skipped, manifest)


def _question(config: RunConfig, choice: ItemChoice, model_id: str) -> dict[str, Any]:
    """All that decides the content of the lists."""
    return {
        "model_id": model_id,
        "items_per_part": ITEMS_PER_PART,
        **values_with(config.similar, Mark.CONTENT),
        **choice.fingerprints,
    }


def _make_parts(job: _Job, choice: ItemChoice, num_items: int) -> list[SimilarPart]:
    """Make what is missing; all parts, in order."""
    stretches = {
        f"part-{number:05d}": (first, min(num_items, first + ITEMS_PER_PART - 1))
        for number, first in enumerate(range(1, num_items + 1, ITEMS_PER_PART))
    }
    done = {part.name: part for part in _finished(job)}
    missing = [name for name in stretches if name not in done]
    if done and missing:
        say(f"similar: {len(done)} of {len(stretches)} parts are there already")
    if missing:
        shared = ray.put(LightSANs.from_pretrained(job.model).item_table().detach().numpy())
        chosen = ray.put(choice)
        task = remote(partial(_make_part, job))
        for part in run_tasks(
            lambda name: task.remote(shared, chosen, name, *stretches[name]), missing, "similar"
        ):
            done[part.name] = part
    return [done[name] for name in stretches]


def _finished(job: _Job) -> list[SimilarPart]:
    """Parts that earlier attempts committed with the weights that the model has now."""
    found = []
    for name in (job.target / COMMITS).children():
        commit = job.target / COMMITS / name
        part = from_json(SimilarPart, commit.read_json(), str(commit))
        is_there = (job.target / f"{part.name}.parquet").exists()
        if is_there and part.weights_sha256 == job.weights:
            found.append(part)
    return found


def _make_part(
    job: _Job, table: Array, choice: ItemChoice, name: str, first: int, last: int
) -> SimilarPart:
    """Write one part and commit it."""
    items = load_vocabulary(job.model)
    similar = job.config.similar
    table_VD = torch.from_numpy(np.array(table))
    nearest = SimilarItems.chosen(table_VD, items, similar.measure, choice)
    tables = [
        nearest.lists(begin, min(last, begin + _AT_ONCE - 1), similar.k)
        for begin in range(first, last + 1, _AT_ONCE)
    ]
    made = pa.concat_tables(tables)
    short = int(pc.sum(pc.less(pc.list_value_length(made["item_ids"]), similar.k)).as_py())
    job.owner.require()
    (job.target / f"{name}.parquet").write_table(made)
    part = SimilarPart(
        name=name, first=first, last=last, rows=made.num_rows, short_lists=short,
        weights_sha256=job.weights,
    )  # fmt: skip
    job.owner.require()
    (job.target / COMMITS / f"{name}.json").write_json(to_json(part))
    return part
