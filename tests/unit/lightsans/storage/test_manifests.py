"""Manifests: finished directories are found by them, and what is wrong in one is named."""

import json
import shutil
import threading
from dataclasses import replace

import pytest

from lightsans.errors import InputError
from lightsans.storage import manifests
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    JudgedModel,
    ModelManifest,
    RunManifest,
)
from lightsans.storage.manifests import (
    finished_directories,
    is_finished,
    manifest_json,
    read_manifest,
    write_manifest,
)
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest, run_manifest, run_part
from tests.recorded import DATASET, MODEL, RECORDED, RUN

JUDGED = JudgedModel(model_id="j", weights_sha256="ab", dataset_id="d", method="continue")


@pytest.fixture
def parent(tmp_path):
    parent = local(tmp_path / "recommendations")
    for number, name in enumerate("cab"):
        manifest = run_manifest(name, created_at=f"2026-01-0{number + 1}")
        (parent / name / "manifest.json").write_json(manifest_json(manifest))
    (parent / "unfinished" / "part").write_bytes(b"")
    (parent / "LATEST").write_bytes(b"a")
    return parent


def test_finished_directories_come_oldest_first(parent):
    assert [name for name, _ in finished_directories(RunManifest, parent)] == ["c", "a", "b"]
    assert finished_directories(RunManifest, parent.parent / "nowhere") == []
    assert is_finished(parent / "a")
    assert not is_finished(parent / "unfinished")


def test_a_manifest_that_cannot_be_read_is_named_or_passed_over(parent):
    (parent / "my backup" / "manifest.json").write_bytes(b"[]")
    with pytest.raises(InputError, match=r"my backup/manifest\.json: the content is \[\]"):
        finished_directories(RunManifest, parent)
    said: list[InputError] = []
    assert len(finished_directories(RunManifest, parent, said.append)) == 3
    assert [str(error).partition(": ")[0] for error in said] == [
        str(parent / "my backup" / "manifest.json")
    ]


def test_manifests_are_not_read_one_after_the_other(parent, monkeypatch):
    together = threading.Barrier(5, timeout=10)

    def read(kind, directory):
        together.wait()  # passes only when all are asked for at once
        return read_manifest(kind, directory)

    monkeypatch.setattr(manifests, "read_manifest", read)
    assert len(finished_directories(RunManifest, parent)) == 3


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (DatasetManifest, f"datasets/{DATASET}"),
        (ModelManifest, f"models/{MODEL}"),
        (RunManifest, f"recommendations/{RUN}"),
    ],
)
def test_a_recorded_manifest_is_read_whole(kind, place):
    manifest = read_manifest(kind, local(RECORDED / place))
    recorded = json.loads((RECORDED / place / "manifest.json").read_bytes())
    assert manifest is not None
    assert manifest_json(manifest) == recorded


@pytest.mark.parametrize(
    "manifest",
    [
        dataset_manifest(cutoffs={"valid": "2020"}),
        model_manifest(refit=True, judged=JUDGED),
        run_manifest(judged=JUDGED),
        run_manifest(parts=(run_part("part-00000.parquet", users=3),), settings={"k": 3}),
    ],
)
def test_what_was_written_is_what_is_read(manifest, tmp_path):
    directory = local(tmp_path)
    written = write_manifest(directory, manifest)
    assert read_manifest(type(manifest), directory) == written
    assert replace(written, created_at=None, versions=None) == manifest


def read_changed(tmp_path, change):
    """The recorded manifest of a run, after a change of its JSON."""
    shutil.copytree(RECORDED / "recommendations", tmp_path / "runs")
    file = tmp_path / "runs" / RUN / "manifest.json"
    content = json.loads(file.read_bytes())
    change(content)
    file.write_text(json.dumps(content))
    return read_manifest(RunManifest, local(file.parent))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("users"), "users is missing"),
        (lambda content: content.update(users="3"), "users is '3'; expected an integer"),
        (lambda content: content.update(map_items=1), "map_items is 1; expected true or false"),
        (lambda content: content.update(parts={}), "parts is {}; expected a list"),
        (
            lambda content: content["parts"][1]["files"][0].pop("rows"),
            r"parts\[1\].files\[0\].rows is missing",
        ),
        (lambda content: content.update(kind="model"), "a model; expected a recommendations"),
    ],
)
def test_the_file_and_the_wrong_field_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=rf"{RUN}/manifest\.json: .*{message}"):
        read_changed(tmp_path, change)


def test_a_manifest_that_is_no_json_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json: not JSON"):
        read_manifest(ModelManifest, local(tmp_path))


def test_fields_of_later_versions_are_passed_over(tmp_path):
    manifest = read_changed(
        tmp_path, lambda content: content["parts"][0].update(colour="red", files=[])
    )
    assert manifest.parts[0].files == ()


def test_what_early_versions_did_not_write_has_its_default(tmp_path):
    def remove(content):
        for name in ("layout", "weights_sha256", "dataset_users"):
            del content[name]

    manifest = read_changed(tmp_path, remove)
    assert (manifest.is_long, manifest.weights_sha256, manifest.dataset_users) == (
        False,
        None,
        None,
    )
    assert manifest.question.settings["k"] == 5
