"""All files below a root in one listing, by kind: sizes, and when something was changed last."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lightsans.storage.location import Location

KINDS = {
    "datasets": "datasets",
    "models": "models",
    "recommendations": "recommendations",
    "reports": "reports",
    "tune": "searches",
    "similar": "similar",
    "audience": "audience",
    "serving": "serving",
    "backtests": "backtests",
    "erased": "erased users",
    "locks": "locks",
}
"""Kind by the directory below the root."""

_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""Name of a file that `Location.open_atomic` writes aside; other names are of others."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below the root."""

    path: str
    """Path below the root."""
    bytes: int
    changed_at: datetime | None
    """None where the store does not say."""

    @property
    def kind(self) -> str:
        """Kind of what it belongs to; checkpoints and work are kinds of their own."""
        room, *rest = self.path.split("/")
        if room == "models" and "checkpoints" in rest[1:2]:
            return "checkpoints"
        if is_aside(self.path):
            return "unfinished files"
        return KINDS.get(room, "other")


class RootListing:
    """The files of a root when they were listed."""

    def __init__(self, files: list[FoundFile]) -> None:
        self.files = files
        # A root has many results, and a question is about one of them.
        self._by_result: dict[str, list[FoundFile]] = {}
        for file in files:
            self._by_result.setdefault(_result_of(file.path), []).append(file)

    def below(self, path: str) -> Iterator[FoundFile]:
        """The files of a directory two or more levels below the root, given by its path."""
        prefix = path.rstrip("/") + "/"
        found = self._by_result.get(_result_of(prefix), [])
        return (file for file in found if file.path.startswith(prefix))

    def count(self, path: str) -> int:
        """Number of the files of a directory."""
        return sum(1 for _ in self.below(path))

    def bytes(self, path: str) -> int:
        """Bytes of a file, or of the files of a directory."""
        own = self._by_result.get(_result_of(path), [])
        return sum(file.bytes for file in own if file.path == path) + sum(
            file.bytes for file in self.below(path)
        )

    def changed_at(self, path: str) -> datetime | None:
        """Time of the last change of a file in a directory; None where nobody knows."""
        known = [file.changed_at for file in self.below(path) if file.changed_at is not None]
        return max(known, default=None)

    def sizes(self) -> dict[str, Mapping[str, int]]:
        """Files and bytes by kind, the largest first."""
        found: dict[str, dict[str, int]] = {}
        for file in self.files:
            entry = found.setdefault(file.kind, {"files": 0, "bytes": 0})
            entry["files"] += 1
            entry["bytes"] += file.bytes
        return dict(sorted(found.items(), key=lambda item: -item[1]["bytes"]))

    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)


def is_aside(path: str) -> bool:
    """Whether a file is one that was written aside, and not renamed yet."""
    return _ASIDE.fullmatch(posixpath.basename(path)) is not None


def list_root(root: Location) -> RootListing:
    """List all files below a root; there is none where the root does not exist."""
    try:
        found: Mapping[str, Any] = root.filesystem.find(root.path, detail=True)
    except FileNotFoundError:
        return RootListing([])
    start = len(str(root.filesystem._strip_protocol(root.path)).rstrip("/")) + 1
    files = [
        FoundFile(str(path)[start:], int(info.get("size") or 0), _changed_at(info))
        for path, info in found.items()
    ]
    return RootListing(sorted(files, key=lambda file: file.path))


def _result_of(path: str) -> str:
    """The first two steps of a path: room and result."""
    return "/".join(path.split("/")[:2])


def _changed_at(info: Mapping[str, Any]) -> datetime | None:
    for name in ("mtime", "LastModified", "updated", "last_modified"):
        value = info.get(name)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                continue
    return None
