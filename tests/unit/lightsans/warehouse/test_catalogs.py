"""Iceberg tables by the name that a catalog knows them by, as inputs."""

from pathlib import Path

import pyarrow as pa
import pytest

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError, InputError
from lightsans.storage.table_formats import TableVersion
from lightsans.warehouse.catalogs import CatalogTable, find_catalog, open_catalog
from lightsans.warehouse.tables import (
    added_since,
    list_table_or_files,
    pinned_inputs,
    table_directory,
    tables_of,
)
from tests.logs_on_disk import read_log
from tests.warehouses import made_catalog

STORAGE = StorageConfig()


@pytest.fixture(autouse=True)
def catalog(tmp_path: Path, monkeypatch):
    made_catalog(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)


def make_table(*names: str):
    rows = pa.table({"user_id": names, "item_id": names, "timestamp": list(range(len(names)))})
    opened = open_catalog(CatalogTable("prod", "shop.log"), STORAGE)
    opened.create_namespace_if_not_exists("shop")
    table = opened.create_table_if_not_exists("shop.log", schema=rows.schema)
    table.append(rows)
    return table


def items(name: str) -> list[str]:
    return sorted(item for _, item, _ in read_log(name).rows)


def test_a_table_is_read_as_its_catalog_says_and_pinned_by_its_name():
    first = make_table("a", "b").current_snapshot().snapshot_id
    second = make_table("c").current_snapshot().snapshot_id
    assert items("iceberg://prod/shop.log") == ["a", "b", "c"]
    assert items(f"iceberg://prod/shop.log@v{first}") == ["a", "b"]
    files = list_table_or_files("iceberg://prod/shop.log", STORAGE)
    assert pinned_inputs(files) == (f"iceberg://prod/shop.log@v{second}",)
    [now] = tables_of(files)
    before = TableVersion(kind="iceberg", uri="prod/shop.log", version=first)
    added = added_since(now, before, files)
    assert added is not None
    assert [file.location.uri for file in added] == [files[-1].location.uri]


def test_the_directory_of_a_table_is_found_by_every_one_of_its_names(tmp_path):
    table = make_table("a")
    directory = table.location().removeprefix("file://")
    metadata = table.metadata_location.removeprefix("file://")
    for address in ("prod/shop.log", directory, metadata):
        found = table_directory(f"iceberg://{address}", STORAGE)
        assert found is not None
        assert found.uri == directory
    assert table_directory(str(tmp_path), STORAGE) is None


def test_a_commit_that_lost_is_no_version_of_the_table():
    """A directory's newest metadata file may be of a writer whose commit the catalog refused."""
    table = make_table("a")
    lost = Path(table.metadata_location.removeprefix("file://")).parent / "00009-x.metadata.json"
    make_table("b")
    lost.write_bytes(Path(table.metadata_location.removeprefix("file://")).read_bytes())
    assert items("iceberg://prod/shop.log") == ["a", "b"]


def test_only_a_name_of_the_configuration_is_a_catalog():
    assert find_catalog("prod/shop.log") == CatalogTable("prod", "shop.log")
    assert find_catalog("prod/eu.shop.log") == CatalogTable("prod", "eu.shop.log")
    for address in (
        "other/shop.log",
        "/prod/shop.log",
        "prod/shop/log.d",
        "prod/log",
        "s3://prod/a.b",
    ):
        assert find_catalog(address) is None


def test_what_the_catalog_has_not_is_said_with_what_there_is():
    make_table("a")
    with pytest.raises(InputError, match=r"prod/shop\.lug: the catalog has no such table"):
        list_table_or_files("iceberg://prod/shop.lug", STORAGE)
    with pytest.raises(InputError, match=r"nor is other a catalog .*which has: prod"):
        list_table_or_files("iceberg://other/shop.log", STORAGE)


def test_a_catalog_that_cannot_be_used_is_told_in_one_line_that_names_it(monkeypatch):
    monkeypatch.setenv("PYICEBERG_CATALOG__BROKEN__URI", "sqlite:////nowhere/at/all.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__BROKEN__TYPE", "sql")
    with pytest.raises(ConfigError, match=r"iceberg://broken/shop\.log: catalog broken: "):
        list_table_or_files("iceberg://broken/shop.log", STORAGE)
    monkeypatch.setenv("PYICEBERG_CATALOG__ODD__TYPE", "nonsense")
    with pytest.raises(ConfigError, match=r"catalog odd: .*nonsense.*PYICEBERG_CATALOG__ODD__"):
        list_table_or_files("iceberg://odd/shop.log", STORAGE)
