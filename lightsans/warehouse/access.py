"""Libraries that read tables: whether they are there, credentials and addresses in their words."""

import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError, InputError
from lightsans.storage.location import FileInfo, Location, locate

SIDE_BY_SIDE = 16
"""Requests at a time."""
_PACKAGES = {"Delta": "deltalake", "Iceberg": "pyiceberg"}


def require_package(kind: Literal["Delta", "Iceberg"], address: str) -> None:
    """Refuse a table's address without the package that reads such tables.

    Raises:
        ConfigError: The message says how to install it.
    """
    package = _PACKAGES[kind]
    try:
        importlib.import_module(f"{package}.table")
    except ImportError:
        raise ConfigError(
            f"{address}: {kind} tables need a package: pip install 'lightsans[{package}]'"
        ) from None


def s3_options(storage: StorageConfig) -> dict[str, str]:
    """Endpoint, region and credentials of S3 in the words of AWS; empty values are left out."""
    import botocore.session  # most inputs are no tables in a store

    session = botocore.session.Session(profile=storage.profile)
    options = {
        "endpoint_url": storage.endpoint_url or session.get_config_variable("endpoint_url"),
        "region": session.get_config_variable("region"),
    }
    credentials = None if storage.anonymous else session.get_credentials()
    if credentials is not None:
        frozen = credentials.get_frozen_credentials()
        options["access_key_id"] = frozen.access_key
        options["secret_access_key"] = frozen.secret_key
        options["session_token"] = frozen.token
    return {name: str(value) for name, value in options.items() if value}


def delta_options(table: Location) -> dict[str, str] | None:
    """Options for a Delta table on a store; None on a disk."""
    if table.uri.startswith("abfs://"):  # the environment has the rest
        anonymous = {"azure_skip_signature": "true"} if table.storage.anonymous else {}
        return {"allow_http": "true", **anonymous}
    if not table.uri.startswith("s3://"):
        return None
    options = {f"AWS_{name.upper()}": value for name, value in s3_options(table.storage).items()}
    if options.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    if table.storage.anonymous:
        options["AWS_SKIP_SIGNATURE"] = "true"
    return options


def iceberg_properties(storage: StorageConfig) -> dict[str, str]:
    """Properties of pyiceberg's access to S3."""
    named = {"endpoint_url": "endpoint"}
    return {
        f"s3.{named.get(name, name).replace('_', '-')}": value
        for name, value in s3_options(storage).items()
    }


def with_sizes(files: Sequence[FileInfo]) -> list[FileInfo]:
    """The files of a version of a table with size and etag.

    Raises:
        InputError: A file is gone.
    """

    def look(file: FileInfo) -> FileInfo:
        assert file.rows is not None
        table = file.rows.table
        try:
            found = file.location.info()
        except InputError:
            raise InputError(
                f"{file.location}: no such file, and version {table.version} of the {table.kind} "
                f"table {table.uri} needs it: a vacuum or somebody has removed it. Name a newer "
                f"version, {table.kind}://{table.uri} is the newest, or restore the file"
            ) from None
        return replace(file, size=found.size, etag=found.etag)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(look, files))


def file_at(address: str, table: Location) -> Location:
    """The location of a file that a table's metadata names, relative to the table or not."""
    scheme, has_scheme, _ = address.partition("://")
    if address.startswith("file:"):
        return locate(address.removeprefix("file:").removeprefix("//"), table.storage)
    if has_scheme:
        is_hadoop = scheme in ("s3a", "s3n")
        return locate(f"s3{address[len(scheme) :]}" if is_hadoop else address, table.storage)
    return locate(address, table.storage) if address.startswith("/") else table / address


def uri_of(file: Location) -> str:
    """The address of a file with its scheme, as pyiceberg names it."""
    return f"file://{file.path}" if file.is_local else file.uri
