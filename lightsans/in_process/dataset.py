"""A log -> a dataset of one part, in one process: the steps of `pipelines.preprocess` in a row."""

import logging
import secrets
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int64, UInt64
from lightsans.columns.findings import describe_findings, describe_repeats
from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.columns.times import to_iso
from lightsans.config import DataConfig, RunConfig, to_dict
from lightsans.config.marks import Mark, values_with
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.errors import InputError
from lightsans.lists.feature_table import FeatureTable
from lightsans.lists.id_lists import IdList, read_id_list, require_some
from lightsans.preparation.derive import fingerprint_dataset
from lightsans.preparation.k_core import count_items, item_counts, k_core, merge_counts
from lightsans.preparation.part_files import save_sequences
from lightsans.preparation.sorting import sort_interactions
from lightsans.reading.rejects import (
    RowCounts,
    check_reject_limit,
    describe_rejects,
    rejects_file,
    require_events,
)
from lightsans.reading.units import ReadPlan, order_keys, plan_reading, read_unit
from lightsans.stages.feature_files import describe_features, join_features, read_item_table
from lightsans.stages.filters import (
    Filters,
    LoadedPart,
    count_later,
    cutoffs_of_shares,
    nothing_left,
    number_part,
    resolve_filters,
    surviving_items,
    targets_by_item,
)
from lightsans.storage.listing import list_files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, DatasetPart, RowSummary
from lightsans.storage.manifests import content_id, read_manifest, write_manifest
from lightsans.storage.parts import ITEMS, fingerprint_part, part_name
from lightsans.storage.schemas import TIMESTAMP_UNIT, id_type

_log = logging.getLogger("lightsans")

FORMAT_VERSION = 1
"""Version of datasets made in one process, whose ids are none of the pipeline's."""


@dataclass(frozen=True, slots=True)
class _Log:
    """Sorted rows, and what was found on the way to them."""

    rows: pa.Table
    counts: RowCounts
    plan: ReadPlan

    @property
    def time_range(self) -> tuple[int, int]:
        times = pc.min_max(self.rows["timestamp"]).as_py()
        return times["min"], times["max"]


@dataclass(frozen=True, slots=True)
class _Derived:
    """Result of the filters: vocabulary, sequences, rows left."""

    vocabulary: Vocabulary
    sequences: pa.Table
    part: LoadedPart
    left: dict[str, int]
    rounds: int


def make_dataset(config: RunConfig, base: str | None = None) -> str:
    """Make the dataset of the log that ``data.input`` names, or find it made; its id.

    Args:
        config: The run.
        base: Id of a dataset whose numbers items keep; None to number them by their counts.

    Raises:
        ConfigError: A setting cannot be understood.
        InputError: The log is unusable, or no rows are left.
        RejectLimitError: More rows were refused than ``data.max_reject_fraction`` allows.
    """
    [log] = config.data.input
    filters = resolve_filters(config.data)
    listed = None
    if config.data.exclude_users is not None:
        listed = read_id_list("data.exclude_users", config.data.exclude_users, config, "user")
    question = {
        **values_with(config.data, Mark.CONTENT),
        "log": locate(log, config.storage).name,  # named after its content
        "excluded_users": None if listed is None else listed.ids.to_pylist(),
    }
    features = read_item_table(config)
    if features is not None:
        question["items"] = features.location.name  # named after its content, too
    datasets, numbered = locate(config.root, config.storage) / "datasets", None
    if base is not None:
        question["base"], numbered = base, load_vocabulary(datasets / base)
    name = content_id("frame", FORMAT_VERSION, question)
    dataset = datasets / name
    # What a process that died, or one that makes the same now, has left is the same, file by file.
    if read_manifest(DatasetManifest, dataset) is None:
        write_manifest(dataset, _make(config, dataset, filters, listed, features, numbered))
    return name


def _make(
    config: RunConfig,
    dataset: Location,
    filters: Filters,
    listed: IdList | None,
    features: FeatureTable | None,
    base: Vocabulary | None,
) -> DatasetManifest:
    """Write all of a dataset but its manifest, which is given back."""
    log = _read(config, dataset, filters, listed)
    if filters.data.cuts_by_time and filters.cutoffs is None:
        filters = _with_cutoffs(filters, log)
    derived = _derive(log, filters, dataset, features, base)
    repeats = derived.part.report.exact_duplicates / max(log.rows.num_rows, 1)
    said = describe_repeats(repeats, bool(config.data.events))
    if said is not None and config.data.dedupe == "none":
        _log.warning("%s", said)
    derived.vocabulary.save(dataset / ITEMS)
    save_sequences(dataset / "sequences" / part_name(0), derived.sequences)
    described = _describe(config.data, dataset.name, filters, log, derived)
    return replace(described, item_features=describe_features(dataset, derived.vocabulary, ()))


