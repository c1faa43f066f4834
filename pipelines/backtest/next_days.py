"""Lists of a night against what users did until the next one.

Users are asked about who met an item in between. Those with a history count whether they have a
list or not: without one, everything is a miss, so that policies are measured on the same users.
Those without are newcomers; readers give them the fallback. Two questions are asked: where the
first item of that time stands in a list, and how many of all of them stand there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Float64, Int32
from lightsans.columns.hashing import bucket_range, user_buckets
from lightsans.config import RunConfig
from lightsans.dataset.bucket_cursor import overlapping_parts
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.recommendations.item_choice import read_item_choice
from lightsans.recommendations.list_maker import ListMaker
from lightsans.recommendations.reader import RunRows, wide_schema
from lightsans.recommendations.tables import recommend_rows
from lightsans.stages.list_maker import load_list_maker
from lightsans.stages.seen_rows import SeenRows
from lightsans.stages.window import count_here
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest
from lightsans.storage.manifests import require_manifest
from lightsans.storage.model_files import read_settings
from lightsans.storage.parts import part_index, sequence_part, sequence_parts
from pipelines.backtest.pooled import AT, NAMES, Gains, joined

_ROWS = 4096
RawId = str | int
Lists = Mapping[RawId, Sequence[RawId]]


@dataclass(frozen=True, kw_only=True, slots=True)
class NextDays:
    """How good the lists of a night were."""

    published: Gains
    """Published lists, for users with a history."""
    newcomers: Gains
    """The fallback, for users without."""
    judged: Gains | None = None
    """Lists of the judged model for the same histories; None where it is the published one."""


@dataclass(frozen=True, slots=True)
class _Met:
    """Users of a part who met items after the night."""

    part: str
    users: pa.Array
    items: list[list[str]]
    """Items of each user, oldest first."""

    def of(self, is_chosen: Sequence[bool]) -> "_Met":
        """Some of the users."""
        items = [each for each, is_one in zip(self.items, is_chosen, strict=True) if is_one]
        return _Met(self.part, self.users.filter(pa.array(is_chosen, pa.bool_())), items)

    def gains(self, lists: Lists) -> Gains:
        """Metrics of these users; those without a list have met nothing of it."""
        found = [
            score([str(item) for item in lists.get(user, ())[:AT]], met)
            for user, met in zip(self.users.to_pylist(), self.items, strict=True)
        ]
        buckets = user_buckets(self.users).astype(np.int64)
        return Gains(buckets, np.array(found, np.float64).reshape(-1, len(NAMES)))


def measure_next_days(
    config: RunConfig, root: Location, run_id: str, dataset_id: str, since_us: int
) -> NextDays:
    """Measure a run by what the sequences of a later dataset hold from a moment on.

    Args:
        config: Settings of the night; section ``score`` says what its fallback is.
        root: Where all lies.
        run_id: The run that was published.
        dataset_id: A dataset of the next night that knows all items; under a temporal split, that
            is one with nothing held out.
        since_us: The moment, in microseconds since 1970: that of the published night.
    """
    run, dataset = root / "recommendations" / run_id, root / "datasets" / dataset_id
    run_manifest = require_manifest(RunManifest, run, "this run of the backtest was removed")
    manifest = require_manifest(
        DatasetManifest, dataset, "this dataset of the backtest was removed"
    )
    makers, is_refit = _Makers(config, root, run_manifest), run_manifest.judged is not None
    published, newcomers, judged = list[Gains](), list[Gains](), list[Gains]()
    for met, has_history in _read_met(dataset, manifest, since_us):
        lists = _lists(run, run_manifest, met.part, manifest.num_parts)
        if run_manifest.settings.get("segment") is not None:  # of others it says nothing
            counts = [user in lists for user in met.users.to_pylist()]
        else:
            counts = has_history
        known, new = met.of(counts), met.of([not each for each in has_history])
        published.append(known.gains(lists))
        if new.items:
            newcomers.append(new.gains(makers.fallback(new.users)))
        if is_refit and known.items:
            judged.append(known.gains(makers.judged(known, manifest.num_parts)))
    return NextDays(
        published=joined(published),
        newcomers=joined(newcomers),
        judged=joined(judged) if is_refit else None,
    )


class _Makers:
    """Makes lists that no run has: of newcomers, and of the model that was judged."""

    def __init__(self, config: RunConfig, root: Location, run: RunManifest) -> None:
        self._config, self._run, self._models = config, run, root / "models"
        self._dataset = root / "datasets" / run.dataset_id
        self._manifest = require_manifest(
            DatasetManifest, self._dataset, "this dataset of the backtest was removed"
        )
        self._made: dict[str, ListMaker] = {}

    def fallback(self, users: pa.Array) -> Lists:
        """Lists of users of whom nothing is known."""
        empty = pa.array([[]] * len(users), pa.list_(pa.int32()))
        rows = pa.table({"user_id": users, "item_ids": empty, "also_seen": empty})
        return self._recommend(self._run.model_id, rows)

    def judged(self, met: _Met, num_parts: int) -> Lists:
        """Lists of the judged model for users of a part, from the histories of the run."""
        assert self._run.judged is not None
        times = read_settings(self._models / self._run.judged.model_id).reads_times
        seen = SeenRows.of(self._config.score.remove_seen, self._manifest, times)
        found: dict[RawId, Sequence[RawId]] = {}
        names = [each.name for each in self._manifest.parts]
        is_one = pc.field("user_id").isin(met.users)
        for name in overlapping_parts(met.part, num_parts, names, self._manifest.num_parts):
            file = sequence_part(self._dataset, self._manifest, name)
            rows = file.read_table(columns=seen.columns, filters=is_one)
            if rows.num_rows:
                found |= self._recommend(self._run.judged.model_id, seen.of_rows(rows))
        return found

    def _recommend(self, model: str, rows: pa.Table) -> dict[RawId, Sequence[RawId]]:
        if model not in self._made:
            config = self._config
            recent = count_here(self._dataset, self._manifest, config.score.recent_days)
            self._made[model] = load_list_maker(
                config, self._dataset, self._models / model, True, read_item_choice(config), recent
            )
        made = recommend_rows(self._made[model], rows, wide_schema(self._manifest))
        return dict(zip(made["user_id"].to_pylist(), made["item_ids"].to_pylist(), strict=True))


def _read_met(
    dataset: Location, manifest: DatasetManifest, since_us: int
) -> Iterator[tuple[_Met, list[bool]]]:
    """Users who met an item from the moment on, and whether they had met one before, by part."""
    vocabulary = load_vocabulary(dataset)
    for location in sequence_parts(dataset, manifest):
        rows = location.read_table(columns=["user_id", "item_ids", "timestamps"])
        chosen, items, has_history = list[int](), list[list[str]](), list[bool]()
        for number, (met, times) in enumerate(
            zip(rows["item_ids"].to_pylist(), rows["timestamps"].to_pylist(), strict=True)
        ):
            first = int(np.searchsorted(np.asarray(times, np.int64), since_us))
            if first < len(met):
                chosen.append(number)
                items.append(_raw(vocabulary, np.asarray(met[first:], np.int32)))
                has_history.append(first > 0)
        if chosen:
            users = rows["user_id"].combine_chunks().take(pa.array(chosen))
            yield _Met(location.name, users, items), has_history


def _lists(run: Location, manifest: RunManifest, part: str, num_parts: int) -> Lists:
    """Lists of the users of a dataset's part in the run."""
    names = [each.name for each in manifest.parts]
    beside = overlapping_parts(part, num_parts, names, manifest.num_parts)
    begin, end = bucket_range(part_index(part), num_parts)
    rows = RunRows(run, manifest, beside, _ROWS).between(begin, end - 1)
    return {row["user_id"]: row["item_ids"] for row in rows.to_pylist()}


def _raw(vocabulary: Vocabulary, items: Int32) -> list[str]:
    return [str(item) for item in vocabulary.decode(items).to_pylist()]


def score(listed: Sequence[str], met: Sequence[str]) -> tuple[float, float, float, float]:
    """Metrics of a list, in the order of ``NAMES``.

    Args:
        listed: The list, best first.
        met: Items that the user met, oldest first.
    """
    gains: Float64 = 1 / np.log2(np.arange(2, AT + 2))
    relevant = set(met)
    hits = [rank for rank, item in enumerate(listed) if item in relevant]
    first = listed.index(met[0]) if met[0] in listed else None
    ideal = float(gains[: len(relevant)].sum())
    return (
        float(first is not None),
        0.0 if first is None else float(gains[first]),
        float(bool(hits)),
        float(gains[hits].sum()) / ideal,
    )
