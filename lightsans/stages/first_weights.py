"""Weights that a training run begins with, and counts by which its negatives are drawn."""

from typing import TYPE_CHECKING

from lightsans.arrays import Int64
from lightsans.config import RunConfig
from lightsans.config.kinds import SAMPLINGS
from lightsans.dataset.feature_arrays import FeatureArrays
from lightsans.dataset.vocabulary import item_id_mapping, load_vocabulary
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import ModelManifest
from lightsans.storage.manifests import require_manifest
from lightsans.storage.model_files import require_weights, weights_hash

if TYPE_CHECKING:  # most runs begin with new weights, and most callers ask for names alone
    from torch import Tensor


def warm_weights_hash(config: RunConfig) -> str | None:
    """SHA-256 of the weights that ``train.warm_start`` begins with; None without it.

    Raises:
        NotFoundError: The model to begin with does not exist.
    """
    source = warm_source(config)
    if source is None:
        return None
    require_manifest(ModelManifest, source, "train.warm_start (--from) needs a finished model")
    return weights_hash(source)


def first_weights(
    config: RunConfig,
    dataset: Location,
    sha256: str | None = None,
    features: FeatureArrays | None = None,
) -> "dict[str, Tensor] | None":
    """The weights of ``train.warm_start``, with which the run begins; None for new ones.

    Args:
        config: The run.
        dataset: The dataset to train on.
        sha256: Hash that they must have; None to take what is there.
        features: Features of the dataset's items, which the run learns from; None without any.

    Raises:
        InputError: They were replaced since the id of the run was made.
    """
    source = warm_source(config)
    if source is None:
        return None
    import torch

    from lightsans.model.network import LightSANs
    from lightsans.model.warm_start import warm_weights
    from lightsans.stages.item_features import learned_features, own_vectors, warm_map

    own, theirs = load_vocabulary(dataset), load_vocabulary(source)
    mapping = item_id_mapping(own, theirs, True, f"{dataset} and {source}")
    model = LightSANs.from_pretrained(source)
    if sha256 is not None:
        require_weights(source, sha256)
    seed, name = config.train.seed, str(source)
    if features is None:
        return warm_weights(model, config.model, own.num_items, mapping, seed, name)
    learned = learned_features(source)
    if learned is not None:
        with torch.no_grad():
            model.item_embedding.weight.copy_(own_vectors(learned))
    weights = warm_weights(model, config.model, own.num_items, mapping, seed, name)
    return weights | warm_map(learned, features, config.model, seed)


def warm_source(config: RunConfig) -> Location | None:
    """The directory of the model that ``train.warm_start`` names; None without it."""
    name = config.train.warm_start
    if name is None:
        return None
    is_path = "/" in name
    return locate(name if is_path else f"{config.root}/models/{name}", config.storage)


def popularity(config: RunConfig, dataset: Location) -> Int64 | None:
    """Interactions of each item, where the configured negatives are drawn by them."""
    if not SAMPLINGS[config.model.negative_sampling].needs_counts:
        return None
    return load_vocabulary(dataset).popularity
