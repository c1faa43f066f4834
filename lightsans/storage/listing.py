"""Files that a path, directory or glob stands for, and whether they are still those listed."""

import glob
import io
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO

from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.storage.location import FileInfo, Location, file_info, is_text, locate
from lightsans.storage.table_formats import refuse_tables

_MAGIC = re.compile(r"[*?\[]")
_HIVE_PARTITION = re.compile(r"_[^=/]+=")
_FOLDER_MARKER = "_$folder$"
_NO_DATA = re.compile(
    r"(readme|licen[sc]e)(\.(md|txt|rst))?"
    r"|.*\.(crc|md5|sha1|sha256|sha512|asc|sig)|(md5|sha[0-9]*)sums(\.txt)?"
    r"|.*(~|\.(tmp|bak|swp|crdownload|inprogress)|\._copying_)|#.*#"
    r"|thumbs\.db|desktop\.ini",
    re.IGNORECASE,
)
"""Notes, checksums, copies of editors and unfinished copies, and what Windows leaves."""
_LOOKED_AT = 64 << 10
"""Bytes at the beginning of an object that a look at it asks for."""
_MANY = 20
"""Objects of a directory that are looked at by listing it, rather than one by one."""
_SIDE_BY_SIDE = 16
"""Requests at a time: it is waiting for storage, not work."""


