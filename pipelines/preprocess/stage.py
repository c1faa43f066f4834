"""Interaction logs -> a dataset.

Three steps, each of which a later attempt goes on with:

1. `read`: a task per read unit checks rows and packs them by part
   (`lightsans.preparation.packing`); the only exchange, by tasks or Ray Data's shuffle
   (`pipelines.preprocess.exchange`), brings each part's rows together; a task per part sorts
   them (`lightsans.preparation.sorting.sort_interactions`) and writes ``interactions/``.
2. `k_core`: filters and k-core over the parts where they are, only counts move; gives the
   vocabulary.
3. `derive`: a task per part derives ``sequences/`` from its interactions and the
   vocabulary.

One process at a time makes a dataset, under a lease (`pipelines.session.stage`). The manifest,
which makes the dataset exist, is written last.
"""

import time
from dataclasses import asdict, dataclass, replace
from functools import partial

from lightsans.columns.findings import describe_findings, describe_repeats
from lightsans.columns.hashing import NUM_BUCKETS, bucket_range
from lightsans.columns.times import to_iso
from lightsans.config import DataConfig, RunConfig, to_dict
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.lists.excluded_users import ExcludedIds
from lightsans.lists.feature_table import FeatureTable, read_feature_table, table_files
from lightsans.preparation.derive import fingerprint_dataset
from lightsans.reading.rejects import (
    RowCounts,
    check_reject_limit,
    describe_rejects,
    hints,
    require_events,
)
from lightsans.stages.feature_files import describe_features, join_features, kept_features
from lightsans.storage.listing import check_unchanged
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, RowSummary
from lightsans.storage.manifests import MANIFEST
from lightsans.storage.records import to_json
from lightsans.storage.schemas import TIMESTAMP_UNIT
from pipelines.console.logs import add_log_context, log_context
from pipelines.console.progress import say
from pipelines.preprocess.base import find_unchanged
from pipelines.preprocess.cutoffs import counted_cutoffs
from pipelines.preprocess.derive import count_targets, write_sequences
from pipelines.preprocess.excluded import find_excluded
from pipelines.preprocess.identity import Job, prepare
from pipelines.preprocess.inputs import input_entries
from pipelines.preprocess.k_core import KCore, find_k_core
from pipelines.preprocess.parts import MARKER, WORK, Draft, Part, format_version
from pipelines.preprocess.read import collect_interactions
from pipelines.preprocess.records import Interactions, SequencesNote
from pipelines.preprocess.report import draw_report, write_report
from pipelines.publish import require_unpublished
from pipelines.session.clusters import is_cluster
from pipelines.session.lease import Owner
from pipelines.session.memory import MemoryWatch, spilled_bytes
from pipelines.session.preflight import preflight
from pipelines.session.ray_session import ensure_ray
from pipelines.session.stage import find_or_make


@dataclass(frozen=True, slots=True)
class PreprocessResult:
    """A finished dataset."""

    dataset_id: str
    location: Location
    skipped: bool
    """Whether it had been made before."""
    manifest: DatasetManifest


@log_context(stage="preprocess")
def run_preprocess(config: RunConfig, *, force: bool = False) -> PreprocessResult:
    """Make the dataset that ``config.data`` describes, or find it made.

    Args:
        config: The run; ``data``, ``root`` and ``storage`` matter.
        force: Make it again.

    Raises:
        ConfigError: A setting cannot be understood, or ``force`` would remove the dataset of the
            published run.
        InputError: A file is missing or unusable, or no rows are left.
        RejectLimitError: More rows were refused than ``data.max_reject_fraction`` allows.
        AccessError: The root cannot be written to.
    """
    started = time.monotonic()
    job = prepare(config)
    name = job.dataset.name
    add_log_context(dataset_id=name)
    if force:
        require_unpublished(locate(config.root, config.storage), job.dataset)
    with MemoryWatch().watching() as watch:
        manifest, is_found = find_or_make(
            DatasetManifest,
            job.dataset,
            locate(config.root, config.storage),
            stage="preprocess",
            kind="dataset",
            make=partial(make_dataset, config, job),
            force=force,
            uses=() if job.source.base is None else (job.source.base.location,),
        )
    draw_report(job.dataset)
    if not is_found:
        _say_summary(job.dataset, manifest, time.monotonic() - started, watch.peak_bytes)
    return PreprocessResult(name, job.dataset, is_found, manifest)


