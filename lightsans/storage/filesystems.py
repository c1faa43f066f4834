"""Filesystems by protocol: local disks, s3fs, gcsfs where it is installed, and fsspec's others."""

import functools
from importlib import import_module

import fsspec

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError


@functools.lru_cache(maxsize=32)
def open_filesystem(protocol: str, storage: StorageConfig) -> fsspec.AbstractFileSystem:
    """The fsspec filesystem of a protocol: s3fs, gcsfs or what fsspec has."""
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
        case _:
            return fsspec.filesystem(protocol)


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
