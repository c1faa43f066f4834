"""Whole datasets through Ray, compared with what plain Python makes of the same log."""

import functools
import hashlib
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import ColumnsConfig, DataConfig, RunConfig, StorageConfig
from lightsans.dataset.loading import load_shards
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError, LightSANsError
from lightsans.storage.location import locate
from lightsans.storage.manifests import is_finished
from lightsans.storage.parts import sequence_parts
from lightsans.storage.records import to_json
from pipelines.preprocess import exchange
from pipelines.preprocess import stage as preprocess
from pipelines.preprocess.identity import dataset_id
from pipelines.preprocess.stage import run_preprocess
from tests.factories import local
from tests.logs_on_disk import write_bytes, write_csv, write_jsonl, write_parquet

pytestmark = pytest.mark.usefixtures("ray_cluster")


def make(root, paths, storage=None, force=False, **settings):
    """Run preprocessing on some files."""
    paths = paths if isinstance(paths, list) else [paths]
    settings = {"num_parts": 3, **settings}
    data = DataConfig(input=tuple(map(str, paths)), **settings)
    config = RunConfig(root=str(root), storage=storage or StorageConfig(), data=data)
    return run_preprocess(config, force=force)


def sequences_of(result):
    """Every row of ``sequences/`` by user, with raw item ids."""
    vocabulary = Vocabulary.load(result.location / "items.parquet")
    names = np.array([None, *vocabulary.raw_item_ids.to_pylist()], object)
    found = {}
    for part in sequence_parts(result.location, result.manifest):
        table = part.read_table()
        keys = list(zip(table["bucket"].to_pylist(), table["user_id"].to_pylist(), strict=True))
        assert keys == sorted(keys)
        for row in table.to_pylist():
            row["items"] = names[row["item_ids"]].tolist()
            row["also_seen"] = names[row["also_seen"]].tolist()
            assert row["user_id"] not in found
            found[row["user_id"]] = row
    assert len(found) == result.manifest.users
    return found


@functools.cache
def read_inter(path):
    """(user, item, rating, timestamp) of each line, in order."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split("\t") for line in lines)
    return [(user, item, float(rating), int(time)) for user, item, rating, time in rows]


def stable_sequences(rows):
    """Each user's items: oldest first, rows of one time in the order of the file."""
    histories: dict[str, list[str]] = {}
    for user, item, _, _ in sorted(rows, key=lambda row: row[3]):  # sorted() is stable
        histories.setdefault(user, []).append(item)
    return histories


def items_of(result):
    return {user: row["items"] for user, row in sequences_of(result).items()}


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m"])
def test_movielens_equals_a_stable_sort_on_one_machine(tmp_path, shared_data, name):
    """Ties in ML-1M decide the last item of 2,544 of 6,040 users: input order must survive."""
    path = shared_data / f"{name}.inter"
    expected = stable_sequences(read_inter(path))
    result = make(tmp_path, path)
    assert items_of(result) == expected
    other = make(tmp_path, path, num_parts=None, read_unit_bytes=700_001)
    assert other.dataset_id != result.dataset_id
    assert other.manifest.fingerprint == result.manifest.fingerprint  # item by item
    vocabulary = Vocabulary.load(result.location / "items.parquet")
    counts = Counter(item for items in expected.values() for item in items)
    pairs = zip(vocabulary.raw_item_ids.to_pylist(), vocabulary.counts.tolist(), strict=True)
    assert list(pairs) == sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def test_movielens_1m_filtered_by_rating_has_the_published_size(tmp_path, shared_data):
    path = shared_data / "ml-1m.inter"
    result = make(tmp_path, path, min_rating=3.0)
    kept = [row for row in read_inter(path) if row[2] >= 3]
    expected = stable_sequences(kept)
    assert (len(kept), len(expected)) == (836_478, 6_039)
    found = sequences_of(result)
    assert {user: row["items"] for user, row in found.items() if row["trainable"]} == expected
    manifest = result.manifest
    assert (manifest.users, manifest.trainable_users) == (6_040, 6_039)
    assert manifest.items == 3_628
    assert manifest.interactions == manifest.rows.left["after_min_rating"] == 836_478
    seen: dict[str, set[str]] = {}
    for user, item, rating, _ in read_inter(path):
        if rating < 3:
            seen.setdefault(user, set()).add(item)
    items = {row[1] for row in kept}
    for user, row in found.items():
        assert set(row["also_seen"]) == (seen.get(user, set()) & items) - set(row["items"])


