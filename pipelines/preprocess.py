"""Interaction logs -> a dataset.

Two steps, each resumable: `preprocess_read` reads, checks and exchanges rows, so that a part of
``interactions/`` holds all rows of its users; `preprocess_derive` finds the vocabulary and derives
``sequences/`` from them part by part. The manifest, which makes the dataset exist, is written last.
"""

import hashlib
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.config import DataConfig, RunConfig, to_dict
from lightsans.errors import ConfigError, InputError
from lightsans.hashing import NUM_BUCKETS
from lightsans.interactions import fingerprint_dataset
from lightsans.manifest import MANIFEST, content_id, read_manifest, write_manifest
from lightsans.reading.columns import parse_moment
from lightsans.reading.rejects import check_reject_limit
from lightsans.schema import TIMESTAMP_UNIT
from lightsans.storage import Location, list_files, locate
from pipelines.logs import add_log_context, log_context
from pipelines.preflight import preflight
from pipelines.preprocess_derive import Core, Filters, find_core, write_sequences
from pipelines.preprocess_read import (
    MARKER,
    Interactions,
    Source,
    choose_num_parts,
    collect_interactions,
)
from pipelines.progress import say
from pipelines.ray_session import ensure_ray

FORMAT_VERSION = 1
"""Raised whenever the same input and settings would give another dataset."""

_NOT_CONTENT = ("input", "exclude_users", "split", "max_reject_fraction", "read_unit_bytes")
"""Settings that do not determine what a dataset holds; files and excluded users do by content."""

_SUSPICIOUSLY_OLD_YEAR = 1980


