"""Scoring whole parts: what one process of the pool does."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from lightsans.dataset.bucket_cursor import bucket_span
from lightsans.dataset.loading import history_column, list_column
from lightsans.recommendations.reader import wide_schema
from lightsans.recommendations.tables import make_lists, recommend_rows, to_table
from lightsans.recommendations.writer import FileLayout, PartFiles
from lightsans.stages.computed_columns import ComputedColumns, add_columns
from lightsans.stages.seen_rows import SeenRows
from lightsans.storage.manifest_kinds import RunPart
from lightsans.storage.parts import sequence_part
from lightsans.storage.records import to_json
from lightsans.storage.schemas import MODEL
from pipelines.score.job import COMMITS, ScoreJob
from pipelines.score.shared_model import Packed, unpack
from pipelines.score.since import UnchangedRows


@dataclass(slots=True)
class _Counts:
    """The counts of a `RunPart` that is being scored."""

    users: int = 0
    popular_users: int = 0
    carried_users: int = 0
    other_users: int = 0
    unknown_interactions: int = 0
    short_lists: int | None = None
    unmet_quotas: int | None = None
    segment_users: tuple[int, ...] | None = None


class PartScorer:
    """Scores whole parts; one Ray actor holds one.

    Args:
        job: The scoring job.
        shared: A list of one reference to what `load_shared` returned. (Ray would replace a bare
            reference by a copy.)
    """

    def __init__(self, job: ScoreJob, shared: "list[ray.ObjectRef[Packed]]") -> None:
        self._job = job
        loaded = unpack(ray.get(shared[0]))
        self._list_maker, self._segment = loaded.list_maker, loaded.segment
        self._beside = loaded.beside
        score = job.config.score
        self._list_maker.to(torch.device("cuda" if score.use_gpu else "cpu"))
        self._schema = wide_schema(job.dataset_manifest)
        has_events = bool(job.dataset_manifest.data.get("events"))
        self._asked = ComputedColumns.of(score, has_events, job.temperature)
        self._layout = FileLayout(
            score.layout, score.partition_by, score.max_users_per_file, score.users_per_row_group
        )
        self._metadata = {key: str(value) for key, value in to_json(job.question).items()}
        self._metadata["run_id"] = job.run.name

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score and commit one part; a `RunPart` as JSON."""
        name = batch["name"][0].as_py()
        job, rules = self._job, self._list_maker.rules
        # Zeros for a part without users: None means that an earlier version scored it.
        counts = _Counts(segment_users=None if rules is None else (0,) * len(rules.segments))
        unchanged = None
        if job.earlier is not None:
            num_parts = job.dataset_manifest.num_parts
            remove_seen, times = job.config.score.remove_seen, self._list_maker.model.reads_times
            unchanged = UnchangedRows(job.earlier, job.model, name, num_parts, remove_seen, times)
        # A task that Ray repeats, or one whose driver was given up on meanwhile, must not replace
        # what the present owner has committed.
        job.owner.require()
        with self._open(name) as files:
            for rows in self._read(name):
                made = self._score(rows, unchanged, counts)
                files.write(made if self._beside is None else self._beside.extend(made))
        part = RunPart(
            name=name, weights_sha256=job.weights, **asdict(counts), files=tuple(files.files)
        )
        job.owner.require()
        # This file makes the part a finished one.
        (job.run / COMMITS / f"{name}.json").write_json(to_json(part))
        pa.default_memory_pool().release_unused()  # else it grows a little from part to part
        return pa.table({"commit": [json.dumps(to_json(part))]})

    def _open(self, name: str) -> PartFiles:
        """Files of a part, with columns beside the lists where they are asked for."""
        schema, of_items = self._schema, set[str]()
        for field in self._asked.fields(schema):
            schema = schema.append(field)
            of_items.add(field.name)
        if self._beside is not None:
            schema = self._beside.extended_schema(schema)
            of_items |= set(self._job.config.score.item_columns)
        run, require = self._job.run, self._job.owner.require
        return PartFiles(run, name, schema, self._layout, self._metadata, require, of_items)

    def _read(self, name: str) -> Iterator[pa.Table]:
        score = self._job.config.score
        part = sequence_part(self._job.dataset, self._job.dataset_manifest, name)
        times = self._list_maker.model.reads_times
        seen = SeenRows.of(score.remove_seen, self._job.dataset_manifest, times)
        return seen.read(part, score.batch_size)

    def _score(self, rows: pa.Table, unchanged: UnchangedRows | None, counts: _Counts) -> pa.Table:
        """Wide rows of those users of the segment, scored or carried over, in their order."""
        first, last = bucket_span(rows["user_id"])
        rules = self._list_maker.rules
        if rules is not None and counts.segment_users is not None:
            found = zip(counts.segment_users, rules.count(rows["user_id"]), strict=True)
            counts.segment_users = tuple(map(sum, found))
        if self._segment is not None:
            num_users = rows.num_rows
            rows = rows.filter(self._segment.contains(rows["user_id"], first, last))
            counts.other_users += num_users - rows.num_rows
        histories = history_column(rows)
        known = self._list_maker.know(histories, list_column(rows, "also_seen"))
        counts.unknown_interactions += len(histories.item_ids) - len(known.histories.item_ids)
        encoded = None
        if unchanged is None:
            lists = make_lists(self._list_maker, rows)
            made, encoded = to_table(rows, lists, self._schema), lists.encoded
        else:
            is_carried, carried = unchanged.find(rows["user_id"], known, first, last)
            others = rows.filter(pa.array(~is_carried))
            scored = recommend_rows(self._list_maker, others, self._schema)
            # True sorts last: the scored users, each kind in its order.
            order = np.argsort(np.argsort(~is_carried, kind="stable"), kind="stable")
            made = pa.concat_tables([carried.cast(self._schema), scored]).take(pa.array(order))
            counts.carried_users += carried.num_rows
        counts.users += made.num_rows
        if rules is not None:
            items = made["item_ids"].combine_chunks()
            short, unmet = self._list_maker.count_broken(items, made["source"])
            counts.short_lists = (counts.short_lists or 0) + short
            counts.unmet_quotas = (counts.unmet_quotas or 0) + unmet
        counts.popular_users += pc.sum(pc.not_equal(made["source"], MODEL)).as_py() or 0
        if encoded is None:  # what is carried over has no columns but its own
            return made
        return add_columns(self._list_maker, made, encoded, self._asked)
