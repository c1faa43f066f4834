"""Content ids and manifests: what makes a stage skippable, resumable and safe to read.

A directory counts once its ``manifest.json`` exists, which is written last. Its name is a hash of
the question that it answers, so the same question finds the same answer, and a changed question
never meets a stale one.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy
import pyarrow

from lightsans.errors import NotFoundError
from lightsans.storage.location import Location

MANIFEST = "manifest.json"
_READERS = 16
"""Manifests read at once."""


def content_id(kind: str, format_version: int, question: Mapping[str, object]) -> str:
    """A 12-digit name for the answer to a question.

    Args:
        kind: What is made: ``dataset``, ``model``, ``recommendations``.
        format_version: Raised whenever our code would answer the same question differently.
        question: Everything the answer depends on, as JSON-able values.
    """
    canonical = json.dumps([kind, format_version, question], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def read_manifest(directory: Location) -> dict[str, Any] | None:
    """The manifest of a finished directory, or None while there is none."""
    try:
        return (directory / MANIFEST).read_json()
    except (FileNotFoundError, NotADirectoryError):
        return None


def require_manifest(directory: Location, way_out: str) -> dict[str, Any]:
    """The manifest of a directory that must be finished.

    Raises:
        NotFoundError: There is none; the message ends with ``way_out``.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        raise NotFoundError(f"{directory / MANIFEST}: not found; {way_out}")
    return manifest


def write_manifest(directory: Location, content: Mapping[str, object]) -> dict[str, Any]:
    """Finish a directory: write its manifest, with the time and the versions that made it."""
    manifest = {
        **content,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "pyarrow": pyarrow.__version__,
        },
    }
    (directory / MANIFEST).write_json(manifest)
    return manifest


def finished_directories(parent: Location) -> list[tuple[str, dict[str, Any]]]:
    """Names and manifests of the finished directories below ``parent``, oldest first."""
    names = parent.children()
    # A manifest is one request, and its answer a row per part: many wait at once, few are large.
    with ThreadPoolExecutor(_READERS) as pool:
        manifests = pool.map(lambda name: read_manifest(parent / name), names)
        found = [(name, read) for name, read in zip(names, manifests, strict=True) if read]
    return sorted(found, key=lambda entry: str(entry[1].get("created_at", "")))