@dataclass(frozen=True, slots=True)
class PreprocessResult:
    """A finished dataset."""

    dataset_id: str
    location: Location
    skipped: bool
    """It had been made before."""
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be made, with everything that the configuration leaves to be looked up."""

    dataset: Location
    source: Source
    filters: Filters
    num_parts: int


@log_context(stage="preprocess")
def run_preprocess(config: RunConfig, *, force: bool = False) -> PreprocessResult:
    """Make the dataset that ``config.data`` describes, or find it made.

    Args:
        config: The run; ``data``, ``root`` and ``storage`` matter.
        force: Make it again.

    Raises:
        ConfigError: A setting cannot be understood.
        InputError: A file is missing or unusable, or no rows are left.
        RejectLimitError: More rows were refused than ``data.max_reject_fraction`` allows.
    """
    started = time.monotonic()
    job = _prepare(config)
    name = job.dataset.name
    add_log_context(dataset_id=name)
    manifest = read_manifest(job.dataset)
    if manifest is not None and not force:
        say(f"preprocess: dataset {name} is up to date ({job.dataset}); --force redoes it")
        return PreprocessResult(name, job.dataset, True, manifest)
    if force:
        ensure_ray()
        preflight("preprocess", config)  # a refused run must not cost the old result
        for file in (MANIFEST, MARKER):  # the manifest first: half a dataset has none
            (job.dataset / file).delete()
    manifest = _make(config, job)
    _say_summary(job.dataset, manifest, time.monotonic() - started)
    return PreprocessResult(name, job.dataset, False, manifest)


def dataset_id(config: RunConfig) -> str:
    """The name of the dataset that a configuration stands for, made or not.

    Raises:
        ConfigError: A setting cannot be understood.
        InputError: A file is missing.
    """
    return _prepare(config).dataset.name


def _make(config: RunConfig, job: _Job) -> dict[str, Any]:
    made = collect_interactions(config, job.dataset, job.source, job.num_parts)
    data = config.data
    check_reject_limit(made.counts, data.max_reject_fraction, job.dataset / "rejects")
    _warn_about_time(made, data)
    ensure_ray()
    preflight("preprocess", config)
    core = find_core(job.dataset, made.parts, job.filters)
    parts = write_sequences(job.dataset, made.parts, job.filters, job.num_parts, core)
    core.vocabulary.save(job.dataset / "items.parquet")
    return write_manifest(job.dataset, _describe(job, made, core, parts))


def _prepare(config: RunConfig) -> _Job:
    data = config.data
    if not data.input:
        raise ConfigError("data.input is empty; name files, directories or globs")
    files = [file for pattern in data.input for file in list_files(pattern, config.storage)]
    uris = Counter(file.location.uri for file in files)
    twice = next((uri for uri, count in uris.items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{twice}: data.input names this file twice; every row would count double")
    source = Source(data, files, _read_excluded_users(config))
    filters = Filters(data, resolve_as_of(data))
    num_parts = choose_num_parts(files, data)
    settings = {key: v for key, v in to_dict(data).items() if key not in _NOT_CONTENT}
    question = {
        **settings,
        "num_parts": num_parts,
        "as_of": filters.as_of,
        "files": [[file.location.uri, file.size, file.etag] for file in files],
        "excluded_users": hashlib.sha256("\n".join(source.excluded_users).encode()).hexdigest(),
    }
    name = content_id("dataset", FORMAT_VERSION, question)
    dataset = locate(config.root, config.storage) / "datasets" / name
    return _Job(dataset, source, filters, num_parts)


def _read_excluded_users(config: RunConfig) -> list[str]:
    uri = config.data.exclude_users
    if uri is None:
        return []
    location = locate(uri, config.storage)
    try:
        lines = location.read_bytes().decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"data.exclude_users: {location}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"data.exclude_users: {location}: not a text file in UTF-8") from None
    return sorted({line.strip() for line in lines} - {""})


def resolve_as_of(data: DataConfig) -> int | None:
    """``data.as_of`` in microseconds since 1970, or None.

    Raises:
        ConfigError: It is no date or time, or ``data.timezone`` is unknown to Arrow's database.
    """
    try:
        pc.assume_timezone(pa.array([0], pa.timestamp("us")), data.timezone)
    except pa.ArrowInvalid:
        raise ConfigError(
            f"data.timezone={data.timezone!r} is unknown; expected a name such as Europe/Berlin "
            "or UTC"
        ) from None
    if data.as_of is None:
        return None
    moment = parse_moment(data.as_of, data.timezone)
    if moment is None:
        raise ConfigError(
            f"data.as_of={data.as_of!r} is no date or time; expected 2026-11-05 or "
            "2026-11-05T04:00:00+01:00"
        )
    return moment


def _describe(
    job: _Job, made: Interactions, core: Core, parts: list[dict[str, Any]]
) -> dict[str, Any]:
    """The content of the manifest."""
    counts, vocabulary = made.counts, core.vocabulary
    fingerprints = [int(part["fingerprint"], 16) for part in parts]
    rejected = dict(counts.rejected.most_common())
    return {
        "kind": "dataset",
        "id": job.dataset.name,
        "format_version": FORMAT_VERSION,
        "users": sum(part["users"] for part in parts),
        "trainable_users": sum(part["trainable"] for part in parts),
        "items": vocabulary.num_items,
        "interactions": sum(part["interactions"] for part in parts),
        "fingerprint": fingerprint_dataset(fingerprints, vocabulary.fingerprint),
        "vocabulary_fingerprint": vocabulary.fingerprint,
        "rows": {
            "read": counts.read,
            "rejected": rejected,
            "excluded": counts.excluded,
            "valid": counts.valid,
            "exact_duplicates": made.exact_duplicates,
            **core.rows,
        },
        "k_core_rounds": core.num_rounds,
        "user_id_type": made.user_id_type,
        "item_id_type": made.item_id_type,
        "timestamp_unit": TIMESTAMP_UNIT,
        "time_range": [_to_iso(counts.oldest), _to_iso(counts.newest)],
        "num_buckets": NUM_BUCKETS,
        "num_parts": job.num_parts,
        "parts": parts,
        "data": to_dict(job.source.data),
        "input": [
            {"uri": file.location.uri, "size": file.size, "etag": file.etag}
            for file in job.source.files
        ],
    }


def _to_iso(micros: int | None) -> str:
    assert micros is not None
    return _to_datetime(micros).isoformat()


def _to_datetime(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def _warn_about_time(made: Interactions, data: DataConfig) -> None:
    newest = made.counts.newest
    if newest is not None and _to_datetime(newest).year < _SUSPICIOUSLY_OLD_YEAR:
        say(
            f"preprocess: the newest row is of {_to_iso(newest)}; is data.timestamp_unit="
            f"{data.timestamp_unit} right?"
        )


def _say_summary(dataset: Location, manifest: dict[str, Any], seconds: float) -> None:
    rows = manifest["rows"]
    num_rejected = sum(rows["rejected"].values())
    say(
        f"preprocess: {rows['read']:,} rows, {manifest['users']:,} users "
        f"({manifest['trainable_users']:,} trainable), {manifest['items']:,} items, "
        f"{num_rejected:,} rows refused, {seconds:.1f} s: dataset {dataset.name} ({dataset})",
        dataset_id=dataset.name,
        rows=rows,
        users=manifest["users"],
        items=manifest["items"],
        seconds=round(seconds, 2),
    )
