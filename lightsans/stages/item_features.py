"""Features of a dataset's items in training, and what a finished model keeps of them.

A model's ``model.safetensors`` holds item vectors that are added up: whoever scores, exports or
begins with it needs nothing else. Beside it ``item_features.safetensors`` keeps what they were
added up from, items' own vectors and the map, for training that goes on and for items to come.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lightsans.config import ModelConfig
from lightsans.dataset.feature_arrays import FeatureArrays
from lightsans.dataset.feature_coding import FeatureCoding
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.errors import InputError
from lightsans.model.item_features import ItemFeatures
from lightsans.model.network import LightSANs
from lightsans.model.warm_start import ITEM_TABLE
from lightsans.stages.feature_files import read_features
from lightsans.storage import model_files as files
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest
from lightsans.storage.manifests import read_manifest

MAP = "item_features."
"""Prefix of the names of the map's weights."""


@dataclass(frozen=True, slots=True)
class LearnedFeatures:
    """Parts of a finished model's item vectors."""

    coding: FeatureCoding
    weights: dict[str, Tensor]
    """Items' own vectors, and the weights of the map, by their names in training."""

    @property
    def map_weights(self) -> dict[str, Tensor]:
        """Weights of the map, by their own names."""
        found = self.weights.items()
        return {name.removeprefix(MAP): value for name, value in found if name.startswith(MAP)}


def training_features(
    dataset: Location, manifest: DatasetManifest, coding: FeatureCoding | None = None
) -> FeatureArrays | None:
    """The features that a run on a dataset learns from; None where it has none.

    Args:
        dataset: The dataset.
        manifest: Its manifest.
        coding: A coding to use as it is; None to make one.

    Raises:
        InputError: The features are gone, or ``coding`` is one of others.
    """
    if manifest.item_features is None:
        return None
    table, is_met = read_features(dataset), load_vocabulary(dataset).counts > 0
    return (coding or FeatureCoding.fit(table, is_met)).arrays(table, is_met)


def begin_features(
    dataset: Location, manifest: DatasetManifest, source: Location | None
) -> FeatureArrays | None:
    """The features of a run that begins, its coding taken over from a model to begin with.

    Args:
        dataset: The dataset.
        manifest: Its manifest.
        source: The model; None for a run that begins with new weights.

    Raises:
        InputError: The model has learned of other features.
    """
    if manifest.item_features is None:
        return None
    learned = None if source is None else learned_features(source)
    if learned is None:
        return training_features(dataset, manifest)
    table, is_met = read_features(dataset), load_vocabulary(dataset).counts > 0
    learned.coding.require_columns_of(table)
    return FeatureCoding.fit(table, is_met, learned.coding).arrays(table, is_met)


def learned_features(model: Location) -> LearnedFeatures | None:
    """Parts of a finished model's item vectors; None where they have none.

    Raises:
        InputError: Their file is gone, damaged, or not the one that the manifest names.
    """
    manifest = read_manifest(ModelManifest, model)
    if manifest is None or manifest.item_features_sha256 is None:
        return None
    file = model / files.ITEM_FEATURES
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{file}: the file is gone; train the model again") from None
    if files.sha256(content) != manifest.item_features_sha256:
        raise InputError(
            f"{file}: other content than the manifest names (item_features_sha256); the model is "
            "being trained again, or the file was replaced. Run the command again, or train --force"
        )
    saved = files.saved_model(content, str(file))
    assert saved.feature_coding is not None
    return LearnedFeatures(FeatureCoding.from_json(saved.feature_coding), saved.weights)


def add_up(saved: files.SavedModel, dataset: Location, manifest: DatasetManifest) -> LightSANs:
    """The finished model of a checkpoint whose items have features.

    Args:
        saved: The checkpoint.
        dataset: The dataset it was trained on.
        manifest: Its manifest.
    """
    assert saved.feature_coding is not None
    coding = FeatureCoding.from_json(saved.feature_coding)
    features = training_features(dataset, manifest, coding)
    assert features is not None
    model = LightSANs(saved.config, saved.num_items)
    model.item_features = _make(features, saved.config)
    model.load_state_dict(saved.weights)
    return model.eval().composed()


def _make(features: FeatureArrays, config: ModelConfig) -> ItemFeatures:
    return ItemFeatures(features, config.hidden_size, config.initializer_range, torch.device("cpu"))


def warm_map(
    source: LearnedFeatures | None, features: FeatureArrays, config: ModelConfig, seed: int
) -> dict[str, Tensor]:
    """Weights of the map of a run that begins with another model, by their names in training.

    Categories that the model has learned of keep their vectors, new ones begin as in any new model.
    Of a model without features nothing is known: the map begins with zeros, so that item vectors
    begin as they were.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = dict(_make(features, config).state_dict())
    if source is None:
        return {MAP + name: torch.zeros_like(value) for name, value in weights.items()}
    ours, learned = FeatureCoding.from_json(features.coding), source.map_weights
    for name, value in learned.items():
        if not name.startswith("category_"):
            weights[name] = value
            continue
        before = source.coding.category_numbers
        for key, number in ours.category_numbers.items():
            if key in before:
                weights[name][number] = value[before[key]]
    return {MAP + name: value for name, value in weights.items()}


def own_vectors(source: LearnedFeatures) -> Tensor:
    """Items' own vectors of a model with features, (V, D)."""
    return source.weights[ITEM_TABLE]


def with_new_items(
    model: LightSANs, items: Vocabulary, directory: Location, dataset: Location
) -> tuple[LightSANs, Vocabulary]:
    """A model that knows the items of a dataset's item table, too: by their features alone.

    Args:
        model: A finished model.
        items: Its items.
        directory: Its directory.
        dataset: A dataset with later items.

    Returns:
        The model and its items, those that it did not know appended; both as they are where there
        are none, or where the model has learned nothing of features.

    Raises:
        InputError: The features are others than those that the model has learned of.
    """
    manifest = read_manifest(DatasetManifest, dataset)
    theirs = load_vocabulary(dataset)
    if manifest is None or manifest.item_features is None or theirs.is_listed is None:
        return model, items
    if theirs.raw_item_ids.type != items.raw_item_ids.type:
        return model, items
    is_new = theirs.is_listed & (items.encode(theirs.raw_item_ids) == 0)
    learned = learned_features(directory) if is_new.any() else None
    if learned is None or items.is_listed is None:
        return model, items
    features = learned.coding.arrays(read_features(dataset), theirs.counts > 0)
    own = _make(features, model.config)
    own.load_state_dict(learned.map_weights)
    rows = np.flatnonzero(is_new)
    with torch.no_grad():
        vectors_RD = own(torch.from_numpy(rows + 1))
    number = items.num_items + len(rows)
    extended = LightSANs(model.config, number)
    weights = dict(model.state_dict())
    weights[ITEM_TABLE] = torch.cat([weights[ITEM_TABLE], vectors_RD])
    extended.load_state_dict(weights)
    return extended.eval(), items.appended(theirs.raw_item_ids.take(pa.array(rows)))
