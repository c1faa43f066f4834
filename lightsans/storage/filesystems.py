"""Filesystems by protocol: local disks, s3fs, and gcsfs and obstore where they are installed."""

import errno
import functools
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import fsspec
from fsspec.asyn import sync

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError

_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfss": "abfs", "az": "abfs"}
"""Hadoop's names, gcsfs's long one and other ones of Azure, for the same things."""
_ACCOUNT = re.compile(r"(abfs://[^/@]+)@([^/.]+)\.(?:dfs|blob)\.[^/]+")
"""``abfs://container@account.dfs.core.windows.net``: where Azure's tools have the account."""
_SUPPORTED = ("file", "s3", "gs", "abfs", "memory")  # the last for tests
_ONE_SLASH = re.compile(r"([A-Za-z0-9]+):/(?!/)")
_S3_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:[^/]+")
"""Bucket names that botocore accepts; the store itself checks the other rules."""
_DELETED_AT_ONCE = 1000
_ATTEMPTS = 10
"""How often a directory is emptied again into which somebody writes."""
_SIDE_BY_SIDE = 16


def find_protocol(uri: str, scheme: str) -> str:
    """The protocol that a URI's scheme stands for.

    Raises:
        ConfigError: It is not supported, or its package is not installed.
    """
    protocol = _ALIASES.get(scheme.lower(), scheme.lower())
    if protocol not in _SUPPORTED:
        meant = (
            "abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH is the same place"
            if protocol in ("wasb", "wasbs", "adl")
            else "Copy files from elsewhere to one of these, or mount them"
        )
        raise ConfigError(
            f"{uri!r}: {scheme}:// is not supported; expected a local path, file://, s3://, gs:// "
            f"or abfs://. {meant}"
        )
    if protocol == "abfs" and find_spec("obstore") is None:
        raise ConfigError(
            f"{uri!r}: {scheme}:// needs the package obstore; run `pip install 'lightsans[azure]'`"
        )
    return protocol


def split_account(uri: str) -> tuple[str, str | None]:
    """A URI of a store without the account in it, and the account; None where it has none."""
    found = _ACCOUNT.match(uri)
    return (uri, None) if found is None else (found[1] + uri[found.end() :], found[2])


def check_slashes(path: str) -> None:
    """Refuse a path that was meant to be a URI.

    Raises:
        ConfigError: It begins with a known scheme and one slash.
    """
    found = _ONE_SLASH.match(path)
    if found and found[1].lower() in (*_SUPPORTED, *_ALIASES):
        rest = path[found.end() :]
        meant = f"{found[1]}://{'/' if found[1].lower() == 'file' else ''}{rest}"
        raise ConfigError(
            f"{path!r} has one slash after {found[1]}:; expected {meant} (or ./{path} for a "
            "directory of that name)"
        )


def check_bucket(uri: str, protocol: str, path: str) -> None:
    """Refuse a URI without a bucket, or with one that S3's client does not take.

    Raises:
        ConfigError: The message names the URI.
    """
    bucket = path.partition("/")[0]
    if not bucket:
        raise ConfigError(f"{uri!r} names no bucket; expected {protocol}://bucket/path")
    if protocol == "s3" and not _S3_BUCKET.fullmatch(bucket):
        raise ConfigError(
            f"{uri!r}: {bucket!r} cannot be the name of a bucket; expected letters, digits, dots, "
            "hyphens and underscores"
        )


def delete_files(filesystem: Any, path: str) -> None:
    """Remove a file of a store, or all files below a path, whose name is literal.

    The recursive deletion of fsspec takes brackets, asterisks and question marks for patterns.
    """
    try:
        paths = list(filesystem.find(path))
    except FileNotFoundError:
        return
    if hasattr(filesystem, "_bulk_delete"):  # s3fs
        for start in range(0, len(paths), _DELETED_AT_ONCE):
            some = paths[start : start + _DELETED_AT_ONCE]
            sync(filesystem.loop, filesystem._bulk_delete, some)
        return
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(lambda each: _delete_file(filesystem, each), paths))


def remove_tree(path: str) -> None:
    """Remove a directory of this machine, from and into which others may delete and write."""
    for last in (False,) * _ATTEMPTS + (True,):
        try:
            shutil.rmtree(path, onerror=_go_on_without)
            return
        except OSError as error:  # somebody wrote a file behind us
            if last or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _go_on_without(function: object, path: str, error: Any) -> None:
    if not isinstance(error[1], FileNotFoundError):  # else another process was faster
        raise error[1]


def _delete_file(filesystem: fsspec.AbstractFileSystem, path: str) -> None:
    with suppress(FileNotFoundError):  # another process was faster
        filesystem.rm_file(path)


@functools.lru_cache(maxsize=32)
def open_filesystem(
    protocol: str, storage: StorageConfig, account: str | None = None
) -> fsspec.AbstractFileSystem:
    """The fsspec filesystem of a protocol: s3fs, gcsfs, our own for Azure, or what fsspec has."""
    # Another worker may have written a moment ago: a cached listing would hide it.
    match protocol:
        case "s3":
            from lightsans.storage.s3 import PatientS3FileSystem  # botocore takes a while to import

            return PatientS3FileSystem(
                max_attempts=storage.max_attempts,
                timeout_s=storage.timeout_s,
                anon=storage.anonymous,
                profile=storage.profile,
                endpoint_url=storage.endpoint_url,
                use_listings_cache=False,
            )
        case "gs":
            return _gcs_class()(
                token="anon" if storage.anonymous else None, use_listings_cache=False
            )
        case "abfs":
            from lightsans.storage.azure import AzureFileSystem  # an extra

            return AzureFileSystem(
                account=account,
                anonymous=storage.anonymous,
                max_attempts=storage.max_attempts,
                timeout_s=storage.timeout_s,
            )
        case _:
            return fsspec.filesystem(protocol, use_listings_cache=False)


def _gcs_class() -> type[fsspec.AbstractFileSystem]:
    """The plain client of gcsfs, rather than the subclass for zonal buckets that fsspec would take.

    That one asks over gRPC of what kind the bucket is, and again before every request where it
    gets no answer: from an emulator, or with rights to one prefix only.
    """
    try:
        found: type[fsspec.AbstractFileSystem] = import_module("gcsfs.core").GCSFileSystem
    except ImportError as error:
        raise ConfigError(
            f"gs:// needs the package gcsfs ({error}); run `pip install -c requirements.lock "
            "gcsfs`, or use an image that was built with CLOUD=gcp"
        ) from None
    return found
