"""Exports: files of one model, whenever they are read."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightsans import LightSANs
from lightsans.config.file import load_config
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.errors import InputError, NotFoundError
from lightsans.recommendations import serving_export
from lightsans.storage import model_files as files
from lightsans.storage.location import Location
from lightsans.storage.manifests import read_manifest, write_manifest
from pipelines.export import ServingManifest, run_export
from tests.factories import local
from tests.manifests import model_manifest
from tests.models import small_model

NAMES = ("user_encoder.pt2", "items.parquet", "item_vectors.npy")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Models a and b of different items. The program is left out: it takes seconds to trace."""
    root = local(tmp_path)
    monkeypatch.setattr(serving_export, "encoder_to_bytes", program_of)
    for seed, name in enumerate("ab"):
        write_model(root, name, seed)
    return root


def program_of(model):
    return bytes(model.item_table().cpu().numpy().tobytes())


def write_model(root, name, seed):
    torch.manual_seed(seed)
    model = small_model(6)
    directory, weights = root / "models" / name, files.weights_to_bytes(model)
    (directory / files.WEIGHTS).write_bytes(weights)
    items = pa.array([f"{name}{i}" for i in range(6)])
    vocabulary = Vocabulary(items, np.ones(6, np.int64))
    vocabulary.save(directory / "items.parquet")
    described = {
        "weights_sha256": files.sha256(weights),
        "vocabulary_fingerprint": vocabulary.fingerprint,
    }
    write_manifest(directory, model_manifest(name, **described))


def run(root, model, to="serving"):
    return run_export(load_config(None, [f"root={root}"]).config, model, (root / to).uri)


def read(root, to="serving"):
    """The model that the three files come from, as a reader that begins at the manifest."""
    target = root / to
    manifest = (target / "manifest.json").read_json()
    places = {name: target / path for name, path in manifest["files"].items()}
    vectors = np.load(io.BytesIO(places["item_vectors.npy"].read_bytes()))
    encoder = places["user_encoder.pt2"].read_bytes()
    items = places["items.parquet"].read_table()
    name = manifest["model_id"]
    model = LightSANs.from_pretrained(root / "models" / name)
    np.testing.assert_array_equal(vectors, serving_export.item_vectors(model))
    assert encoder == program_of(model)
    assert items["raw_item_id"][0].as_py() == f"{name}0"
    return name


def test_a_target_is_moved_from_one_model_to_another(root):
    first = run(root, "a")
    assert read(root) == "a"
    second = run(root, "b")
    assert read(root) == "b"
    assert first.location != second.location
    assert (first.location / "items.parquet").exists()  # a reader may be at it
    assert run(root, "b").skipped
    assert run(root, "a").skipped
    assert read(root) == "a"


def test_files_of_others_in_the_target_stay(root):
    """A table of items often has this name."""
    (root / "shop" / "items.parquet").write_bytes(b"theirs")
    for model in "ab":
        run(root, model, "shop")
        assert read(root, "shop") == model
        assert (root / "shop" / "items.parquet").read_bytes() == b"theirs"


@pytest.mark.parametrize("broken", [*NAMES, "manifest.json"])
def test_an_interrupted_export_leaves_the_earlier_one_whole(root, monkeypatch, broken):
    run(root, "a")

    class KilledError(BaseException):
        pass

    whole = Location.open_atomic

    def open_atomic(self):
        if self.name == broken and "serving" in self.uri:
            raise KilledError
        return whole(self)

    monkeypatch.setattr(Location, "open_atomic", open_atomic)
    with pytest.raises(KilledError):
        run(root, "b")
    monkeypatch.undo()
    monkeypatch.setattr(serving_export, "encoder_to_bytes", program_of)
    assert read(root) == "a"
    run(root, "b")
    assert read(root) == "b"


def test_a_model_that_was_trained_again_is_another_version(root):
    first = run(root, "a")
    write_model(root, "a", seed=7)
    second = run(root, "a")
    assert first.location != second.location
    assert not second.skipped
    assert read(root) == "a"


def test_files_of_the_first_format_do_not_stay_beside_the_manifest_of_another_model(root):
    for name in NAMES:
        (root / "serving" / name).write_bytes(b"format 1")
    facts = {"model_id": "old", "items": 6, "max_seq_len": 4, "hidden_size": 8, "torch": "2.12.0"}
    manifest = {"kind": "serving", "format_version": 1, **facts, "vocabulary_fingerprint": "v"}
    (root / "serving" / "manifest.json").write_json(manifest)
    run(root, "a")
    assert read(root) == "a"
    assert not set(NAMES) & set((root / "serving").children())


def write_format_2(root):
    """An export of model a as version 2 wrote it: items do not say which are recommendable."""
    model, version = root / "models" / "a", "0123456789ab"
    trained, directory = LightSANs.from_pretrained(model), root / "serving" / version
    items = serving_export.item_table(trained, load_vocabulary(model))
    (directory / "items.parquet").write_table(items.drop_columns(["recommendable"]))
    (directory / "user_encoder.pt2").write_bytes(program_of(trained))
    vectors = io.BytesIO()
    np.save(vectors, serving_export.item_vectors(trained))
    (directory / "item_vectors.npy").write_bytes(vectors.getvalue())
    facts = {"model_id": "a", "items": 6, "max_seq_len": 4, "hidden_size": 8, "torch": "2.13.0"}
    hashes = {"weights_sha256": files.weights_hash(model), "vocabulary_fingerprint": "a"}
    manifest = {"kind": "serving", "format_version": 2, "version": version, **facts, **hashes}
    (directory / "manifest.json").write_json(manifest)
    paths = {name: f"{version}/{name}" for name in NAMES}
    (root / "serving" / "manifest.json").write_json({**manifest, "files": paths})
    return directory


def test_an_export_of_format_2_serves_on_until_the_same_command_makes_one_that_says_more(root):
    old = write_format_2(root)
    assert read(root) == "a"
    before = {name: (old / name).read_bytes() for name in old.children()}
    result = run(root, "a")
    assert not result.skipped
    assert result.location != old
    assert read(root) == "a"
    manifest = (root / "serving" / "manifest.json").read_json()
    assert manifest["format_version"] == 3
    now = (root / "serving" / manifest["files"]["items.parquet"]).read_table()
    then = (old / "items.parquet").read_table()
    assert now.drop_columns(["recommendable"]) == then
    assert now["recommendable"].to_pylist() == [True] * 6
    assert {name: (old / name).read_bytes() for name in old.children()} == before


def test_the_manifest_of_format_2_is_read_and_says_which_format_it_has(root):
    old = write_format_2(root)
    found = read_manifest(ServingManifest, old)
    assert found is not None
    assert (found.format_version, found.version, found.files) == (2, old.name, None)
    pointer = read_manifest(ServingManifest, root / "serving")
    assert pointer is not None
    assert set(pointer.files or {}) == set(NAMES)


def test_a_model_that_is_not_finished_is_named(root):
    with pytest.raises(NotFoundError, match=r"models/c/manifest.json: not found; run"):
        run(root, "c")


def test_items_of_another_model_are_not_exported_with_the_vectors_of_this_one(root):
    models = root / "models"
    (models / "a" / "items.parquet").write_bytes((models / "b" / "items.parquet").read_bytes())
    with pytest.raises(InputError, match=r"models/a/items.parquet: other items than the manifest"):
        run(root, "a")
    assert not (root / "serving" / "manifest.json").exists()


def test_the_default_target_is_below_the_root(root):
    result = run_export(load_config(None, [f"root={root}"]).config, "a")
    assert result.target == root / "serving" / "a"
    assert read(root, "serving/a") == "a"
