"""Files that a path, directory or glob stands for, and whether they are still those listed."""

import glob
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.storage.location import FileInfo, Location, file_info, locate

_MAGIC = re.compile(r"[*?\[]")
_HIVE_PARTITION = re.compile(r"_[^=/]+=")
_FOLDER_MARKER = "_$folder$"
_README = re.compile(r"readme(\.(md|txt|rst))?", re.IGNORECASE)
_SIDE_BY_SIDE = 16
"""Requests at a time: it is waiting for storage, not work."""


@dataclass(frozen=True, slots=True)
class InputListing:
    """The files that settings such as ``data.input`` stand for."""

    files: list[FileInfo]
    """Files in the order of the patterns, each pattern's sorted by the bytes of the path."""
    num_empty: int
    """Files of no bytes that were left out: part files that a writer had no rows for."""


def list_inputs(patterns: Iterable[str], storage: StorageConfig) -> InputListing:
    """The files of several patterns, without the empty ones of directories and globs.

    Raises:
        InputError: A pattern matches nothing, or empty files only.
    """
    listing = InputListing([], 0)
    for pattern in patterns:
        found = list_files(pattern, storage)
        filled = [file for file in found if file.size]
        if not filled and len(found) > 1:
            raise InputError(f"{pattern}: all {len(found)} files are empty (0 bytes)")
        kept = filled or found  # reading will say that a single file is empty
        listing = InputListing(listing.files + kept, listing.num_empty + len(found) - len(kept))
    return listing


def list_files(pattern: str, storage: StorageConfig) -> list[FileInfo]:
    """The files that a path, directory or glob stands for.

    Directories are read with all below them. The result of a directory or glob is sorted by the
    bytes of the path. A name that exists is literal, even if it holds ``[``, ``*`` or ``?``. Left
    out is what other tools leave beside data: files and directories whose name begins with ``.`` or
    ``_`` (but for partitions such as ``_day=1``), folder markers and readmes.

    Raises:
        InputError: Nothing matches.
    """
    location = locate(pattern, storage)
    filesystem, path = location.filesystem, location.path
    fixed = path
    if _MAGIC.search(path) and not filesystem.exists(path):
        fixed, rest = _cut_at_glob(location)
        is_literal = _MAGIC.search(fixed) is not None
        found = filesystem.glob(f"{glob.escape(fixed)}/{rest}" if is_literal else path, detail=True)
    elif filesystem.isdir(path):
        found = filesystem.find(path, detail=True)
    else:
        return [location.info()]
    scheme = "" if location.is_local else location.uri.split("://", 1)[0] + "://"
    fixed = filesystem._strip_protocol(fixed)  # as the paths that were found: without /../
    files = [
        file_info(Location(scheme + path, storage), info)
        for path, info in found.items()
        if info["type"] == "file" and _is_data(path[len(fixed) :], int(info["size"]))
    ]
    if not files:
        raise InputError(f"{pattern}: no file matches; check the path and the bucket")
    return sorted(files, key=lambda file: file.location.uri.encode())


def check_unchanged(files: Sequence[FileInfo]) -> None:
    """Refuse files that are not what was listed.

    Raises:
        InputError: A file changed, shrank or vanished since.
    """
    if len(files) == 1:  # no thread for the common case
        _check_unchanged(files[0])
        return
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(_check_unchanged, files))


def _check_unchanged(file: FileInfo) -> None:
    try:
        now = file.location.info()
    except InputError:
        raise InputError(
            f"{file.location}: the file vanished while it was being read; bring it back, or run "
            "again to read what is there now"
        ) from None
    if (now.size, now.etag) != (file.size, file.etag):
        raise InputError(
            f"{file.location}: the file changed while it was being read: {file.size:,} bytes, "
            f"etag {file.etag} when it was listed, {now.size:,} bytes, etag {now.etag} now; run "
            "again when nobody writes to it"
        )


def _cut_at_glob(location: Location) -> tuple[str, str]:
    """A pattern's directory, which is literal, and the rest; a component that exists is literal."""
    parts = location.path.split("/")
    for at, part in enumerate(parts[:-1]):
        if _MAGIC.search(part) and not location.filesystem.exists("/".join(parts[: at + 1])):
            return "/".join(parts[:at]), "/".join(parts[at:])
    return "/".join(parts[:-1]), parts[-1]


def _is_data(below: str, size: int) -> bool:
    """Whether a file, given by the part of its path below what the pattern fixes, is data."""
    *_, name = parts = below.strip("/").split("/")
    if any(part.startswith((".", "_")) and not _HIVE_PARTITION.match(part) for part in parts):
        return False
    is_marker = size == 0 and (below.endswith("/") or name.endswith(_FOLDER_MARKER))
    return not is_marker and not _README.fullmatch(name)
