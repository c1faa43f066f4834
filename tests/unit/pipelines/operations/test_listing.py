"""The files of a root by kind."""

from datetime import UTC, datetime, timedelta

from pipelines.operations.listing import list_root
from tests.factories import local


def make(root, *paths):
    for path in paths:
        target = root / path
        target.parent.require_directory()
        with open(target.path, "wb") as file:
            file.write(b"12345678")


def test_sizes_are_told_by_kind_and_checkpoints_apart_from_their_models(tmp_path):
    root = local(tmp_path)
    make(
        root,
        "datasets/d/items.parquet",
        "models/m/model.safetensors",
        "models/m/checkpoints/epoch-00001/progress.json",
        "models/m/checkpoints/epoch-00001/owner/model.safetensors",
        "datasets/d/.items.parquet.0a1b2c3d.tmp",
        "notes.txt",
    )
    sizes = list_root(root).sizes()
    assert {kind: size["files"] for kind, size in sizes.items()} == {
        "checkpoints": 2,
        "datasets": 1,
        "models": 1,
        "unfinished files": 1,
        "other": 1,
    }
    assert sizes["checkpoints"]["bytes"] == 16


def test_a_directory_is_counted_without_others_whose_name_begins_alike(tmp_path):
    root = local(tmp_path)
    make(root, "datasets/d/a", "datasets/d/b/c", "datasets/d1/a", "datasets/d[1]/a")
    listing = list_root(root)
    assert listing.bytes("datasets/d") == 16
    assert listing.count("datasets/d/b/") == 1
    assert listing.count("datasets/d[1]") == 1
    changed = listing.changed_at("datasets/d")
    assert changed is not None
    assert datetime.now(UTC) - changed < timedelta(minutes=1)


def test_a_root_that_is_not_there_has_no_files(tmp_path):
    listing = list_root(local(tmp_path) / "nowhere")
    assert (listing.sizes(), listing.total_bytes()) == ({}, 0)
    assert listing.changed_at("datasets/d") is None