@dataclass(frozen=True, slots=True)
class ListedObject(Location):
    """An object on S3 that is read only while it is the one that was listed."""

    size: int
    etag: str

    def open(self) -> IO[bytes]:
        """An open file, for which nothing is asked before it is read.

        Reading raises `StorageError` where the object was replaced.
        """
        return self._open()

    def read_range(self, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` in one request; fewer where the object is shorter.

        Raises:
            StorageError: The object was replaced.
        """
        if start >= end:
            return b""
        with self._open(cache_type="none") as opened:
            opened.seek(start)
            return opened.read(end - start)

    def _open(self, **options: str | int) -> IO[bytes]:
        with self._access():
            opened: IO[bytes] = self.filesystem.open(
                self.path, "rb", size=self.size, etag=self.etag, **options
            )
            return opened


@dataclass(frozen=True, slots=True)
class BegunObject(ListedObject):
    """A listed object whose first bytes are at hand, for a look at its beginning."""

    beginning: bytes

    def open(self) -> IO[bytes]:
        """An open file: the bytes at hand where that is all, else one that reads little ahead."""
        if len(self.beginning) == self.size:
            return io.BytesIO(self.beginning)
        return self._open(block_size=_LOOKED_AT)

    def read_range(self, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end``, without a request where they are at hand."""
        if min(end, self.size) <= len(self.beginning):
            return self.beginning[start:end]
        return ListedObject.read_range(self, start, end)


def begin_reading(file: FileInfo) -> Location:
    """The file as `as_listed`, to be looked at: one request brings a small object as a whole."""
    listed = as_listed(file)
    if not isinstance(listed, ListedObject):
        return listed
    beginning = listed.read_range(0, min(file.size, _LOOKED_AT))
    return BegunObject(listed.uri, listed.storage, listed.size, listed.etag, beginning)


def as_listed(file: FileInfo) -> Location:
    """The file; where its store can tell versions apart, only the one that was listed."""
    location = file.location
    if not is_pinned(file):
        return location
    return ListedObject(location.uri, location.storage, file.size, file.etag)


def is_pinned(file: FileInfo) -> bool:
    """Whether `as_listed` reads no other version of the file."""
    return file.location.uri.startswith("s3://") and bool(file.etag)


@dataclass(frozen=True, slots=True)
class InputListing:
    """The files that settings such as ``data.input`` stand for."""

    files: list[FileInfo]
    """Files in the order of the patterns, each pattern's sorted by the bytes of the path."""
    num_empty: int = 0
    """Files of no bytes that were left out: part files that a writer had no rows for."""
    repeated: dict[str, str] = field(default_factory=dict)
    """Addresses that were left out, and the address under which the same file is read."""

    def notes(self, setting: str) -> list[str]:
        """Sentences about what was left out."""
        notes = []
        if self.num_empty:
            notes.append(f"{self.num_empty:,} empty files of {setting} are left out")
        if self.repeated:
            left_out, kept = next(iter(self.repeated.items()))
            more = f" (and {len(self.repeated) - 1:,} more)" if len(self.repeated) > 1 else ""
            same = "is named twice" if left_out == kept else f"is the same file as {kept}"
            notes.append(
                f"WARNING: {left_out} {same}{more}; {setting} counts the rows of a file once"
            )
        return notes


def list_inputs(
    patterns: Iterable[str],
    storage: StorageConfig,
    list_one: Callable[[str, StorageConfig], list[FileInfo]] | None = None,
) -> InputListing:
    """The files of several patterns, each once, without the empty ones.

    Args:
        patterns: Paths, directories and globs.
        storage: Access to stores.
        list_one: Lists the files of a pattern; `list_files` by default.

    Raises:
        InputError: A pattern matches nothing, or is a table of a warehouse, or all files are empty.
    """
    patterns = list(patterns)
    files = [file for pattern in patterns for file in (list_one or list_files)(pattern, storage)]
    filled = [file for file in files if file.size]
    if not filled and len(files) > 1:
        raise InputError(f"{', '.join(patterns)}: all {len(files)} files are empty (0 bytes)")
    # Reading will say that a single file is empty.
    kept, repeated = _each_once(filled or files)
    return InputListing(kept, len(files) - len(filled or files), repeated)


def list_files(pattern: str, storage: StorageConfig) -> list[FileInfo]:
    """The files that a path, directory or glob stands for.

    Directories are read with all below them, those that a glob matches, too. The result of a
    directory or glob is sorted by the bytes of the path. A name that exists is literal, even if it
    holds ``[``, ``*`` or ``?``. Left out is what other tools leave beside data: files and
    directories whose name begins with ``.`` or ``_`` (but for partitions such as ``_day=1``, and
    where a pattern says so), folder markers, checksums, readmes, and copies of editors.

    Raises:
        InputError: Nothing matches, or the directory is a table of a warehouse.
    """
    location = locate(pattern, storage)
    filesystem, path = location.filesystem, location.path
    fixed, rest = path, ""
    if _MAGIC.search(path) and not filesystem.exists(path):
        fixed, rest = _cut_at_glob(location)
        found = _glob(location, fixed, rest)
    elif filesystem.isdir(path):
        found = list(_walk(location))
    else:
        return [location.info()]
    # As the paths that were found: without /../.
    start = len(filesystem._strip_protocol(fixed))
    below = {file.location.path[start:]: file for file in found}
    refuse_tables(pattern, below)
    files = [file for name, file in below.items() if is_data(name, file.size, rest)]
    if not files:
        raise InputError(f"{pattern}: no file matches; check the path and the bucket")
    odd = [name for name in (file.location.uri for file in files) if not is_text(name)]
    if odd:
        raise InputError(f"{odd[0]!a}: the name of this file is not UTF-8; rename it")
    return sorted(files, key=lambda file: file.location.uri.encode())


def check_unchanged(files: Sequence[FileInfo]) -> None:
    """Refuse files that are not what was listed.

    Raises:
        InputError: A file changed, shrank or vanished since.
    """
    if len(files) == 1:  # no thread for the common case
        _check_unchanged(files[0])
        return
    found = _listed_again(files)
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(lambda file: _check_unchanged(file, found.get(file.location.uri)), files))


def _listed_again(files: Sequence[FileInfo]) -> dict[str, FileInfo]:
    """Files that are there now, by address, of objects that lie many in a directory.

    A request lists a thousand, where each would cost one to ask for.
    """
    directories: dict[str, list[Location]] = {}
    for file in files:
        if is_pinned(file):
            parent = file.location.parent
            directories.setdefault(parent.uri, []).append(parent)
    found = {}
    for parent, *others in directories.values():
        if len(others) < _MANY:
            continue
        entries = parent.filesystem.ls(parent.path, detail=True)
        for now in _files_of(parent, {entry["name"]: entry for entry in entries}):
            found[now.location.uri] = now
    return found


def _check_unchanged(file: FileInfo, found: FileInfo | None = None) -> None:
    try:
        now = found or file.location.info()
    except InputError:
        elsewhere = ""
        if file.location.is_local:  # another machine of a cluster may have listed it
            elsewhere = (
                f", or {socket.gethostname()} never had it: a file must lie where every machine "
                "of a cluster can read it"
            )
        raise InputError(
            f"{file.location}: the file vanished while it was being read{elsewhere}; bring it "
            "back, or run again to read what is there now"
        ) from None
    if (now.size, now.etag) != (file.size, file.etag):
        raise InputError(
            f"{file.location}: the file changed while it was being read: {file.size:,} bytes, "
            f"etag {file.etag} when it was listed, {now.size:,} bytes, etag {now.etag} now; run "
            "again when nobody writes to it"
        )


def _each_once(files: Sequence[FileInfo]) -> tuple[list[FileInfo], dict[str, str]]:
    """The files without other addresses of the same, and those addresses.

    Of several addresses on a disk the one without links on its way stays, if there is one: a link
    such as ``latest.csv`` may point elsewhere tomorrow.
    """
    chosen: dict[object, FileInfo] = {}
    identities = [_identity(file) for file in files]
    for file, identity in zip(files, identities, strict=True):
        other = chosen.setdefault(identity, file)
        if other is not file and not _is_direct(other) and _is_direct(file):
            chosen[identity] = file
    kept, repeated, done = [], {}, set()
    for file, identity in zip(files, identities, strict=True):
        if file is chosen[identity] and identity not in done:
            kept.append(file)
            done.add(identity)
        else:
            repeated[file.location.uri] = chosen[identity].location.uri
    return kept, repeated


def _identity(file: FileInfo) -> object:
    """Key that all addresses of a file share: links of both kinds, on a disk."""
    if not file.location.is_local:
        return file.location.uri
    try:
        found = os.stat(file.location.path)
    except OSError:  # whoever reads it will say so
        return file.location.uri
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(file.location.path)


def _is_direct(file: FileInfo) -> bool:
    return file.location.is_local and os.path.realpath(file.location.path) == file.location.path


def _walk(directory: Location) -> Iterator[FileInfo]:
    """All files below a directory."""
    if directory.is_local:
        path = str(directory.filesystem._strip_protocol(directory.path))
        yield from _walk_disk(path, directory.storage, (os.path.realpath(path),))
        return
    yield from _files_of(directory, directory.filesystem.find(directory.path, detail=True))


def _walk_disk(path: str, storage: StorageConfig, above: tuple[str, ...]) -> Iterator[FileInfo]:
    """All files below a directory of a disk, through links, but for circles of them.

    Args:
        path: The directory.
        storage: For the locations of the files.
        above: Real paths of the directories on the way, the directory included.
    """
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                is_directory = entry.is_dir()
                found = entry.stat()
            except OSError as error:
                raise InputError(
                    f"{entry.path}: a link that leads nowhere, or no access: {error.strerror}"
                ) from None
            if not is_directory:
                location = Location(entry.path, storage)
                yield FileInfo(location, found.st_size, str(found.st_mtime_ns))
                continue
            real = os.path.realpath(entry.path)
            if real not in above:
                yield from _walk_disk(entry.path, storage, (*above, real))


def _glob(location: Location, fixed: str, rest: str) -> list[FileInfo]:
    """All files that a glob matches, and those below directories that it matches."""
    filesystem, pattern = location.filesystem, location.path
    if _MAGIC.search(fixed):
        pattern = f"{glob.escape(fixed)}/{rest}"
    found = filesystem.glob(pattern, detail=True)
    files = {}
    for path, info in found.items():
        match = _with_path(location, path)
        is_directory = os.path.isdir(path) if match.is_local else info["type"] == "directory"
        matched = _walk(match) if is_directory else _files_of(match, {path: info})
        files.update({file.location.uri: file for file in matched})
    return list(files.values())


def _files_of(location: Location, found: dict[str, dict[str, object]]) -> Iterator[FileInfo]:
    for path, info in found.items():
        file = _with_path(location, path)
        if file.is_local:  # a link, perhaps
            yield file.info()
        elif info["type"] == "file":
            yield file_info(file, info)


def _with_path(location: Location, path: str) -> Location:
    """The location of another path of the same filesystem."""
    if location.is_local:
        return Location(path, location.storage)
    scheme, _, place = location.uri.partition("://")
    account = re.match(r"[^/@]+(@[^/]+)", place) if scheme == "abfs" else None
    container, slash, key = path.partition("/")
    place = container + (account[1] if account else "") + slash + key
    return Location(f"{scheme}://{place}", location.storage)


def _cut_at_glob(location: Location) -> tuple[str, str]:
    """A pattern's directory, which is literal, and the rest; a component that exists is literal."""
    parts = location.path.split("/")
    for at, part in enumerate(parts[:-1]):
        if _MAGIC.search(part) and not location.filesystem.exists("/".join(parts[: at + 1])):
            return "/".join(parts[:at]), "/".join(parts[at:])
    return "/".join(parts[:-1]), parts[-1]


def is_data(below: str, size: int, pattern: str = "") -> bool:
    """Whether a file is data.

    Args:
        below: The part of its path below what the pattern fixes.
        size: Its bytes.
        pattern: The pattern below what it fixes: a component that begins with a dot or an
            underscore there is meant.
    """
    *_, name = parts = below.strip("/").split("/")
    patterns = pattern.split("/") + [""] * len(parts)
    for part, meant in zip(parts, patterns, strict=False):
        is_hidden = part.startswith((".", "_")) and not _HIVE_PARTITION.match(part)
        if is_hidden and not meant.startswith(part[0]):
            return False
    is_marker = size == 0 and (below.endswith("/") or name.endswith(_FOLDER_MARKER))
    return not is_marker and not _NO_DATA.fullmatch(name)
