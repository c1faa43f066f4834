"""Content ids and manifests: what makes a stage skippable, resumable and safe to read.

A directory counts once its ``manifest.json`` exists, which is written last. Its name is a hash of
the question that it answers, so the same question finds the same answer, and a changed question
never meets a stale one.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

import numpy
import pyarrow

from lightsans.errors import InputError, NotFoundError
from lightsans.storage.location import Location
from lightsans.storage.records import from_json, to_json

MANIFEST = "manifest.json"
_READERS = 16
"""Manifests read at once."""


def content_id(kind: str, format_version: int, question: Mapping[str, object]) -> str:
    """A 12-digit name for the answer to a question.

    Args:
        kind: Kind of the result: ``dataset``, ``model``, ``recommendations``.
        format_version: Raised whenever our code would answer the same question differently.
        question: Everything the answer depends on, as JSON-able values.
    """
    canonical = json.dumps([kind, format_version, question], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Fields of every manifest; one class per kind of directory adds the others."""

    kind: ClassVar[str]
    """Kind of the directory, as its manifest names it."""

    created_at: str | None = None
    """ISO time at which the directory was finished; None until it is."""
    versions: Mapping[str, str] | None = None
    """Versions of Python and the libraries that made it."""


M = TypeVar("M", bound=Manifest)


def read_manifest(kind: type[M], directory: Location) -> M | None:
    """The manifest of a finished directory, or None while there is none.

    Raises:
        InputError: It is damaged, or of another kind of directory.
    """
    file = directory / MANIFEST
    try:
        content = file.read_json()
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = content.pop("kind", kind.kind)
    if found != kind.kind:
        raise InputError(f"{file}: describes a {found}; expected a {kind.kind}")
    return from_json(kind, content, str(file))


def require_manifest(kind: type[M], directory: Location, way_out: str) -> M:
    """The manifest of a directory that must be finished.

    Raises:
        NotFoundError: There is none; the message ends with ``way_out``.
        InputError: As `read_manifest`.
    """
    manifest = read_manifest(kind, directory)
    if manifest is None:
        raise NotFoundError(f"{directory / MANIFEST}: not found; {way_out}")
    return manifest


def is_finished(directory: Location) -> bool:
    """Whether a directory has a manifest."""
    return (directory / MANIFEST).exists()


def remove_result(directory: Location) -> None:
    """Remove a directory, its manifest first: half of it is never taken for a finished one."""
    (directory / MANIFEST).delete()
    directory.delete()


def write_manifest(directory: Location, manifest: M) -> M:
    """Finish a directory: write its manifest, with the time and the versions that made it."""
    versions = {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "pyarrow": pyarrow.__version__,
    }
    now = datetime.now(UTC).isoformat(timespec="seconds")
    finished = replace(manifest, created_at=now, versions=versions)
    (directory / MANIFEST).write_json(manifest_json(finished))
    return finished


def manifest_json(manifest: Manifest) -> dict[str, Any]:
    """The content of a manifest's file."""
    return {"kind": manifest.kind, **to_json(manifest)}


def finished_directories(
    kind: type[M], parent: Location, pass_over: Callable[[InputError], None] | None = None
) -> list[tuple[str, M]]:
    """Names and manifests of the finished directories below ``parent``, oldest first.

    Args:
        kind: Class of their manifests.
        parent: Where they lie.
        pass_over: Told of each manifest that cannot be read, which then counts as none.

    Raises:
        InputError: A manifest cannot be read, and ``pass_over`` is None.
    """

    def read(name: str) -> M | None:
        try:
            return read_manifest(kind, parent / name)
        except InputError as error:
            if pass_over is None:
                raise
            pass_over(error)
            return None

    names = parent.children()
    # A manifest is one request, and its answer a row per part: many wait at once, few are large.
    with ThreadPoolExecutor(_READERS) as pool:
        manifests = pool.map(read, names)
        found = [(name, made) for name, made in zip(names, manifests, strict=True) if made]
    return sorted(found, key=lambda entry: entry[1].created_at or "")
