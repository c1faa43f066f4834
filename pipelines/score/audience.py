"""Audiences: the users of a dataset who want given items most, on Ray.

    audience/<id>/  audience.parquet, _parts/, manifest.json

Each task goes through one part of the dataset and keeps the best users of each item, in
``_parts/``; a rerun after an interruption goes through the parts that are missing. The best of all
parts are merged one part after the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import ray
import torch

from lightsans.arrays import Int64
from lightsans.config import RunConfig
from lightsans.config.marks import Mark, values_with
from lightsans.dataset.bucket_cursor import bucket_span
from lightsans.dataset.loading import history_column, list_column
from lightsans.dataset.vocabulary import load_vocabulary, vocabulary_mapping
from lightsans.errors import InputError
from lightsans.lists.id_lists import IdList, read_id_list
from lightsans.recommendations.audience import audience_table, best_users, keep_best
from lightsans.recommendations.item_choice import ItemChoice, read_item_choice
from lightsans.recommendations.segment import segment_identity
from lightsans.stages.seen_rows import SeenRows
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest, RunQuestion
from lightsans.storage.manifests import Manifest, content_id, remove_result, require_manifest
from lightsans.storage.parts import sequence_part
from lightsans.storage.records import fields_beside, to_json
from lightsans.storage.schemas import id_type
from pipelines.console.logs import add_log_context, log_context
from pipelines.console.progress import say
from pipelines.score.shared_model import Packed, load_shared, unpack
from pipelines.session.lease import Owner
from pipelines.session.ray_session import ensure_ray, original_errors
from pipelines.session.stage import find_or_make
from pipelines.session.tasks import remote, run_tasks

FORMAT_VERSION = 1
AUDIENCE, PARTS = "audience.parquet", "_parts"


@dataclass(frozen=True, kw_only=True, slots=True)
class AudienceManifest(Manifest):
    """Manifest of ``audience/<id>``."""

    kind: ClassVar = "audience"

    id: str
    format_version: int
    dataset_id: str
    model_id: str
    settings: Mapping[str, Any] = fields_beside()
    """The items and the settings that decide the content; lists and rules as fingerprints."""
    listed_items: int
    unknown_items: int
    """Listed items that the model does not know."""
    weights_sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class AudienceResult:
    """Finished audiences."""

    audience_id: str
    location: Location
    skipped: bool
    manifest: AudienceManifest


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything that a task must know."""

    config: RunConfig
    dataset: Location
    target: Location
    dataset_manifest: DatasetManifest
    weights: str
    wanted: Int64
    seen: SeenRows
    owner: Owner

    def part(self, name: str) -> Location:
        """The best users of a part; users of other weights lie elsewhere."""
        return self.target / PARTS / self.weights[:12] / name


@log_context(stage="audience")
def run_audience(
    config: RunConfig,
    dataset_id: str,
    model_id: str,
    items: str,
    *,
    map_items: bool = False,
    force: bool = False,
) -> AudienceResult:
    """Write the users who want the items of a list most, or find or complete them.

    Args:
        config: The run; ``audience`` says how many, ``score`` what may be recommended to whom.
        dataset_id: The dataset of the users.
        model_id: The model, of this dataset or an earlier one.
        items: A file of raw item ids.
        map_items: Translate items by raw id when dataset and model number them differently.
        force: Make them again from nothing.

    Raises:
        NotFoundError: The dataset or the model is not finished.
        InputError: The file is unreadable, or the model knows none of its items.
    """
    add_log_context(dataset_id=dataset_id, model_id=model_id)
    root = locate(config.root, config.storage)
    dataset, model = root / "datasets" / dataset_id, root / "models" / model_id
    source = require_manifest(DatasetManifest, dataset, "run `submit.py preprocess` first")
    require_manifest(ModelManifest, model, "run `submit.py train` first")
    listed = read_id_list("--items", items, config, "item")
    wanted = _wanted(listed, model)
    raw = load_vocabulary(model).decode(wanted.astype(np.int32))
    choice = read_item_choice(config)
    times = files.read_settings(model).reads_times
    seen = SeenRows.of(config.score.remove_seen, source, times)
    question = _question(config, choice, source, model_id, map_items, raw.to_pylist())
    target = root / "audience" / content_id("audience", FORMAT_VERSION, to_json(question))

    def make(owner: Owner, anew: bool) -> AudienceManifest:
        vocabulary_mapping(dataset, model, map_items)  # fail before anything is started or deleted
        weights = files.weights_hash(model)
        ensure_ray()
        if anew:
            owner.require()
            remove_result(target)
        job = _Job(config, dataset, target, source, weights, wanted, seen, owner)
        with original_errors():
            shared = [
                ray.remote(load_shared).remote(config, dataset, model, question, choice, None)
            ]
            _make_parts(job, [part.name for part in source.parts], shared)
        files.require_weights(model, weights)
        rows = _merge(job, [part.name for part in source.parts])
        owner.require()
        (target / AUDIENCE).write_table(audience_table(rows, raw))
        (target / PARTS).delete()
        return AudienceManifest(
            id=target.name,
            format_version=FORMAT_VERSION,
            dataset_id=dataset_id,
            model_id=model_id,
            settings={"map_items": map_items, **question.settings},
            listed_items=len(listed),
            unknown_items=len(listed) - len(wanted),
            weights_sha256=weights,
            rows=rows.num_rows,
        )

    manifest, skipped = find_or_make(
        AudienceManifest, target, root, stage="audience", kind="audience", make=make, force=force,
        is_current=lambda found: files.is_made_of(found, model), uses=(dataset, model),
    )  # fmt: skip
    if not skipped:
        unknown = manifest.unknown_items
        say(
            f"audience: {manifest.rows:,} users of {len(wanted):,} items"
            + (f"; the model does not know {unknown:,} listed items" if unknown else "")
            + f" ({target / AUDIENCE})"
        )
    return AudienceResult(target.name, target, skipped, manifest)