@pytest.mark.parametrize(
    ("name", "min_rating", "min_user", "min_item"),
    [("ml-100k", None, 40, 20), ("ml-1m", 3.0, 5, 5)],
)
def test_the_k_core_of_movielens_equals_a_naive_loop(
    tmp_path, shared_data, capfd, name, min_rating, min_user, min_item
):
    path = shared_data / f"{name}.inter"
    least = {"min_user_interactions": min_user, "min_item_interactions": min_item}
    result = make(tmp_path, path, min_rating=min_rating, **least)
    rows, size = [row for row in read_inter(path) if row[2] >= (min_rating or 0)], None
    while len(rows) != size:
        size = len(rows)
        users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        rows = [row for row in rows if users[row[0]] >= min_user and items[row[1]] >= min_item]
    trainable = {user: r["items"] for user, r in sequences_of(result).items() if r["trainable"]}
    assert trainable == stable_sequences(rows)
    assert result.manifest.rows.left["after_k_core"] == len(rows)
    assert result.manifest.items == len({row[1] for row in rows})
    num_rounds = result.manifest.k_core_rounds
    assert num_rounds >= 2
    assert f"preprocess: k-core, round {num_rounds}: " in capfd.readouterr().err


ROWS = [
    (f"u{n * n % 37}", f"ï{n * 7 % 23}", 1_000_000 + n // 3) for n in range(400)
] + [("007", "ï1", 5), ("lonely", "ï2", 6)]  # fmt: skip


def test_one_log_gives_one_dataset_whatever_its_format(tmp_path):
    """Also whatever its compression, cut into files, unit of time, parts and pieces."""
    names = ("user_id", "item_id", "timestamp")
    positions = ColumnsConfig(user=0, item=1, timestamp=2)
    headless = {"header": False, "columns": positions}
    inter = "\t".join(f"{name}:token" for name in names)
    lines = "".join("\t".join(map(str, row)) + "\n" for row in ROWS)
    table = pa.table(dict(zip(names, zip(*ROWS, strict=True), strict=True)))
    table = table.set_column(2, "timestamp", table["timestamp"].cast(pa.timestamp("s", "UTC")))
    pq.write_table(table, tmp_path / "time.parquet", row_group_size=50)
    (tmp_path / "many").mkdir()
    pieces = [
        write_csv(tmp_path / "many" / f"{n}.csv", ROWS[100 * n : 100 * n + 100]) for n in range(5)
    ]
    inputs: list[tuple[Any, dict[str, Any]]] = [
        (write_csv(tmp_path / "a.csv", ROWS), {"num_parts": 1, "read_unit_bytes": 500}),
        (write_csv(tmp_path / "b.csv", ROWS, "::"), {"separator": "::"}),
        (write_csv(tmp_path / "c.csv.gz", ROWS, "::", False), {"separator": "::", **headless}),
        (write_csv(tmp_path / "d.csv.bz2", ROWS), {"read_unit_bytes": 500}),
        (write_csv(tmp_path / "e.csv.zst", ROWS), {"newlines_in_values": True}),
        (write_jsonl(tmp_path / "f.jsonl", ROWS), {"num_parts": 20, "read_unit_bytes": 5000}),
        (write_bytes(tmp_path / "g.inter", f"{inter}\n{lines}".encode()), {}),
        (write_parquet(tmp_path / "h.parquet", ROWS, 64), {"read_unit_bytes": 1}),
        (tmp_path / "time.parquet", {"timestamp_unit": "ms"}),
        (pieces, {}),
        (tmp_path / "many" / "*.csv", {}),
    ]
    expected = stable_sequences([(user, item, 0.0, time) for user, item, time in ROWS])
    fingerprints = {}
    for paths, settings in inputs:
        result = make(tmp_path / "root", paths, **settings)
        fingerprints[str(paths)] = result.manifest.fingerprint
        if len(fingerprints) == 1:
            assert items_of(result) == expected
            assert items_of(result)["lonely"] == ["ï2"]
    assert len(set(fingerprints.values())) == 1, fingerprints


def test_a_dataset_is_the_same_on_s3(tmp_path, s3_server):
    """Input and root are objects of a real server; nothing of its credentials is written."""
    storage = StorageConfig(endpoint_url=s3_server.endpoint_url)
    local = write_csv(tmp_path / "a.csv", ROWS)
    for name in ("logs/a.csv", "half/1.csv"):
        locate(s3_server.uri(f"preprocess/{name}"), storage).write_bytes(local.read_bytes())
    here = make(tmp_path / "root", local)
    settings = {"storage": storage, "read_unit_bytes": 2000, "num_parts": 5}
    root = s3_server.uri("preprocess/root")
    there = make(root, s3_server.uri("preprocess/logs/*.csv"), **settings)
    assert there.manifest.fingerprint == here.manifest.fingerprint
    assert items_of(there) == items_of(here)
    assert make(root, s3_server.uri("preprocess/logs/*.csv"), **settings).skipped
    assert there.manifest.input[0].etag == hashlib.md5(local.read_bytes()).hexdigest()
    assert "lightsans-test-secret" not in (there.location / "manifest.json").read_bytes().decode()
    assert (there.location / "_work").children() == []


NINE_ROWS = [
    b"user_id,item_id,timestamp,rating",
    b"ann,x,2001-01-01,5",
    b"ann,y,2001-01-02,5",
    b"ann,x,2001-01-03,5",  # repeated
    b"bob,x,2001-01-01,5",
    b"bob,y,2001-01-02,1",  # rated low
    b"eve,x,2001-01-02,5",  # excluded
    b"ann,z,2002-01-01,5",  # too new
    b"new,z,2002-01-01,5",  # too new, and nothing else of this user
    b"cid,x",  # broken
]
FILTERS = {
    "as_of": "2002-01-01", "dedupe": "first", "min_rating": 3.0, "max_reject_fraction": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def nine_rows(ray_cluster, tmp_path_factory):
    """The directory of the nine rows, of the users to leave out, and the dataset made of them."""
    directory = tmp_path_factory.mktemp("nine")
    log = write_bytes(directory / "a.csv", b"\n".join(NINE_ROWS))
    erased = write_bytes(directory / "erased.txt", b"eve\r\n\nnobody\n")
    return directory, make(directory / "root", log, exclude_users=str(erased), **FILTERS)


def read_all(directory):
    return pa.concat_tables((directory / name).read_table() for name in directory.children())


def test_the_manifest_accounts_for_every_row(nine_rows):
    """Nine rows: one broken, one excluded, one too new, one repeated, one rated low."""
    _, result = nine_rows
    assert to_json(result.manifest.rows) == {
        "read": 9, "rejected": {"wrong_number_of_fields": 1}, "excluded": 1, "valid": 7,
        "exact_duplicates": 0, "after_as_of": 5, "after_dedupe": 4, "after_min_rating": 3,
        "after_k_core": 3,
    }  # fmt: skip
    assert sum(part.rows for part in result.manifest.parts) == 5


def test_the_manifest_names_its_input_its_settings_and_its_time(nine_rows):
    directory, result = nine_rows
    assert result.manifest.data["exclude_users"] == str(directory / "erased.txt")
    assert result.manifest.input[0].uri == str(directory / "a.csv")
    assert result.manifest.time_range[1] == "2002-01-01T00:00:00+00:00"
    assert "_work" not in result.location.children()


def test_sequences_hold_what_is_learnt_from_and_what_was_only_seen(nine_rows):
    found = sequences_of(nine_rows[1])
    assert {user: (row["items"], row["also_seen"]) for user, row in found.items()} == {
        "ann": (["x", "y"], []), "bob": (["x"], ["y"]),
    }  # fmt: skip
    assert found["ann"]["timestamps"] == [
        int(datetime.fromisoformat(day).timestamp()) * 10**6
        for day in ("2001-01-01T00:00Z", "2001-01-02T00:00Z")
    ]


def test_interactions_keep_every_valid_row_and_rejects_the_others_with_their_place(nine_rows):
    directory, result = nine_rows
    stored = read_all(result.location / "interactions")
    assert sorted(stored["user_id"].to_pylist()) == ["ann"] * 4 + ["bob"] * 2 + ["new"]
    assert read_all(result.location / "rejects").to_pylist() == [
        {"file": str(directory / "a.csv"), "position": sum(len(r) + 1 for r in NINE_ROWS[:9]),
         "reason": "wrong_number_of_fields"}
    ]  # fmt: skip


def test_shards_share_out_the_users_of_a_dataset(nine_rows):
    _, result = nine_rows
    shards = load_shards(result.location, result.manifest, [0, 1, 2, 3], 4)
    assert sum(len(shard.lengths) for shard in shards.values()) == 2


def test_other_users_to_leave_out_are_another_dataset(nine_rows, tmp_path):
    directory, result = nine_rows
    settings = {"exclude_users": str(write_bytes(tmp_path / "erased.txt", b"eve\r\n\nnobody\n"))}
    log = directory / "a.csv"
    found = make(directory / "root", log, **settings, **FILTERS)
    assert (found.dataset_id, found.skipped) == (result.dataset_id, True)
    write_bytes(tmp_path / "erased.txt", b"bob\n")
    other = make(directory / "root", log, **settings, **FILTERS)
    assert other.dataset_id != result.dataset_id


def test_a_finished_dataset_is_found_and_force_makes_it_again(tmp_path, capfd):
    path = write_csv(tmp_path / "a.csv", ROWS)
    first = make(tmp_path / "root", path)
    assert not first.skipped
    assert "preprocess: 402 rows" in capfd.readouterr().err
    again = make(tmp_path / "root", path, max_reject_fraction=0.5, read_unit_bytes=999)
    assert again.skipped
    assert again.manifest == first.manifest
    assert "is up to date" in capfd.readouterr().err
    (first.location / "items.parquet").delete()
    forced = make(tmp_path / "root", path, force=True)
    assert (forced.dataset_id, forced.skipped) == (first.dataset_id, False)
    assert forced.manifest.fingerprint == first.manifest.fingerprint
    assert (first.location / "items.parquet").exists()
    write_csv(path, ROWS[:-1])
    config = RunConfig(root=str(tmp_path), data=DataConfig(input=(str(path),), num_parts=3))
    assert dataset_id(config) != first.dataset_id


def test_an_interrupted_run_goes_on_after_the_exchange(tmp_path, monkeypatch, capfd):
    path = write_csv(tmp_path / "a.csv", ROWS)
    whole = make(tmp_path / "whole", path)

    def fail(*_):
        raise LightSANsError("the power went off")

    with monkeypatch.context() as patch:
        patch.setattr(preprocess, "write_sequences", fail)
        with pytest.raises(LightSANsError, match="power"):
            make(tmp_path / "root", path)
    directory = local(tmp_path / "root" / "datasets" / whole.dataset_id)
    assert not is_finished(directory)
    before = {p: p.stat().st_mtime_ns for p in Path(directory.path).glob("interactions/*")}
    result = make(tmp_path / "root", path)
    assert "continuing" in capfd.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in Path(directory.path).glob("interactions/*")}
    assert result.manifest.fingerprint == whole.manifest.fingerprint


@pytest.mark.parametrize("by", ["ray data", "tasks"])
def test_either_exchange_writes_the_same_parts(tmp_path, monkeypatch, by):
    """Ray Data exchanges what is too large for one driver to keep count of."""
    path = write_csv(tmp_path / "a.csv", ROWS)
    expected = make(tmp_path / "expected", path, num_parts=7)
    monkeypatch.setattr(exchange, "_FEW_PIECES", 0 if by == "ray data" else 1000)
    result = make(tmp_path / "root", path, num_parts=7, read_unit_bytes=500)
    for file in sorted(Path(expected.location.path).glob("interactions/*")):
        assert (
            file.read_bytes()
            == (Path(result.location.path) / "interactions" / file.name).read_bytes()
        )
    assert result.manifest.fingerprint == expected.manifest.fingerprint


def test_no_part_is_written_without_the_rows_of_a_file_that_cannot_be_read(tmp_path):
    """A part with a note that it is finished would stay, and lack those rows for ever."""
    rows = write_parquet(tmp_path / "a.parquet", ROWS, 64)
    column = pq.ParquetFile(rows).metadata.row_group(3).column(0)
    content = bytearray(rows.read_bytes())
    content[column.data_page_offset : column.data_page_offset + 40] = b"?" * 40
    broken = write_bytes(tmp_path / "b.parquet", bytes(content))
    with pytest.raises(InputError, match=r"b\.parquet"):
        make(tmp_path / "root", [rows, broken], read_unit_bytes=1)
    assert not list(tmp_path.glob("root/datasets/*/interactions/*"))
    assert not list(tmp_path.glob("root/datasets/*/_work/part-*"))


def test_leftovers_of_an_interrupted_exchange_are_swept_away(tmp_path):
    path = write_csv(tmp_path / "a.csv", ROWS)
    whole = make(tmp_path / "whole", path)
    directory = tmp_path / "root" / "datasets" / whole.dataset_id
    for name in ("rejects/unit-00099.parquet", "_work/unit-00099.json", "interactions/part-x"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("half a file")
    result = make(tmp_path / "root", path)
    assert result.manifest.fingerprint == whole.manifest.fingerprint
    assert sorted(p.name for p in directory.iterdir()) == [
        "interactions", "interactions.json", "items.parquet", "manifest.json", "report",
        "sequences",
    ]  # fmt: skip
    assert not (directory / "interactions" / "part-x").exists()


def test_a_dataset_that_is_being_remade_is_not_there(tmp_path, monkeypatch):
    """The manifest goes first and comes last, so a reader never meets half of a dataset."""
    path = write_csv(tmp_path / "a.csv", ROWS)
    first = make(tmp_path / "root", path)
    seen = []

    def look(*_):
        seen.append(is_finished(first.location))
        raise LightSANsError("stop")

    monkeypatch.setattr(preprocess, "collect_interactions", look)
    with pytest.raises(LightSANsError, match="stop"):
        make(tmp_path / "root", path, force=True)
    assert seen == [False]
    assert not is_finished(first.location)
