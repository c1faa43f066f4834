"""Incremental scoring: rows of an earlier run are carried over where a new list would be the same.

A list of the model is decided by the model, the lists of items, the settings, and by what the model
knows of a user's history, which is compared user by user between the two datasets. Lists of popular
items are always made anew: they change with everybody's interactions, and cost next to nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int32, Int64, UInt64
from lightsans.config import RulesConfig, ScoreConfig
from lightsans.config.marks import Mark, fields_with
from lightsans.config.score import SeenRule
from lightsans.dataset.bucket_cursor import BucketCursor, overlapping_parts
from lightsans.dataset.known_histories import KnownHistories
from lightsans.dataset.loading import history_column, list_column
from lightsans.dataset.vocabulary import dead_items, load_vocabulary, vocabulary_mapping
from lightsans.recommendations.reader import RunRows
from lightsans.stages.seen_rows import SeenRows
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    ModelManifest,
    RunManifest,
    RunQuestion,
)
from lightsans.storage.manifests import read_manifest, require_manifest
from lightsans.storage.model_files import is_made_of, read_settings
from lightsans.storage.parts import SequencePart, sequence_part
from lightsans.storage.records import to_json
from lightsans.storage.schemas import MODEL
from pipelines.publish import latest_run_id

_DECISIVE = (
    "model_id",
    "eligible_items",
    "rules",
    *fields_with(ScoreConfig, Mark.CONTENT, Mark.DECIDES_LISTS),
)
"""Settings that must agree in both runs. The rest changes no list, or is compared user by user."""
_AT_ONCE = 4096
"""Users of the earlier run that are decoded at once."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A finished run, and the dataset whose users it scored."""

    run: Location
    manifest: RunManifest
    dataset: Location
    dataset_manifest: DatasetManifest


def named_run(root: Location, name: str) -> str | None:
    """The id of a run that ``--since`` names; None where nothing is published yet."""
    return latest_run_id(root) if name == "LATEST" else name


def find_earlier(
    root: Location,
    name: str,
    run: Location,
    question: RunQuestion,
    versions: tuple[int, str],
    rules: RulesConfig,
) -> tuple[Earlier | None, str]:
    """The run to carry rows over from; None with the reason why all users must be scored.

    Args:
        root: Root of all runs.
        name: The run's id, or ``LATEST`` for the published one.
        run: The run that is to be made.
        question: Question that it answers.
        versions: Its format version and type of user ids.
        rules: Its rules.

    Raises:
        NotFoundError: There is no such finished run.
    """
    chosen = named_run(root, name)
    if chosen is None:
        return None, "nothing is published yet"
    earlier = root / "recommendations" / chosen
    manifest = require_manifest(
        RunManifest, earlier, "`submit.py recommendations` lists the finished runs"
    )
    if question.settings.get("because"):
        return None, "score.because explains lists by histories, so that all are made anew"
    for setting in ("probability", "buy_again"):
        if question.settings.get(setting):
            return None, f"score.{setting} goes by all items of a user, so that all are made anew"
    if rules.recent_days:
        return None, "score.rules.boosts count what is popular now, so that all are made anew"
    if earlier == run:
        return None, f"run {chosen} is the one that is made anew"
    format_version, user_id_type = versions
    if manifest.format_version != format_version:
        return None, f"run {chosen} was written by another version of this program"
    asked, now_asked = to_json(manifest.question), to_json(question)
    for key in _DECISIVE:
        before, now = asked.get(key), now_asked.get(key)  # None: see `Mark.LATER`
        if before != now:
            return None, f"{key} was {before} in run {chosen} and is {now} now"
    model = root / "models" / manifest.model_id
    if not is_made_of(manifest, model):
        return None, f"model {model.name} was trained again since run {chosen}"
    if read_settings(model).reads_now:
        return None, f"model {model.name} reads the time of the request (model.gaps)"
    if manifest.user_id_type != user_id_type:
        return None, f"user ids were of type {manifest.user_id_type} in run {chosen}"
    dataset = root / "datasets" / manifest.dataset_id
    dataset_manifest = read_manifest(DatasetManifest, dataset)
    if dataset_manifest is None:
        return None, f"dataset {dataset.name} of run {chosen} was removed"
    today = root / "datasets" / question.dataset_id
    now = read_manifest(DatasetManifest, today)
    if now is not None and dataset_manifest.data.get("events", {}) != now.data.get("events", {}):
        return None, f"datasets {dataset.name} and {today.name} have other data.events"
    if now is not None and _features(now, model) != _features(dataset_manifest, model):
        return None, f"datasets {dataset.name} and {today.name} have other item features"
    before = _dead_items(dataset, model, manifest.map_items)
    if not np.array_equal(before, _dead_items(today, model, question.map_items)):
        return None, f"datasets {dataset.name} and {today.name} count other items 0 times"
    return Earlier(earlier, manifest, dataset, dataset_manifest), ""