def _question(
    config: RunConfig,
    choice: ItemChoice,
    dataset: DatasetManifest,
    model_id: str,
    map_items: bool,
    items: list[str | int],
) -> RunQuestion:
    """All that decides who is in the audiences."""
    settings = {
        "items": items,
        "remove_seen": values_with(config.score, Mark.CONTENT)["remove_seen"],
        **values_with(config.audience, Mark.CONTENT),
        **choice.fingerprints,
        "segment": segment_identity(config, dataset.data),
    }
    return RunQuestion(
        dataset_id=dataset.id, model_id=model_id, map_items=map_items, settings=settings
    )


def _wanted(listed: IdList, model: Location) -> Int64:
    """Ids of the listed items that the model knows, ascending."""
    items = load_vocabulary(model)
    found = np.unique(items.encode(listed.of_type(items.raw_item_ids.type)))
    wanted: Int64 = found[found > 0].astype(np.int64)
    if not len(wanted):
        raise InputError(
            f"--items: {listed.location}: model {model.name} knows none of the {len(listed):,} "
            "listed items; ids are compared as received"
        )
    return wanted


def _make_parts(job: _Job, names: list[str], shared: "list[ray.ObjectRef[Packed]]") -> None:
    missing = [name for name in names if not job.part(name).exists()]
    if len(missing) < len(names):
        say(f"audience: {len(names) - len(missing)} of {len(names)} parts are there already")
    task = remote(partial(_make_part, job, shared))
    for _ in run_tasks(task.remote, missing, "audience"):
        pass


def _make_part(job: _Job, shared: "list[ray.ObjectRef[Packed]]", name: str) -> None:
    """Write the best users of one part."""
    loaded = unpack(ray.get(shared[0]))
    list_maker, k = loaded.list_maker, job.config.audience.k
    none = torch.zeros(0, len(job.wanted))
    best = best_users(pa.array([], id_type(job.dataset_manifest.user_id_type)), none, k)
    source = sequence_part(job.dataset, job.dataset_manifest, name)
    for rows in job.seen.read(source, job.config.audience.batch_size):
        users = rows["user_id"]
        if loaded.segment is not None:
            rows = rows.filter(loaded.segment.contains(users, *bucket_span(users)))
        if not rows.num_rows:
            continue
        bits = np.zeros(rows.num_rows, np.int64)
        if list_maker.rules is not None:
            bits = list_maker.rules.bits(rows["user_id"])
        known, shares_BW = list_maker.log_shares(
            history_column(rows), list_column(rows, "also_seen"), job.wanted, bits
        )
        users = rows["user_id"].combine_chunks().take(pa.array(known))
        best = keep_best(pa.concat_tables([best, best_users(users, shares_BW, k)]), k)
    job.owner.require()
    job.part(name).write_table(best)


def _merge(job: _Job, names: list[str]) -> pa.Table:
    best = job.part(names[0]).read_table()
    for name in names[1:]:
        both = pa.concat_tables([best, job.part(name).read_table()])
        best = keep_best(both, job.config.audience.k)
    return best
