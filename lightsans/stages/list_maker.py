"""The maker of lists that a model, a dataset and the settings of scoring give."""

import numpy as np

from lightsans.arrays import Int32, Int64
from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import item_id_mapping, load_vocabulary
from lightsans.model.network import LightSANs
from lightsans.recommendations.item_choice import ItemChoice
from lightsans.recommendations.list_maker import ListMaker
from lightsans.recommendations.rule_tables import RecentCounts
from lightsans.recommendations.segment import ListRules, segment_of
from lightsans.stages.item_features import with_new_items
from lightsans.stages.seen_rows import SeenRows
from lightsans.stages.window import request_moment
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest
from lightsans.storage.schemas import id_type


def load_list_maker(
    config: RunConfig,
    dataset: Location,
    model: Location,
    map_items: bool,
    choice: ItemChoice,
    recent: RecentCounts | None = None,
) -> ListMaker:
    """The maker of lists of a model for the users of a dataset, on the CPU.

    Args:
        config: The run.
        dataset: The dataset.
        model: The model.
        map_items: Translate items by raw id when the two number them differently.
        choice: Lists and rules of items, as read.
        recent: Interactions of each of the dataset's items, by ``config.score.recent_days``; None
            where no list is made of it.
    """
    dataset_items, known_items = load_vocabulary(dataset), load_vocabulary(model)
    names = f"dataset {dataset.name} and model {model.name}"
    mapping = item_id_mapping(dataset_items, known_items, map_items, names)
    network, model_items = LightSANs.from_pretrained(model), known_items
    if mapping is not None:  # there are items that the model does not know
        network, model_items = with_new_items(network, known_items, model, dataset)
    if model_items is not known_items:
        mapping = item_id_mapping(dataset_items, model_items, True, names)
    eligible, tables = choice.eligible, choice.rules
    rules = None
    manifest = require_manifest(DatasetManifest, dataset, "run `submit.py preprocess` first")
    if tables is not None:
        of_model = recent and {
            window: _by_model(counts, mapping, model_items.num_items)
            for window, counts in recent.items()
        }
        rules = ListRules(
            tables.item_rules(model_items, of_model),
            tables.fallback_rules(dataset_items),
            tuple(segment_of(users, id_type(manifest.user_id_type)) for users in tables.users),
        )
    days = config.score.popular_days
    return ListMaker(
        network,
        model_items,
        dataset_items,
        mapping,
        k=config.score.k,
        remove_seen=config.score.remove_seen is not False,
        eligible_ids=None if eligible is None else eligible.item_ids(model_items),
        eligible_popular_ids=None if eligible is None else eligible.item_ids(dataset_items),
        min_score=config.score.min_score,
        rules=rules,
        recent_counts=None if recent is None or days is None else recent[days],
        histories_are_seen=SeenRows.of(config.score.remove_seen, manifest).histories_are_seen,
        now=request_moment(manifest),
    )


def _by_model(counts: Int64, mapping: Int32 | None, num_items: int) -> Int64:
    """Counts in the model's numbering; items that the model does not know are left out."""
    numbers = np.arange(len(counts)) if mapping is None else mapping
    of_model = np.zeros(num_items + 1, np.int64)
    np.add.at(of_model, numbers, counts)
    of_model[0] = 0
    return of_model