def _read(config: RunConfig, dataset: Location, filters: Filters, listed: IdList | None) -> _Log:
    data, counts = config.data, RowCounts()
    plan = plan_reading(list_files(data.input[0], config.storage), data, 0, filters.as_of)
    excluded = None if listed is None else listed.of_type(id_type(plan.user_id_type))
    tables, rejects = [], dataset / "rejects"
    with rejects_file(rejects / "unit-00000.parquet") as write_rejects:
        for unit in plan.units:
            types = plan.user_id_type, plan.item_id_type
            for piece, rows in read_unit(unit, data, *types, excluded):
                write_rejects(piece.file.location, rows)
                counts.add_rows(piece.file.location, rows, data.event_names)
                keys = order_keys(piece, rows.table["position"].to_numpy())
                table = rows.table.drop_columns("position")
                tables.append(table.append_column("order_key", pa.array(keys)))
    if not tables:
        late = f" before data.as_of={data.as_of}" if plan.after_as_of else ""
        raise InputError(f"the log has no rows{late}; give interactions to learn from")
    check_reject_limit(counts, data.max_reject_fraction, rejects)
    if counts.rejected:
        _log.warning("rows refused: %s", describe_rejects(counts))
    findings = counts.findings, counts.read, counts.usable, data.timestamp_unit, counts.oldest
    for said in describe_findings(*findings):
        words = said.removeprefix("WARNING: ")
        _log.log(logging.INFO if words == said else logging.WARNING, "%s", words)
    lacking = require_events(counts, data)
    if lacking is not None:
        _log.warning("%s", lacking)
    if listed is not None and excluded is not None:
        found = excluded.take(pa.array(sorted(counts.excluded_found), pa.int64()))
        require_some(
            listed, listed.num_found(found), "in the log", "allow_unmatched", data.allow_unmatched
        )
    return _Log(sort_interactions(pa.concat_tables(tables)), counts, plan)


def _with_cutoffs(filters: Filters, log: _Log) -> Filters:
    times = log.rows["timestamp"].to_numpy()

    def count_from(edges: Int64) -> Int64:
        return count_later(times, filters.as_of, edges)

    cutoffs = cutoffs_of_shares(count_from, filters.data, filters.as_of, log.time_range)
    return Filters(filters.data, filters.as_of, filters.limits, cutoffs)


def _derive(
    log: _Log,
    filters: Filters,
    dataset: Location,
    features: FeatureTable | None,
    base: Vocabulary | None,
) -> _Derived:
    key, data = (secrets.randbits(64), secrets.randbits(64)), filters.data
    left, core, counted, part = number_part(log.rows, filters, log.time_range, key)
    items = merge_counts([counted])

    def count(alive: UInt64 | None) -> pa.Table:
        if alive is None:
            return items.filter(pc.greater(items["count"], 0))
        return item_counts(*count_items(core, alive, data.min_user_interactions))

    survivors, rounds = k_core(count, data.min_item_interactions)
    left = {**left, "after_k_core": int(pc.sum(survivors["count"]).as_py() or 0)}
    if not survivors.num_rows:
        raise InputError(nothing_left(data, left))
    number = Vocabulary.from_counts if base is None else base.extended
    vocabulary = number(*surviving_items(items, survivors))
    if features is not None:
        joined = join_features(features, vocabulary, data.allow_unmatched)
        if joined.warning:
            _log.warning("%s", joined.warning)
        joined.save(dataset)
        vocabulary = joined.vocabulary
    sequences = filters.derive(part.rows, vocabulary)
    if data.events:
        counts = targets_by_item(sequences, vocabulary.num_items)
        vocabulary = vocabulary.with_counts(counts)
    return _Derived(vocabulary, sequences, part, left, rounds)


def _describe(
    data: DataConfig, name: str, filters: Filters, log: _Log, derived: _Derived
) -> DatasetManifest:
    counts, sequences, vocabulary = log.counts, derived.sequences, derived.vocabulary
    trainable = int(pc.sum(sequences["trainable"]).as_py() or 0)
    interactions = int(pc.sum(pc.list_value_length(sequences["item_ids"])).as_py() or 0)
    fingerprint, cuts = fingerprint_part(sequences), filters.cutoffs
    oldest, newest = log.time_range
    part = DatasetPart(
        name=part_name(0),
        rows=len(derived.part.rows.item),
        users=sequences.num_rows,
        trainable=trainable,
        interactions=interactions,
        fingerprint=f"{fingerprint:016x}",
        buckets=(0, NUM_BUCKETS),
    )
    return DatasetManifest(
        id=name,
        format_version=FORMAT_VERSION,
        users=sequences.num_rows,
        trainable_users=trainable,
        items=vocabulary.num_items,
        interactions=interactions,
        fingerprint=fingerprint_dataset([fingerprint], vocabulary.fingerprint),
        vocabulary_fingerprint=vocabulary.fingerprint,
        rows=RowSummary(
            read=counts.read,
            rejected=dict(counts.rejected),
            excluded=counts.excluded,
            valid=counts.valid,
            exact_duplicates=derived.part.report.exact_duplicates,
            left=derived.left,
            filtered=None if data.where is None else counts.filtered,
            events=dict(counts.events.most_common()) if data.events else None,
            unused=counts.unused if data.events else None,
        ),
        k_core_rounds=derived.rounds,
        user_id_type=log.plan.user_id_type,
        item_id_type=log.plan.item_id_type,
        timestamp_unit=TIMESTAMP_UNIT,
        time_range=(to_iso(oldest), to_iso(newest)),
        num_buckets=NUM_BUCKETS,
        num_parts=1,
        parts=(part,),
        data=to_dict(data),
        base=None,
        cutoffs=None if cuts is None else {n: to_iso(at) for n, at in asdict(cuts).items()},
        input=(),
    )
