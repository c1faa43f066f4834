"""The results below a root, finished or not, as retention sees them: ages, and what needs what."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lightsans.errors import InputError
from lightsans.storage.location import Location
from lightsans.storage.manifests import MANIFEST
from pipelines.operations.listing import RootListing

ROOMS = {
    "recommendations": "run",
    "similar": "similar",
    "audience": "audience",
    "tune": "search",
    "reports": "evaluation",
    "models": "model",
    "datasets": "dataset",
}
"""Kind of the results by the directory they lie in: those that need others come first."""
_READERS = 16


@dataclass(frozen=True, slots=True)
class Result:
    """A directory that a stage made, or began to make."""

    kind: str
    id: str
    path: str
    """Path below the root."""
    bytes: int
    created_at: datetime | None
    """Time at which it was finished; None of an unfinished one."""
    changed_at: datetime | None
    """Time of the last change of a file; None where the store does not say."""
    needs: frozenset[str] = frozenset()
    """Paths of the results that it was made from."""
    base: str | None = None
    """Path of the dataset that this one adds to, or of the run whose lists it carries."""
    is_imported: bool = False
    is_damaged: bool = False
    """Whether its manifest cannot be read."""

    @property
    def is_finished(self) -> bool:
        """Whether it has a manifest that can be read."""
        return self.created_at is not None

    @property
    def lease(self) -> str:
        """Name of the lease of whoever makes it."""
        return f"{self.kind}-{self.id}"


def read_results(root: Location, listing: RootListing) -> list[Result]:
    """All results below a root; those that need others come before these."""
    found = [
        (kind, room, name)
        for room, kind in ROOMS.items()
        for name in _names(listing, room)
        if kind != "evaluation" or name.startswith("evaluate-")
    ]
    found += [("agreement", "reports", n) for n in _names(listing, "reports") if n[:6] == "refit-"]
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda entry: _read(root, listing, *entry), found))


def _names(listing: RootListing, room: str) -> list[str]:
    """Names of the directories of a room."""
    paths = (file.path.split("/") for file in listing.files)
    return sorted({path[1] for path in paths if path[0] == room and len(path) > 2})


def _read(root: Location, listing: RootListing, kind: str, room: str, name: str) -> Result:
    path = f"{room}/{name}"
    size, changed_at = listing.bytes(path), listing.changed_at(path)
    unfinished = Result(kind, name, path, size, None, changed_at)
    try:
        manifest = (root / path / MANIFEST).read_json()
    except (FileNotFoundError, NotADirectoryError):
        return unfinished
    except InputError:
        return Result(kind, name, path, size, None, changed_at, is_damaged=True)
    base = manifest.get({"dataset": "base", "run": "since"}.get(kind, ""))
    return Result(
        kind,
        name,
        path,
        size,
        _moment(manifest.get("created_at")) or changed_at or datetime.now(UTC),
        changed_at,
        frozenset(_needs(manifest)),
        base=f"{room}/{base}" if isinstance(base, str) else None,
        is_imported=manifest.get("imported_from") is not None,
    )


def _needs(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Paths of the results that a manifest names, also within its records."""
    rooms = {
        "dataset_id": "datasets",
        "dataset": "datasets",
        "model_id": "models",
        "model": "models",
    }
    for name, value in manifest.items():
        if name in rooms and isinstance(value, str) and value:
            yield f"{rooms[name]}/{value}"
        elif name in ("judged", "best") and isinstance(value, Mapping):
            yield from _needs(value)


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
