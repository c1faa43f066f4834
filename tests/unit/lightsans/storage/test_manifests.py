"""Finished directories: found by their manifests, which are read at the same time."""

import threading

import pytest

from lightsans.storage import manifests
from lightsans.storage.manifests import finished_directories, read_manifest
from tests.factories import local


@pytest.fixture
def parent(tmp_path):
    parent = local(tmp_path / "recommendations")
    for number, name in enumerate("cab"):
        (parent / name / "manifest.json").write_json({"created_at": f"2026-01-0{number + 1}"})
    (parent / "unfinished" / "part").write_bytes(b"")
    (parent / "LATEST").write_bytes(b"a")
    return parent


def test_finished_directories_come_oldest_first(parent):
    assert [name for name, _ in finished_directories(parent)] == ["c", "a", "b"]
    assert finished_directories(parent.parent / "nowhere") == []


def test_manifests_are_not_read_one_after_the_other(parent, monkeypatch):
    together = threading.Barrier(5, timeout=10)

    def read(directory):
        together.wait()  # passes only when all are asked for at once
        return read_manifest(directory)

    monkeypatch.setattr(manifests, "read_manifest", read)
    assert len(finished_directories(parent)) == 3