def make_dataset(config: RunConfig, job: Job, owner: Owner, anew: bool) -> DatasetManifest:
    """Make the dataset, or go on with it; the content of its manifest."""
    job.dataset.parent.require_directory()  # rather than after all has been read
    features = _read_features(config, job)
    if anew:
        ensure_ray(config.resources.memory_bytes)
        preflight("preprocess", config)  # a refused run must not cost the old result
        owner.require()
        for file in (MANIFEST, MARKER, WORK):  # the manifest first: half a dataset has none
            (job.dataset / file).delete()
    draft = Draft(job.dataset, owner)
    made = collect_interactions(config, draft, job.source, job.num_parts)
    data = config.data
    base = job.source.base
    own = made.counts if base is None else base.own_counts(made.counts)
    check_reject_limit(own, data.max_reject_fraction, job.dataset / "rejects")
    _say_findings(made, own, data)
    excluded = find_excluded(job.excluded, made, base, data)
    ensure_ray(config.resources.memory_bytes)
    preflight("preprocess", config)
    filters = job.filters
    if data.cuts_by_time and filters.cutoffs is None:
        parts = [Part.of(part) for part in made.parts]
        cutoffs = counted_cutoffs(job.dataset, parts, data, filters.as_of, made.time_range)
        job = replace(job, filters=replace(filters, cutoffs=cutoffs))
    k_core, derived = _derive(job, draft, made, features)
    counts = None if excluded is None else excluded.counts
    _say_repeats(derived, data)
    manifest = replace(_describe(job, made, k_core, derived), excluded_users=counts)
    known = ExcludedIds.of(base.location) if base is not None else ExcludedIds.none()
    known.with_users(None if excluded is None else excluded.ids).save(job.dataset)
    cuts = job.filters.cutoffs
    owner.require()
    write_report(job.dataset, made.counts, manifest.rows, derived, k_core.vocabulary, cuts)
    draft.work.delete()
    # What the id names is what was read, to the end.
    check_unchanged([*job.source.files, *table_files(job.item_table)])
    return manifest


def _derive(
    job: Job, draft: Draft, made: Interactions, features: FeatureTable | None
) -> tuple[KCore, list[SequencesNote]]:
    """Run the second and the third step; what the object store holds between them is free again."""
    base, parts = job.source.base, [Part.of(part) for part in made.parts]
    before = load_vocabulary(base.location) if base is not None else None
    k_core, loaded = find_k_core(job.dataset, parts, job.filters, made.time_range, before)
    if features is not None:
        k_core = replace(k_core, vocabulary=_join(job, features, k_core.vocabulary))
    k_core.vocabulary.save(job.dataset / "items.parquet")
    unchanged = None
    if base is not None and before is not None:
        data = job.source.data
        unchanged = find_unchanged(base, made.parts, data, before, k_core.vocabulary)
    notes = write_sequences(draft, loaded, job.filters, k_core.vocabulary, unchanged)
    if job.source.data.events:
        vocabulary = count_targets(draft, notes, k_core.vocabulary)
        vocabulary.save(job.dataset / "items.parquet")
        k_core = replace(k_core, vocabulary=vocabulary)
    return k_core, notes


def _read_features(config: RunConfig, job: Job) -> FeatureTable | None:
    if job.keeps_features and job.source.base is not None:
        return kept_features(job.source.base.location)
    return None if job.item_table is None else read_feature_table(config, job.item_table)


def _join(job: Job, features: FeatureTable, known: Vocabulary) -> Vocabulary:
    """Write the features of all items, those included that only the item table has."""
    joined = join_features(features, known, job.source.data.allow_unmatched)
    if joined.warning:
        say(f"WARNING: preprocess: {joined.warning}")
    joined.save(job.dataset)
    listed, new = joined.vocabulary.is_listed, joined.vocabulary.popularity == 0
    assert listed is not None
    say(
        f"preprocess: features of {listed.sum():,} of {len(listed):,} items; "
        f"{(listed & new).sum():,} of them have no interaction"
    )
    return joined.vocabulary


