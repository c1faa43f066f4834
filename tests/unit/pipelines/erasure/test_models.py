"""Models that learnt from erased users."""

from dataclasses import replace

from lightsans.lists.erased_users import Erasures, write_erasures
from lightsans.storage.location import Location
from lightsans.storage.manifests import write_manifest
from pipelines.erasure.models import marked_models, models_that_learnt
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest


def write_model(root: Location, name: str, dataset_id: str, warm_start: str = "null") -> None:
    manifest = replace(model_manifest(name), dataset_id=dataset_id)
    write_manifest(root / "models" / name, manifest)
    content = f"train:\n  warm_start: {warm_start}\n"
    (root / "models" / name / "config.yaml").write_bytes(content.encode())


def test_models_of_replaced_or_removed_datasets_are_marked_and_who_began_with_them(tmp_path):
    root = local(tmp_path)
    write_manifest(root / "datasets" / "kept", dataset_manifest("kept"))
    write_model(root, "learnt", "old")
    write_model(root, "unknown", "removed")
    write_model(root, "clean", "kept")
    write_model(root, "warm", "kept", "s3://elsewhere/models/learnt/")
    write_model(root, "warmer", "kept", "warm")
    write_model(root, "imported", "")
    (root / "models" / "my backup" / "manifest.json").write_bytes(b"{")  # recommends nothing
    found = models_that_learnt(root, {"old"}, {"gone": "its model was removed since"})
    assert found == {
        "learnt": "dataset old had erased users",
        "unknown": "dataset removed was removed before: it may have had erased users",
        "warm": "it began with the weights of model learnt",
        "warmer": "it began with the weights of model warm",
    }


def test_a_model_that_began_with_a_marked_one_since_the_erasure_is_marked_too(tmp_path):
    root = local(tmp_path)
    write_model(root, "later", "kept", "learnt")
    assert marked_models(root) == {}
    write_erasures(root, Erasures(models={"learnt": "why"}))
    assert marked_models(root) == {
        "learnt": "why",
        "later": "it began with the weights of model learnt",
    }
