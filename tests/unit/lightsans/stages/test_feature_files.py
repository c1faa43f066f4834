"""Item features that a model has learned, beside those of a dataset of later."""

from dataclasses import replace

import numpy as np
import pytest

from lightsans.config import ModelConfig
from lightsans.dataset.feature_coding import FeatureCoding
from lightsans.stages.feature_files import why_other_features
from lightsans.storage.manifest_kinds import ItemFeaturesSummary
from lightsans.storage.manifests import write_manifest
from lightsans.storage.model_files import ITEM_FEATURES, weights_to_bytes
from tests.factories import local
from tests.item_features import feature_table
from tests.manifests import dataset_manifest, model_manifest

SUMMARY = ItemFeaturesSummary(sha256="a", listed=2, new=0, files=())


class Learned:
    """A model of which nothing matters but what it has learned of features."""

    config, num_items = ModelConfig(), 2

    def __init__(self, table):
        self.feature_coding = FeatureCoding.fit(table, np.ones(table.num_rows, bool)).to_json()

    def state_dict(self):
        return {}


def why(tmp_path, learned, table):
    """The reason for a model of one table and a dataset of another; None stands for no features."""
    model, dataset = local(tmp_path / "model"), local(tmp_path / "dataset")
    made = model_manifest(item_features_sha256=None if learned is None else "b")
    if learned is not None:
        (model / ITEM_FEATURES).write_bytes(weights_to_bytes(Learned(learned)))
    write_manifest(model, made)
    manifest = dataset_manifest()
    if table is not None:
        manifest = replace(manifest, item_features=SUMMARY)
        (dataset / "item_features.parquet").write_table(table)
    write_manifest(dataset, manifest)
    return why_other_features(model, dataset)


BEFORE = feature_table(genre=[["a"], ["b"]], price=[1.0, 2.0], title_vector=[None, [1.0, 0.0]])


def test_new_categories_numbers_and_items_are_the_same_features(tmp_path):
    later = feature_table(
        genre=[["c"]] * 3, price=[None] * 3, title_vector=[None, None, [0.0, 1.0]]
    )
    assert why(tmp_path, BEFORE, later) is None


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        (
            feature_table(genre=[["a"]], title_vector=[[1.0, 0.0]]),
            "the item features were categorical.genre, numeric.price, vector.title_vector and are "
            "categorical.genre, vector.title_vector",
        ),
        (
            feature_table(genre=[["a"]] * 2, price=[1.0] * 2, title_vector=[None, [1.0, 2.0, 3.0]]),
            "vectors of title_vector (data.item_features.vector) had 2 numbers and have 3",
        ),
    ],
)
def test_other_columns_and_vectors_of_another_program_are_told(tmp_path, later, reason):
    assert why(tmp_path, BEFORE, later) == reason


def test_where_one_of_the_two_has_none_nothing_is_in_the_way(tmp_path):
    assert why(tmp_path / "model", None, BEFORE) is None
    assert why(tmp_path / "dataset", BEFORE, None) is None