def _describe(
    job: Job, made: Interactions, k_core: KCore, parts: list[SequencesNote]
) -> DatasetManifest:
    """The manifest, as far as it does not depend on the users left out."""
    counts, vocabulary = made.counts, k_core.vocabulary
    late = set(made.after_as_of)
    read = [file for file in job.source.files if file.location.uri not in late]
    fingerprints = [int(part.fingerprint, 16) for part in parts]
    cuts = job.filters.cutoffs
    cutoffs = {name: to_iso(at) for name, at in asdict(cuts).items()} if cuts else None
    oldest, newest = made.time_range
    return DatasetManifest(
        id=job.dataset.name,
        format_version=format_version(job.source.data.events),
        users=sum(part.users for part in parts),
        trainable_users=sum(part.trainable for part in parts),
        items=vocabulary.num_items,
        interactions=sum(part.interactions for part in parts),
        fingerprint=fingerprint_dataset(fingerprints, vocabulary.fingerprint),
        vocabulary_fingerprint=vocabulary.fingerprint,
        rows=RowSummary(
            read=counts.read,
            rejected=dict(counts.rejected.most_common()),
            excluded=counts.excluded,
            valid=counts.valid,
            exact_duplicates=sum(part.report.exact_duplicates for part in parts),
            filtered=None if job.source.data.where is None else counts.filtered,
            events=dict(counts.events.most_common()) if job.source.data.events else None,
            unused=counts.unused if job.source.data.events else None,
            left=k_core.rows,
        ),
        k_core_rounds=k_core.num_rounds,
        user_id_type=made.user_id_type,
        item_id_type=made.item_id_type,
        timestamp_unit=TIMESTAMP_UNIT,
        time_range=(to_iso(oldest), to_iso(newest)),
        num_buckets=NUM_BUCKETS,
        num_parts=job.num_parts,
        parts=tuple(part.entry(bucket_range(part.number, job.num_parts)) for part in parts),
        data=to_dict(job.source.data),
        base=job.source.data.base,
        cutoffs=cutoffs,
        input=input_entries(job.source.base, read),
        tables=job.source.tables,
        after_as_of=tuple(sorted(late)) if late else None,
        item_features=describe_features(
            job.dataset, vocabulary, input_entries(None, table_files(job.item_table))
        ),
        erased=None if job.source.erased is None else job.source.erased.fingerprint,
    )


def _say_findings(made: Interactions, own: RowCounts, data: DataConfig) -> None:
    """Log what is odd about the input, and refused rows by reason.

    Args:
        made: All rows, a base's included.
        own: Counts of the files that were read for this dataset.
        data: Settings, for advice.

    Raises:
        InputError: No row is a target of ``data.events``.
    """
    counts = made.counts
    if own.rejected:
        say(f"preprocess: rows refused: {describe_rejects(own)}.{hints(own)}")
    if data.where is not None:
        share = own.filtered / max(own.read, 1)
        say(f"preprocess: data.where leaves out {own.filtered:,} rows ({share:.2%})")
    if data.events:
        warning = require_events(counts, data)
        if warning is not None:
            say(f"WARNING: preprocess: {warning}")
        found = ", ".join(f"{name} {count:,}" for name, count in counts.events.most_common(10))
        say(f"preprocess: events: {found}; {counts.unused:,} rows count for nothing")
    oldest = counts.oldest if own is counts else None
    unit = data.timestamp_unit
    for sentence in describe_findings(own.findings, own.read, own.usable, unit, oldest):
        say(f"preprocess: {sentence}")


def _say_repeats(derived: list[SequencesNote], data: DataConfig) -> None:
    """Warn of rows that repeat others, where they stay."""
    repeats = sum(part.report.exact_duplicates for part in derived)
    num_rows = sum(part.rows for part in derived)
    said = describe_repeats(repeats / max(num_rows, 1), bool(data.events))
    if said is not None and data.dedupe == "none":
        say(f"WARNING: preprocess: {said}")


def _say_summary(
    dataset: Location, manifest: DatasetManifest, seconds: float, peak_bytes: int
) -> None:
    rows, spilled = manifest.rows, spilled_bytes() or 0
    # Of a cluster, only this process is seen from here.
    memory = f"peak memory {peak_bytes / 1e9:.1f} GB, " if not is_cluster() else ""
    num_rejected = sum(rows.rejected.values())
    say(
        f"preprocess: {rows.read:,} rows, {manifest.users:,} users "
        f"({manifest.trainable_users:,} trainable), {manifest.items:,} items, "
        f"{num_rejected:,} rows refused, {seconds:.1f} s ({rows.read / seconds:,.0f} rows/s), "
        f"{memory}{spilled / 1e9:.1f} GB spilled: dataset {dataset.name} ({dataset})",
        dataset_id=dataset.name,
        rows=to_json(rows),
        users=manifest.users,
        items=manifest.items,
        seconds=round(seconds, 2),
        peak_bytes=peak_bytes,
        spilled_bytes=spilled,
    )
