"""Lists of a model for the users of another dataset than its own."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import RulesConfig
from lightsans.config.file import from_settings
from lightsans.config.rules import Boost
from lightsans.in_process.engine import LocalEngine
from lightsans.recommendations.item_choice import read_item_choice
from lightsans.stages.list_maker import load_list_maker
from lightsans.stages.window import count_here
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest
from lightsans.synthetic.logs import generate_log
from tests.factories import local, sequences_of

DAY = 86_400


def log_with_a_late(item, items):
    """Items 1 to 30, and on the last day one of them more often than any other."""
    made = generate_log(40, 30, 500, seed=1)
    last = int(made.timestamps.max()) + 30 * DAY
    late = pa.table({"user_id": range(41, 47), "item_id": [item] * 6, "timestamp": [last] * 6})
    rows = pa.table(
        {"user_id": made.user_ids, "item_id": made.item_ids, "timestamp": made.timestamps}
    )
    whole = pa.concat_tables([rows, late.cast(rows.schema)])
    return whole.filter(pa.compute.is_in(whole["item_id"], value_set=pa.array(items)))


@pytest.mark.parametrize("items", [range(1, 31), range(5, 31)], ids=["same items", "fewer"])
@pytest.mark.parametrize("item", [9, 23])
def test_what_is_popular_now_is_counted_in_the_dataset_and_boosts_that_item_of_the_model(
    tmp_path, items, item
):
    """The model numbers the items of its own dataset, in which another one is popular."""

    def make(name, log):
        pq.write_table(log, tmp_path / name)
        small = {"max_seq_len": 8, "hidden_size": 8, "inner_size": 8, "n_layers": 1}
        settings = {
            "root": str(tmp_path / "root"),
            "data.input": [str(tmp_path / name)],
            "data.min_item_interactions": 1,
            "train.epochs": 1,
            "score.k": 3,
            **{f"model.{name}": value for name, value in small.items()},
        }
        config = from_settings(settings, "test")
        return config, local(tmp_path / "root/datasets") / LocalEngine().make_dataset(config)

    before, first = make("before.parquet", log_with_a_late(2, range(1, 31)))
    model = local(tmp_path / "root/models") / LocalEngine().train(before, first.name)
    config, dataset = make("now.parquet", log_with_a_late(item, items))
    rules = RulesConfig(boosts=(Boost(recent_days=7, weight=100.0),))
    config = replace(config, score=replace(config.score, rules=rules))
    manifest = require_manifest(DatasetManifest, dataset, "")
    recent = count_here(dataset, manifest, config.score.recent_days)
    maker = load_list_maker(config, dataset, model, True, read_item_choice(config), recent)
    nobody = sequences_of([], [])
    boosted = maker.recommend(sequences_of([1, 2], []), nobody)
    plain = load_list_maker(config, dataset, model, True, read_item_choice(config))
    unboosted = plain.recommend(sequences_of([1, 2], []), nobody)
    assert boosted.item_ids[0][0].as_py() == item
    assert boosted.scores[0][0].as_py() > 150  # 100 * log(1 + 6), and what the model gives
    # Lists of users of whom nothing is known do not go by boosts.
    assert boosted.item_ids.to_pylist()[1] == unboosted.item_ids.to_pylist()[1]