def _features(dataset: DatasetManifest, model: Location) -> str | None:
    """Hash of the features by which the model knows new items; None where it knows none."""
    features = dataset.item_features
    if features is None or require_manifest(ModelManifest, model, "").item_features_sha256 is None:
        return None
    return features.sha256


def _dead_items(dataset: Location, model: Location, map_items: bool) -> Int64:
    """Ids of the model's items that a dataset counts 0 times: they are in no list."""
    mapping = vocabulary_mapping(dataset, model, map_items)
    dead = np.unique(dead_items(load_vocabulary(dataset), load_vocabulary(model), mapping))
    return dead[dead > 0]


class UnchangedRows:
    """Finds, for users of one part in order, the rows of an earlier run that still hold.

    Args:
        earlier: The run.
        model: Model in whose ids histories are compared.
        part: Name of the part.
        num_parts: Parts that the dataset of today is cut into.
        remove_seen: ``score.remove_seen``, the same in both runs.
        with_times: Whether the model reads the times of items.
    """

    def __init__(
        self,
        earlier: Earlier,
        model: Location,
        part: str,
        num_parts: int,
        remove_seen: bool | SeenRule = True,
        with_times: bool = False,
    ) -> None:
        manifest, dataset_manifest = earlier.manifest, earlier.dataset_manifest
        names = [entry.name for entry in dataset_manifest.parts]
        names = overlapping_parts(part, num_parts, names, dataset_manifest.num_parts)
        mapping = vocabulary_mapping(earlier.dataset, model, manifest.map_items)
        seen = SeenRows.of(remove_seen, dataset_manifest, with_times)
        parts = [sequence_part(earlier.dataset, dataset_manifest, name) for name in names]
        self._histories = BucketCursor(_fingerprints(parts, mapping, seen))
        self._lists = RunRows(earlier.run, manifest, names, _AT_ONCE)

    def find(
        self, user_ids: pa.ChunkedArray, known: KnownHistories, first: int, last: int
    ) -> tuple[Bool, pa.Table]:
        """Find the users that need no scoring, and their rows in order.

        Args:
            user_ids: All in the buckets ``first`` to ``last``; these may not fall from call to
                call.
            known: Their histories.
            first: See ``user_ids``.
            last: See ``user_ids``.
        """
        lists = self._lists.between(first, last)
        lists = lists.filter(pc.equal(lists["source"], MODEL))
        place = _positions(user_ids, lists["user_id"])
        has_list = known.is_known & (place >= 0)
        histories = self._histories.between(first, last)
        if histories is None:
            has_list[:] = False
        else:
            before = _positions(user_ids, histories["user_id"])
            fingerprints: UInt64 = histories["fingerprint"].to_numpy()
            has_list &= before >= 0
            has_list[has_list] = fingerprints[before[has_list]] == known.fingerprints[has_list]
        return has_list, lists.take(pa.array(place[has_list]))


def _fingerprints(
    parts: list[SequencePart], mapping: Int32 | None, seen: SeenRows
) -> Iterator[pa.Table]:
    """Users of some parts of a dataset with fingerprints of what the model knows of them."""
    for part in parts:
        for rows in seen.read(part, _AT_ONCE):
            known = KnownHistories(
                history_column(rows).translate(mapping),
                list_column(rows, "also_seen").translate(mapping),
            )
            yield pa.table({"user_id": rows["user_id"], "fingerprint": known.fingerprints})


def _positions(user_ids: pa.ChunkedArray, among: pa.ChunkedArray) -> Int64:
    """Index of each user among others; -1 for one that is missing."""
    found = pc.index_in(user_ids, value_set=among.combine_chunks())
    positions: Int64 = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    return positions
