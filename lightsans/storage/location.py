"""Locations of files: a URI becomes a `Location`, and nothing else opens files.

Local paths, ``file://``, ``s3://`` (s3fs), ``gs://`` (gcsfs) and ``abfs://`` (obstore) work alike,
the latter two where their package is installed. A `Location` is two strings and the
`StorageConfig`, so it travels to Ray workers as it is and never carries credentials. Whatever is
written appears whole or not at all: local files are written aside and renamed, objects are uploaded
in one piece.
"""

import errno
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from lightsans.config import StorageConfig
from lightsans.errors import AccessError, ConfigError, InputError, StorageError
from lightsans.scratch import scratch_directory
from lightsans.storage.filesystems import (
    check_bucket,
    check_slashes,
    delete_files,
    find_protocol,
    open_filesystem,
    remove_tree,
    split_account,
)
from lightsans.storage.records import parse_object
from lightsans.storage.table_formats import TableRows


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One listed file, with what tells whether it changed."""

    location: "Location"
    size: int
    etag: str
    """An object's etag (gs:// generation), or a local file's modification time in nanoseconds."""
    rows: TableRows | None = None
    """Rows that its table says it has; None for a file of no table."""

    @property
    def identity(self) -> dict[str, object]:
        """Address, size and etag, which differ when its content does."""
        return {"uri": self.location.uri, "size": self.size, "etag": self.etag}


@dataclass(frozen=True, slots=True)
class Location:
    """A file or directory somewhere. ``location / "name"`` is something below it."""

    uri: str
    """Address as a person would write it: an absolute local path or ``protocol://bucket/key``."""
    storage: StorageConfig

    def __post_init__(self) -> None:
        if "\0" in self.uri:
            raise ConfigError(f"{self.uri!r}: a path or an id cannot hold a NUL character")

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> "Location":
        return Location(f"{self.uri.rstrip('/')}/{name}", self.storage)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    @property
    def parent(self) -> "Location":
        """The directory that holds this."""
        return Location(self.uri.rstrip("/").rsplit("/", 1)[0] or "/", self.storage)

    @property
    def is_local(self) -> bool:
        """Whether this is on a disk of this machine."""
        return "://" not in self.uri

    @property
    def path(self) -> str:
        """The path inside `filesystem`."""
        return self.uri if self.is_local else split_account(self.uri)[0].split("://", 1)[1]

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """The fsspec filesystem that serves this location."""
        protocol = "file" if self.is_local else self.uri.split("://", 1)[0]
        return open_filesystem(protocol, self.storage, split_account(self.uri)[1])

    @property
    def arrow_filesystem(self) -> pyarrow.fs.FileSystem:
        """The same filesystem for pyarrow and Ray."""
        if self.is_local:
            return pyarrow.fs.LocalFileSystem()
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self.filesystem))

    def exists(self) -> bool:
        """Whether there is a file or directory here."""
        return bool(self.filesystem.exists(self.path))

    def open(self) -> IO[bytes]:
        """An open file for reading."""
        with self._access():
            try:
                opened: IO[bytes] = self.filesystem.open(self.path, "rb")
            except NotADirectoryError as error:
                raise FileNotFoundError(str(error)) from None
            return opened

    def read_bytes(self) -> bytes:
        """The whole content; of an object in one request, also where there is none."""
        if not self.is_local:
            with self._access():
                content: bytes = self.filesystem.cat_file(self.path)
                return content
        with self.open() as file:
            return file.read()

    def read_range(self, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` in one request; fewer where the file is shorter."""
        if start >= end:
            return b""
        content: bytes = self.filesystem.cat_file(self.path, start=start, end=end)
        return content

    def read_json(self) -> dict[str, Any]:
        """The content of a JSON object.

        Raises:
            InputError: The file holds something else.
        """
        return parse_object(self.read_bytes(), self.uri)

    def read_table(
        self, columns: list[str] | None = None, filters: pc.Expression | None = None
    ) -> pa.Table:
        """The content of a parquet file.

        Args:
            columns: Names of the columns to read; None for all.
            filters: Condition on the rows.

        Raises:
            InputError: The file is damaged.
        """
        try:
            with self.open() as file:
                return pq.read_table(file, columns=columns, filters=filters)
        except (pa.ArrowException, OSError) as error:
            require_damage(error)
            raise InputError(
                f"{self.uri}: not a readable parquet file ({error}); it is damaged: make this "
                "result again"
            ) from None

    def require_directory(self) -> None:
        """Make this a directory that can be written to, with all above it; on a disk only.

        Raises:
            AccessError: It cannot be.
        """
        if not self.is_local:
            return
        try:
            Path(self.path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror
        else:
            if os.access(self.path, os.W_OK | os.X_OK):
                return
            reason = "it cannot be written to"
        raise AccessError(
            f"{self.uri}: no directory for results: {reason}; choose another root, or make this "
            "one writable for the user of this process, on every machine of the cluster"
        )

    @contextmanager
    def open_atomic(self) -> Iterator[Path]:
        """A local path to write to; its content appears here when the block ends without error.

        Objects are spooled to local disk first, because an upload stream that is closed while an
        error unwinds would publish half a file. A device or a pipe is written to and not replaced:
        ``/dev/null`` stays what it is.
        """
        target = Path(self.path)
        if self.is_local and _is_special(target):
            with scratch_directory() as directory:
                yield (aside := Path(directory) / "content")
                with aside.open("rb") as content, self._access(), target.open("wb") as device:
                    shutil.copyfileobj(content, device)
            return
        if self.is_local:
            self.parent.require_directory()
            aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
            try:
                yield aside
                with aside.open("rb") as written:
                    os.fsync(written.fileno())
                aside.replace(target)
            except OSError as error:
                if error.filename is None:  # a full disk is to be named
                    error.filename = self.uri
                raise
            finally:
                aside.unlink(missing_ok=True)
            return
        with scratch_directory() as directory:
            aside = Path(directory) / self.name
            yield aside
            self.filesystem.put_file(str(aside), self.path)

    def write_bytes(self, content: bytes) -> None:
        """Write a whole file, atomically."""
        with self.open_atomic() as aside:
            aside.write_bytes(content)

    def write_json(self, content: object) -> None:
        """Write an object as indented JSON, atomically."""
        text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=False)
        self.write_bytes(text.encode() + b"\n")

    def write_table(self, table: pa.Table, row_group_size: int = 128 * 1024) -> None:
        """Write a parquet file, atomically."""
        with self.open_atomic() as aside:
            pq.write_table(table, aside, compression="zstd", row_group_size=row_group_size)

    def copy_to(self, target: "Location") -> None:
        """Make this file appear at ``target`` too, without its content passing through here.

        A hard link on a disk (what is written here is replaced, never changed), a copy made by the
        store elsewhere.
        """
        if not self.is_local:
            self.filesystem.cp_file(self.path, target.path)
            return
        with target.open_atomic() as aside:
            try:
                os.link(self.path, aside)
            except OSError:  # another disk, or one without hard links
                shutil.copyfile(self.path, aside)

    def children(self) -> list[str]:
        """Names of the files and directories directly below, sorted; empty when there is nothing.

        Files that are still being written aside are not among them.
        """
        try:
            with self._access():
                paths = self.filesystem.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise ConfigError(
                f"{self.uri}: a part of this path is a file; expected a directory, which root names"
            ) from None
        names = (str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths)
        own = self.name
        return sorted(name for name in names if name != own and not name.startswith("."))

    def delete(self) -> None:
        """Remove the file or the whole tree; nothing happens when there is none.

        Names are literal: brackets, asterisks and question marks stand for themselves.
        """
        with self._access():
            if not self.is_local:
                delete_files(self.filesystem, self.path)
            elif Path(self.path).is_dir() and not Path(self.path).is_symlink():
                remove_tree(self.path)
            else:
                with suppress(FileNotFoundError, NotADirectoryError):
                    Path(self.path).unlink()

    def info(self) -> FileInfo:
        """Size and etag of the file here.

        Raises:
            InputError: There is no such file.
        """
        try:
            with self._access():
                found = self.filesystem.info(self.path)
                if found["type"] == "other":
                    raise InputError(
                        f"{self.uri}: a pipe or device, expected a file; write its content to one"
                    )
                return file_info(self, found)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{self.uri}: no such file{self._windows_hint()}") from None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG):
                raise
            raise InputError(f"{self.uri}: no such file: {error.strerror}") from None

    def _windows_hint(self) -> str:
        is_windows = self.is_local and re.search(r"(^|/)[A-Za-z]:([\\/]|$)", self.uri)
        return (
            "; a drive of Windows is known by another name here, such as /mnt/c/logs in WSL"
            if is_windows
            else ""
        )

    @contextmanager
    def _access(self) -> Iterator[None]:
        """Within the block, what the operating system denies is an error that names the path."""
        try:
            yield
        except AccessError:
            raise
        except PermissionError as error:
            raise AccessError(
                f"{self.uri}: permission denied ({error.strerror or error}); the user of this "
                "process needs access to it, on every machine of the cluster"
            ) from None


def locate(uri: str, storage: StorageConfig) -> Location:
    """A `Location` for a local path (made absolute), ``file://`` or the URI of a store.

    Raises:
        ConfigError: Nothing here reads such a URI, it names no bucket or an unknown home, or it has
            a NUL character or bytes that are not UTF-8, or it is empty.
    """
    if not uri.strip():
        raise ConfigError(f"{uri!r} names no file or directory; the working directory is '.'")
    if not is_text(uri):
        raise ConfigError(f"{uri!a}: the name is not UTF-8; rename what it names")
    scheme, has_scheme, path = uri.partition("://")
    if not has_scheme:
        check_slashes(uri)
        return Location(_absolute(uri), storage)
    protocol = find_protocol(uri, scheme)
    if protocol == "file":
        return Location(_absolute(path), storage)
    check_bucket(uri, protocol, path)
    return Location(f"{protocol}://{path.rstrip('/')}", storage)


def _absolute(path: str) -> str:
    """A local path from the root on."""
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:  # another user, or one without an entry, as containers have
        raise ConfigError(
            f"{path!r}: no home directory is known for {path.partition('/')[0]}; write the path out"
        ) from None


def is_text(name: str) -> bool:
    """Whether a name of the system is text: Python reads other bytes as halves of surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_damage(error: BaseException) -> None:
    """Raise an error again that is not about the content of a parquet file."""
    # Arrow reports some damage as an OSError; those of the system have a number.
    if isinstance(error, StorageError) or getattr(error, "errno", None) is not None:
        raise error
    if isinstance(error, FileNotFoundError):  # of a store: without a number
        raise error


def _is_special(path: Path) -> bool:
    """Whether there is something else than a file or a directory: a device, a pipe, a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def file_info(location: Location, info: dict[str, Any]) -> FileInfo:
    """Size and etag from what fsspec says of a file."""
    # In gs:// the etag changes with metadata too, the class of storage for example: the generation
    # changes when content is written, and then only.
    etag = info.get("ETag") or info.get("generation") or info.get("etag")
    if etag is None:
        etag = str(os.stat(location.path).st_mtime_ns) if location.is_local else ""
    return FileInfo(location, int(info["size"]), str(etag).strip('"'))
