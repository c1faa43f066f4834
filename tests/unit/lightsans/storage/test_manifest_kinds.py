from dataclasses import replace

from lightsans.storage.manifest_kinds import changed_id_types
from tests.manifests import dataset_manifest, run_manifest

TYPES = {"user_id_type": "int64", "item_id_type": "string"}
PUBLISHED = run_manifest(**TYPES)
DATASET = dataset_manifest(**TYPES)


def test_types_of_ids_that_changed_are_named():
    assert changed_id_types(PUBLISHED, DATASET) == {}
    assert changed_id_types(PUBLISHED, replace(DATASET, user_id_type="string")) == {
        "user": "user ids were of type int64 and are of type string now"
    }
    assert set(
        changed_id_types(PUBLISHED, dataset_manifest(user_id_type="string", item_id_type="int64"))
    ) == {
        "user",
        "item",
    }
