"""Tables of a warehouse on a store, from the log to the lists: Delta, and Iceberg by catalog."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lightsans.config import RunConfig, StorageConfig
from lightsans.config.file import load_config
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.storage.location import locate
from lightsans.storage.parts import sequence_parts
from lightsans.warehouse.access import delta_options
from lightsans.warehouse.catalogs import CatalogTable, open_catalog
from pipelines.nightly.inputs import pin_inputs
from pipelines.preprocess.stage import PreprocessResult, run_preprocess
from pipelines.score.table import write_to_table
from tests import scored_here
from tests.warehouses import made_catalog

EVENTS = (
    "data.columns.rating=null",
    "data.columns.event=kind",
    "data.events={view: {input: true}, buy: {input: true, target: true}}",
    "data.where=shop != 'b' and price > 0",
    "data.min_user_interactions=1",
    "data.min_item_interactions=1",
    "data.num_parts=2",
)


def day(number: int) -> pa.Table:
    """Forty users view three items and buy the last; a third of the rows is of shop b."""
    places = [(user, step) for user in range(40) for step in range(4)]
    return pa.table(
        {
            "user_id": [f"u{user}" for user, _ in places],
            "item_id": [f"i{(user + min(step, 2) + 3 * number) % 23}" for user, step in places],
            "timestamp": [86_400 * number + 100 * step + user for user, step in places],
            "kind": ["buy" if step == 3 else "view" for _, step in places],
            "shop": ["abc"[user % 3] for user, _ in places],
            "price": pa.array([(user + step) % 5 for user, step in places], pa.int16()),
        }
    )


def preprocess(
    root: Path, source: str, storage: StorageConfig, **settings: Any
) -> PreprocessResult:
    config = load_config(None, [f"root={root}", f"data.input={source}", *EVENTS]).config
    return run_preprocess(replace(config, storage=storage, data=replace(config.data, **settings)))


def histories(result: PreprocessResult) -> dict[str, tuple[list[str], list[str]]]:
    """Inputs and targets of each user by raw id: items have other numbers where a base has them."""
    names = [None, *Vocabulary.load(result.location / "items.parquet").raw_item_ids.to_pylist()]
    rows = (
        row
        for part in sequence_parts(result.location, result.manifest)
        for row in part.read_table().to_pylist()
    )
    return {
        row["user_id"]: (
            [str(names[item]) for item in row["item_ids"]],
            [str(names[item]) for item in row["target_ids"]],
        )
        for row in rows
    }


@pytest.fixture
def storage(s3_server) -> StorageConfig:
    return StorageConfig(endpoint_url=s3_server.endpoint_url)


def test_a_delta_table_on_s3_gives_the_dataset_of_its_rows_also_where_a_base_cannot_help(
    ray_cluster, s3_server, storage, tmp_path, capfd
):
    """With conditions on columns, one of them a partition that no file has, and with events."""
    table = s3_server.uri("warehouse/my log")
    options = delta_options(locate(table, storage))
    for number in range(2):
        write_deltalake(
            table, day(number), mode="append", partition_by=["shop"], storage_options=options
        )
    source = f"delta://{table}"
    first = preprocess(tmp_path / "root", source, storage)
    write_deltalake(table, day(2), mode="append", storage_options=options)
    DeltaTable(table, storage_options=options).optimize.compact()  # mixes them with rows of before
    DeltaTable(table, storage_options=options).vacuum(
        0, dry_run=False, enforce_retention_duration=False
    )
    pq.write_table(pa.concat_tables(map(day, range(3))), tmp_path / "all.parquet")
    whole = preprocess(tmp_path / "plain", f"{tmp_path}/all.parquet", storage)
    now = preprocess(tmp_path / "root", source, storage, base=first.dataset_id)
    assert now.manifest.fingerprint == whole.manifest.fingerprint
    assert [each.version for each in now.manifest.tables or ()] == [5]
    assert "read anew" in capfd.readouterr().err


def test_a_base_adds_the_files_that_a_table_on_s3_got_since_and_not_what_was_compacted(
    ray_cluster, s3_server, storage, tmp_path, capfd
):
    table = s3_server.uri("warehouse/with base")
    options = delta_options(locate(table, storage))
    for number in range(2):
        write_deltalake(table, day(number), mode="append", storage_options=options)
    first = preprocess(tmp_path / "root", f"delta://{table}", storage)
    DeltaTable(table, storage_options=options).optimize.compact()
    write_deltalake(table, day(2), mode="append", storage_options=options)
    pq.write_table(pa.concat_tables(map(day, range(3))), tmp_path / "all.parquet")
    whole = preprocess(tmp_path / "plain", f"{tmp_path}/all.parquet", storage)
    now = preprocess(tmp_path / "root", f"delta://{table}", storage, base=first.dataset_id)
    assert histories(now) == histories(whole)
    assert "read anew" not in capfd.readouterr().err


def test_a_night_reads_the_version_of_its_first_attempt_again(s3_server, storage, tmp_path):
    table = s3_server.uri("warehouse/nights")
    options = delta_options(locate(table, storage))
    write_deltalake(table, day(0), storage_options=options)
    config = RunConfig(root=str(tmp_path), storage=storage)
    config = replace(config, data=replace(config.data, input=(f"delta://{table}",)))
    remembered, moment = (
        locate(f"{tmp_path}/inputs.json", storage),
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert pin_inputs(config, remembered, moment) == config
    write_deltalake(table, day(1), mode="append", storage_options=options)
    assert pin_inputs(config, remembered, moment).data.input == (f"delta://{table}@v0",)


def test_an_iceberg_table_of_a_catalog_on_s3_gives_the_dataset_of_its_rows(
    ray_cluster, s3_server, storage, tmp_path, monkeypatch
):
    made_catalog(monkeypatch, tmp_path, warehouse=s3_server.uri("iceberg"))
    catalog = open_catalog(CatalogTable("prod", "shop.log"), storage)
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.log", schema=day(0).schema)
    for number in range(2):
        table.append(day(number))
    table.append(day(9))
    table.delete(f"timestamp >= {9 * 86_400}")
    pq.write_table(pa.concat_tables(map(day, range(2))), tmp_path / "all.parquet")
    whole = preprocess(tmp_path / "plain", f"{tmp_path}/all.parquet", storage)
    found = preprocess(tmp_path / "root", "iceberg://prod/shop.log", storage)
    assert found.manifest.fingerprint == whole.manifest.fingerprint
    assert [each.uri for each in found.manifest.tables or ()] == ["prod/shop.log"]


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_run_is_committed_to_a_table_on_s3_by_tasks_and_once(
    ray_cluster, s3_server, storage, tmp_path, monkeypatch, kind
):
    made_catalog(monkeypatch, tmp_path, warehouse=s3_server.uri("lists"))
    uri = "iceberg://prod/shop.lists" if kind == "iceberg" else f"delta://{s3_server.uri('delta')}"
    with monkeypatch.context() as patch:
        scored_here.without_ray(patch)
        root = scored_here.make_root(tmp_path / "root")
        run = scored_here.score(root).run_id
    config = scored_here.configure(root, f"score.table.uri={uri}")
    config = replace(config, storage=storage)
    for _ in range(2):
        write_to_table(config, run)
    if kind == "delta":
        table = s3_server.uri("delta")
        opened = DeltaTable(table, storage_options=delta_options(locate(table, storage)))
        rows, commits = opened.to_pyarrow_table(), opened.version() + 1
    else:
        found = CatalogTable("prod", "shop.lists")
        opened = open_catalog(found, storage).load_table(found.name)
        rows, commits = opened.scan().to_arrow(), len(opened.snapshots())
    assert (rows.num_rows, commits) == (scored_here.USERS, 1)
    assert len(set(rows["user_id"].to_pylist())) == scored_here.USERS
