"""Iceberg tables: those of a catalog that pyiceberg's configuration names, and of a directory.

A catalog is one of ``~/.pyiceberg.yaml`` or of the variables ``PYICEBERG_CATALOG__NAME__URI``, …
``NAME/namespace.table`` is its table; where no catalog is called so, it is a directory.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError, InputError, LightSANsError, StorageError
from lightsans.storage.location import Location, locate
from lightsans.warehouse.access import iceberg_properties, require_package, uri_of

_METADATA = re.compile(r"(?:v(\d+)|(\d+)-.*)\.metadata\.json(?:\.gz)?")
_IN_CATALOG = re.compile(r"([^/.:~][^/:]*)/([^/]+(?:\.[^/]+)+)")


@dataclass(frozen=True, slots=True)
class IcebergTable:
    """An opened table."""

    name: str
    """Its address without the scheme, the same from wherever it is read."""
    place: Location
    """Its directory, or the metadata file that was named."""
    opened: Any
    """The table of pyiceberg."""


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """Name of a table in a catalog."""

    catalog: str
    name: str
    """Namespace and table, with a dot between."""

    def __str__(self) -> str:
        return f"{self.catalog}/{self.name}"


def open_iceberg(address: str, storage: StorageConfig) -> IcebergTable:
    """Open the newest state of a table.

    Args:
        address: ``CATALOG/namespace.table``, the directory of a table, or one of its
            ``.metadata.json`` files.
        storage: Access to stores.

    Raises:
        ConfigError: pyiceberg is not installed, or the catalog cannot be used.
        InputError: There is no such table.
    """
    require_package("Iceberg", address)
    found = find_catalog(address)
    if found is not None:
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            with told(found):
                opened = open_catalog(found, storage).load_table(found.name)
        except (NoSuchTableError, NoSuchNamespaceError):
            raise InputError(f"iceberg://{found}: the catalog has no such table") from None
        place = locate(str(opened.location()), storage)
        return IcebergTable(str(found), place, opened)
    place = locate(address, storage)
    return IcebergTable(place.uri, place, _open_directory(address, place))


def is_catalog_name(address: str) -> bool:
    """Whether an address has the form of a catalog's table, whatever is configured here."""
    return _IN_CATALOG.fullmatch(address) is not None


def find_catalog(address: str) -> CatalogTable | None:
    """The table of a catalog that an address names; None where no catalog is called so."""
    found = _IN_CATALOG.fullmatch(address)
    if found is None or found[1] not in known_catalogs():
        return None
    return CatalogTable(found[1], found[2])


def known_catalogs() -> list[str]:
    """Names of the catalogs that pyiceberg is told of."""
    from pyiceberg.utils.config import Config

    return list(Config().get_known_catalogs())


def describe_configuration() -> str:
    """Tell in a message where catalogs are configured, and which there are."""
    known = ", ".join(known_catalogs()) or "none"
    return f"pyiceberg's configuration (~/.pyiceberg.yaml), which has: {known}"


def open_catalog(table: CatalogTable, storage: StorageConfig) -> Any:
    """The catalog of a table; its own settings win over those of ``storage``."""
    from pyiceberg.catalog import load_catalog
    from pyiceberg.utils.config import Config

    properties: dict[str, Any] = dict(iceberg_properties(storage))
    properties.update(Config().get_catalog_config(table.catalog) or {})
    with told(table):
        return load_catalog(table.catalog, **properties)


@contextmanager
def told(table: CatalogTable) -> Iterator[None]:
    """Within the block, errors of a catalog that say nothing of it name it."""
    from pyiceberg.exceptions import (
        CommitFailedException,
        NoSuchNamespaceError,
        NoSuchTableError,
        TableAlreadyExistsError,
        ValidationException,
    )

    try:
        yield
    except (LightSANsError, NoSuchTableError, NoSuchNamespaceError):
        raise
    except (CommitFailedException, TableAlreadyExistsError, ValidationException):
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        message = f"iceberg://{table}: catalog {table.catalog}: {words}"
        if isinstance(error, OSError):
            again = "run the same command again when it answers"
            raise StorageError(f"{message}; {again}") from error
        raise ConfigError(
            f"{message}. Catalogs are told in ~/.pyiceberg.yaml, or in variables "
            f"PYICEBERG_CATALOG__{table.catalog.upper()}__…"
        ) from error


def is_table(directory: Location) -> bool:
    """Whether a directory is an Iceberg table itself."""
    return any(map(_METADATA.fullmatch, (directory / "metadata").children()))


def _open_directory(address: str, table: Location) -> Any:
    from pyiceberg.exceptions import ValidationError
    from pyiceberg.table import StaticTable

    is_file = table.uri.endswith((".json", ".json.gz"))
    file = table if is_file else _newest_metadata(address, table)
    properties = iceberg_properties(table.storage) if file.uri.startswith("s3://") else {}
    try:
        return StaticTable.from_metadata(uri_of(file), properties)
    except (OSError, ValueError, ValidationError) as error:
        words = " ".join(str(error).split())[:300]
        raise InputError(f"{file}: cannot be read as an Iceberg table: {words}") from None


def _newest_metadata(address: str, table: Location) -> Location:
    """The metadata with the highest number, as tables without a catalog go by."""
    directory = table / "metadata"
    found = [(match, name) for name in directory.children() if (match := _METADATA.fullmatch(name))]
    if not found:
        hint = ""
        if _IN_CATALOG.fullmatch(address):
            name = address.partition("/")[0]
            hint = f"; nor is {name} a catalog of {describe_configuration()}"
        raise InputError(f"{table}: no Iceberg table: {directory} has no *.metadata.json{hint}")
    newest = max(int(match[1] or match[2]) for match, _ in found)
    names = [name for match, name in found if int(match[1] or match[2]) == newest]
    if len(names) > 1:  # two writers: the catalog alone knows which one has won
        raise InputError(
            f"{table}: {' and '.join(names)} are both its newest metadata, and only its catalog "
            "knows which counts; name it there, iceberg://CATALOG/namespace.table, or name that "
            "file: iceberg://FILE"
        )
    return directory / names[0]
