"""Ranking the held-out items of whole parts: what one process of an evaluation does.

Below the directory of the report, ``ranks`` gets a parquet file a part with the rank of every user
(`ranks_schema`), and ``work`` a file a part with sums that add up, deleted at the end.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from lightsans.arrays import Int64
from lightsans.columns.hashing import bucket_range
from lightsans.dataset.held_out import HeldOut, Split, hold_out, translate
from lightsans.dataset.loading import TimedUsers, load_evaluated, with_cutoffs
from lightsans.dataset.vocabulary import vocabulary_mapping
from lightsans.errors import InputError
from lightsans.model.network import LightSANs
from lightsans.ranking.baselines import TransitionCounts, popular_scores, successor_scores
from lightsans.ranking.evaluation import (
    ScoresHeldOut,
    from_histories,
    rank_targets,
    score_by_model,
)
from lightsans.ranking.given_lists import rank_in_lists
from lightsans.ranking.lists import (
    LIST_LENGTH,
    diversity,
    information,
    novelty,
    unit_vectors,
)
from lightsans.ranking.metrics import Ranked
from lightsans.ranking.recent import RecentRows, popularity_ties, window_scores
from lightsans.ranking.segments import (
    Segmentation,
    by_history_length,
    by_newcomers,
    by_target,
    by_view,
    popularity_tenths,
)
from lightsans.recommendations.user_groups import groups_identity, read_groups
from lightsans.reports.evaluation_figures import (
    MODEL,
    POPULAR,
    POPULAR_RECENT,
    RECOMMENDATIONS,
    SUCCESSOR,
    Measured,
    RankedUsers,
    add_measured,
    measure_ranks,
    measured_to_bytes,
)
from lightsans.stages.evaluate_job import RANKS, RECENT, SPLITS, TRANSITIONS, WORK, EvaluateJob
from lightsans.stages.given_lists import load_lists
from lightsans.storage.location import Location
from lightsans.storage.parts import part_index, sequence_part
from lightsans.storage.schemas import id_type, ranks_schema


@dataclass(frozen=True, slots=True)
class _Competitor:
    """A scorer with the catalogue that it ranks."""

    name: str
    score: ScoresHeldOut
    held_out: HeldOut
    num_items: int
    order: Any = None


class PartEvaluator:
    """Ranks the held-out items of whole parts; one Ray actor holds one."""

    def __init__(self, job: EvaluateJob) -> None:
        self._job = job
        self._device = torch.device("cuda" if job.config.score.use_gpu else "cpu")
        self._model = LightSANs.from_pretrained(job.model).to(self._device)
        self._mapping = vocabulary_mapping(job.dataset, job.model, job.map_items)
        work = job.report / WORK
        self._counts = TransitionCounts.from_bytes((work / TRANSITIONS).read_bytes())
        if job.window is not None:
            self._recent = RecentRows.from_bytes((work / RECENT).read_bytes())
        self._ties = popularity_ties(self._counts.popularity)
        self._tenths = popularity_tenths(self._counts.popularity)
        self._information = information(self._counts.popularity)
        self._units = unit_vectors(self._model.item_embedding.weight).cpu()
        self._groups = read_groups(job.config, id_type(job.dataset_manifest.user_id_type))
        if groups_identity(job.config, job.dataset_manifest.data) != job.groups:
            raise InputError(
                f"evaluate.user_table: {job.config.evaluate.user_table} changed meanwhile; run the "
                "same command again"
            )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write the ranks of one part and what they come to; the part and its rows."""
        name = batch["name"][0].as_py()
        part = sequence_part(self._job.dataset, self._job.dataset_manifest, name)
        users = load_evaluated(part)
        tables, measured = [], []
        for split in SPLITS:
            held_out = hold_out(with_cutoffs(users.sequences, self._job.dataset_manifest), split)
            ranked = {
                competitor.name: self._rank(competitor, split)
                for competitor in self._competitors(users, held_out, split)
            }
            if split == "test" and RECOMMENDATIONS in self._job.scorers:
                ranked[RECOMMENDATIONS], with_list = self._rank_lists(part, users, held_out)
                measured.append({"listed": np.array([with_list])})
            segments = self._segments(part, users, held_out)
            tables.append(self._table(users, held_out, split, ranked, segments))
            for name, found in ranked.items():
                measured.append(self._measure(users, held_out, split, name, found, segments))
        rows = pa.concat_tables(tables)
        self._job.require_owner()
        (self._job.report / RANKS / part.name).write_table(rows)
        sums = measured_to_bytes(add_measured(measured))
        self._job.require_owner()
        (self._job.report / WORK / f"{part.name}.npz").write_bytes(sums)
        return pa.table({"name": [part.name], "rows": [rows.num_rows]})

    def _competitors(
        self, users: TimedUsers, held_out: HeldOut, split: Split
    ) -> Iterator[_Competitor]:
        width = self._model.config.max_seq_len
        model = score_by_model(self._model, self._device, width)
        own = translate(held_out, self._mapping)
        yield _Competitor(MODEL, model, own, self._model.num_items)
        counts, num_items = self._counts, self._counts.num_items
        popular = from_histories(functools.partial(popular_scores, counts), width)
        successor = from_histories(functools.partial(successor_scores, counts), width)
        yield _Competitor(POPULAR, popular, held_out, num_items)
        window = self._job.window
        if window is not None:
            moments = _moments(users, held_out, window.cutoffs.get(split))

            def recent(batch: HeldOut) -> torch.Tensor:
                # A batch's users are those of the part: their moments are found by them.
                at = moments[batch.users]
                return torch.from_numpy(window_scores(self._recent, at, window.days, self._ties))

            order = np.argsort(moments[held_out.users], kind="stable")
            yield _Competitor(POPULAR_RECENT, recent, held_out, num_items, order)
        yield _Competitor(SUCCESSOR, successor, held_out, num_items)

    def _rank(self, competitor: _Competitor, split: Split) -> Ranked:
        protocol = self._job.config.evaluate
        with torch.inference_mode():
            return rank_targets(
                competitor.score,
                competitor.held_out,
                num_items=competitor.num_items,
                remove_seen=protocol.remove_seen,
                batch_size=protocol.batch_size,
                num_top=LIST_LENGTH if split == "test" else 0,
                order=competitor.order,
            )

    def _rank_lists(
        self, part: Location, users: TimedUsers, held_out: HeldOut
    ) -> tuple[Ranked, int]:
        """Ranks of targets in the lists of somebody else, and how many users have one."""
        known, lists = load_lists(self._job.report / WORK, part.name)
        at = pc.index_in(users.user_ids, value_set=known.cast(users.user_ids.type))
        of_user = pc.fill_null(at, -1).to_numpy().astype(np.int64)[held_out.users]
        ranked = rank_in_lists(
            lists,
            of_user,
            held_out,
            num_items=self._counts.num_items,
            remove_seen=self._job.config.evaluate.remove_seen,
            num_top=LIST_LENGTH,
        )
        return ranked, int((of_user >= 0).sum())

    def _segments(self, part: Location, users: TimedUsers, held_out: HeldOut) -> list[Segmentation]:
        found = [
            by_history_length(held_out.lengths),
            by_newcomers(~users.is_trained[held_out.users]),
            by_target(self._tenths[held_out.target_ids]),
        ]
        if held_out.is_viewed is not None:
            found.append(by_view(held_out.is_viewed))
        if self._groups is not None:
            first, end = bucket_range(part_index(part.name), self._job.dataset_manifest.num_parts)
            codes = self._groups.of(users.user_ids, first, end - 1)[held_out.users]
            found.append(Segmentation(self._groups.name, self._groups.labels, codes))
        return found

    def _measure(
        self,
        users: TimedUsers,
        held_out: HeldOut,
        split: Split,
        name: str,
        ranked: Ranked,
        segments: list[Segmentation],
    ) -> Measured:
        buckets = users.buckets[held_out.users]
        items: Measured = {}
        figures = None
        if split == "test":
            top, vectors = self._both_ids(name, ranked.top)
            figures = np.stack(
                [
                    novelty(top, self._information),
                    diversity(torch.from_numpy(vectors), self._units),
                ],
                axis=1,
            )
            counts = np.bincount(top[top > 0], minlength=self._counts.num_items + 1)
            items[f"items/{name}"] = counts.astype(np.int64)
        ranks = RankedUsers(name, split, buckets, ranked.ranks, figures)
        ks = tuple(self._job.config.evaluate.ks)
        return measure_ranks(ranks, ks, segments) | items

    def _both_ids(self, name: str, top: Int64) -> tuple[Int64, Int64]:
        """Lists in the ids of the dataset, and in those of the model; 0 where one lacks an item."""
        if self._mapping is None:
            # The model may know more items than the dataset has, or the other way about.
            known = len(self._information) - 1
            return np.where(top <= known, top, 0), np.where(top < len(self._units), top, 0)
        if name != MODEL:
            return top, self._mapping[top].astype(np.int64)
        back = np.zeros(len(self._units), np.int64)
        back[self._mapping] = np.arange(len(self._mapping))
        back[0] = 0
        return back[top], top

    def _table(
        self,
        users: TimedUsers,
        held_out: HeldOut,
        split: Split,
        ranked: dict[str, Ranked],
        segments: list[Segmentation],
    ) -> pa.Table:
        """Rows of `ranks_schema`."""
        others = self._job.scorers[1:]
        chosen, count = held_out.users, len(held_out.users)
        schema = ranks_schema(id_type(self._job.dataset_manifest.user_id_type), others)
        groups = pa.nulls(count, pa.string())
        if self._groups is not None:
            labels = pa.array(self._groups.labels, pa.string())
            groups = labels.take(pa.array(segments[-1].codes))
        columns = [
            users.user_ids.take(pa.array(chosen)),
            users.buckets[chosen],
            pa.array([split] * count, pa.string()),
            ranked[MODEL].ranks,
            *(ranked[name].ranks if name in ranked else pa.nulls(count) for name in others),
            ranked[MODEL].candidates,
            held_out.lengths,
            ~users.is_trained[chosen],
            self._tenths[held_out.target_ids],
            groups,
        ]
        return pa.table(dict(zip(schema.names, columns, strict=True))).cast(schema)


def _moments(users: TimedUsers, held_out: HeldOut, cutoff: int | None) -> Int64:
    """Microseconds at which each user's window ends: of the target, or of the cut-off before it."""
    moments = np.zeros(len(users.buckets), np.int64)
    if cutoff is not None:
        moments[:] = cutoff
    elif held_out.times is not None:
        moments[held_out.users] = held_out.times
    else:
        moments[held_out.users] = users.timestamps[held_out.starts + held_out.lengths]
    return moments
