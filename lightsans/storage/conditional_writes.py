"""A small file that several processes change: read with its version, written only if unchanged.

S3 compares and writes in one step (``PutObject`` with ``If-Match`` or ``If-None-Match``), and so
do Azure and Google Cloud Storage (``ifGenerationMatch``); on local disk ``flock`` on a hidden file
beside it makes the two one step.
"""

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from botocore.exceptions import ClientError

from lightsans.errors import ConfigError
from lightsans.storage.location import Location

_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


@dataclass(frozen=True, slots=True)
class Versioned:
    """Content, and what to hand to `write_if_unchanged` to replace just this content."""

    content: bytes
    version: str


def read_versioned(location: Location) -> Versioned | None:
    """The file with its version; None when there is none.

    Raises:
        ConfigError: The storage has no conditional writes.
    """
    try:
        match _protocol(location):
            case "file":
                content = location.read_bytes()
                return Versioned(content, _hash(content))
            case "s3":
                return _read_s3(location)
            case "gs":
                return _read_gcs(location)
            case "abfs":
                return _read_azure(location)
    except FileNotFoundError:
        return None


def write_if_unchanged(location: Location, content: bytes, version: str | None) -> str | None:
    """Write the file if it still has this version; None as version: if there is none yet.

    Returns:
        The new version, or None when the file has changed meanwhile and nothing was written. A file
        with this very content counts as written: by a first try whose answer was lost, perhaps.

    Raises:
        ConfigError: The storage has no conditional writes.
    """
    match _protocol(location):
        case "file":
            written = _write_local(location, content, version)
        case "s3":
            written = _write_s3(location, content, version)
        case "gs":
            written = _write_gcs(location, content, version)
        case "abfs":
            written = _write_azure(location, content, version)
    if written is None:
        found = read_versioned(location)
        if found is not None and found.content == content:
            return found.version
    return written


def forget(location: Location) -> None:
    """Remove a file that nobody else may write now, with what stands beside it on a disk."""
    if _protocol(location) != "file":
        location.delete()
        return
    with _locked(location):
        location.delete()
        _beside(location).unlink(missing_ok=True)


def _protocol(location: Location) -> Literal["file", "s3", "gs", "abfs"]:
    match location.uri.partition("://"):
        case (_, "", ""):
            return "file"
        case ("s3" | "gs" | "abfs" as protocol, _, _):
            return protocol
    raise ConfigError(
        f"{location}: publishing needs storage that writes on a condition; set root to a local "
        "path, s3://bucket/prefix, gs://bucket/prefix or abfs://container/prefix"
    )


def _write_local(location: Location, content: bytes, version: str | None) -> str | None:
    if version is not None and not location.exists():
        return None  # without a lock, which would leave a file beside nothing
    with _locked(location):
        found = read_versioned(location)
        if (found.version if found else None) != version:
            return None
        location.write_bytes(content)
    return _hash(content)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _locked(location: Location) -> Iterator[None]:
    beside = _beside(location)
    beside.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_there(beside, descriptor):
                continue  # `forget` removed it meanwhile: the others lock a new one
            yield
            return
        finally:
            os.close(descriptor)  # gives the lock back, as does the end of the process


def _beside(location: Location) -> Path:
    return Path(location.path).with_name(f".{location.name}.lock")


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one that its path names."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def _read_s3(location: Location) -> Versioned:
    # fsspec's own calls give content or etag; only one request gives the two together.
    filesystem, name = _s3(location)
    return Versioned(*filesystem.read_with_etag(name["Bucket"], name["Key"]))


def _write_s3(location: Location, content: bytes, version: str | None) -> str | None:
    filesystem, name = _s3(location)
    condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
    try:
        response = filesystem.call_s3("put_object", **name, Body=content, **condition)
    except FileNotFoundError:
        if version is None:
            raise  # the bucket is missing
        return None  # the object was removed
    except OSError as error:  # what s3fs makes of the server's answer
        cause = error.__cause__
        if isinstance(cause, ClientError) and cause.response["Error"]["Code"] in _CHANGED:
            return None
        raise
    etag: str = response["ETag"]
    return etag


def _s3(location: Location) -> tuple[Any, dict[str, str]]:
    bucket, _, key = location.path.partition("/")
    return location.filesystem, {"Bucket": bucket, "Key": key}


def _read_gcs(location: Location) -> Versioned:
    filesystem: Any = location.filesystem
    headers, content = filesystem.call("GET", filesystem.url(location.path))
    return Versioned(content, headers["x-goog-generation"])


def _write_gcs(location: Location, content: bytes, version: str | None) -> str | None:
    """The upload of gcsfs's ``pipe_file``, which knows no condition but that there is no object."""
    filesystem: Any = location.filesystem
    bucket, _, name = location.path.partition("/")
    boundary = uuid.uuid4().hex
    body = b"\r\n".join(
        [
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n".encode(),
            json.dumps({"name": name}).encode(),
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n".encode(),
            content,
            f"--{boundary}--\r\n".encode(),
        ]
    )
    try:
        response = filesystem.call(
            "POST",
            f"{filesystem.base.replace('/storage/v1/', '/upload/storage/v1/')}b/{{}}/o",
            bucket,
            uploadType="multipart",
            ifGenerationMatch=version or "0",  # 0: there is none
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            data=body,
            json_out=True,
        )
    except FileExistsError:  # what gcsfs makes of status 412
        return None
    generation: str = response["generation"]
    return generation


def _read_azure(location: Location) -> Versioned:
    import obstore  # an extra

    from lightsans.storage.azure import told

    store, key = location.filesystem.place(location.path)
    with told(location.path):
        found = obstore.get(store, key)
        return Versioned(bytes(found.bytes()), str(found.meta["e_tag"]))


def _write_azure(location: Location, content: bytes, version: str | None) -> str | None:
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    from lightsans.storage.azure import told

    store, key = location.filesystem.place(location.path)
    try:
        with told(location.path):
            mode: Any = "create" if version is None else {"e_tag": version}
            return str(obstore.put(store, key, content, mode=mode)["e_tag"])
    except (AlreadyExistsError, PreconditionError):
        return None
    except FileNotFoundError:
        if version is None:
            raise  # the container is missing
        return None
