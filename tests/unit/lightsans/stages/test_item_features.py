"""Item features from a table to recommendations, in one process."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lightsans import LightSANs, Recommender
from lightsans.config import RunConfig
from lightsans.config.file import from_settings
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import InputError
from lightsans.in_process.engine import LocalEngine
from lightsans.recommendations.item_choice import read_item_choice
from lightsans.stages.item_features import learned_features, own_vectors
from lightsans.stages.list_maker import load_list_maker
from lightsans.storage import model_files as files
from lightsans.synthetic.logs import generate_log
from tests.factories import local, sequences_of

COLOURS = ("red", "green", "blue")


def log_table(last=40):
    """Users u1 to u40 and items 1 to 30; the last item is met by nobody where ``last`` is 30."""
    made = generate_log(40, 30, 500, seed=1)
    users = pa.array([f"u{user}" for user in made.user_ids])
    rows = pa.table({"user_id": users, "item_id": made.item_ids, "timestamp": made.timestamps})
    return rows.filter(pa.compute.less(rows["item_id"], last))


def item_table(ids, colour=lambda n: COLOURS[n % 3]):
    return pa.table(
        {
            "item_id": pa.array(ids, pa.int64()),
            "colour": [colour(n) for n in ids],
            "size": [float(n) for n in ids],
        }
    )


class Night:
    """A dataset and a model of a log and an item table."""

    def __init__(self, root, log, items, **settings):
        for name, table in (("log", log), ("items", items)):
            pq.write_table(table, root / f"{name}-{len(table)}-{items['colour'][0]}.parquet")
        features = {"categorical": ["colour"], "numeric": ["size"]}
        small = {"max_seq_len": 8, "hidden_size": 8, "inner_size": 8, "n_layers": 1}
        made = {
            "root": str(root),
            "data.input": [str(root / f"log-{len(log)}-{items['colour'][0]}.parquet")],
            "data.item_table": str(root / f"items-{len(items)}-{items['colour'][0]}.parquet"),
            "train.epochs": 1,
            "train.virtual_shards": 2,
            **{f"data.item_features.{name}": value for name, value in features.items()},
            **{f"model.{name}": value for name, value in small.items()},
            **settings,
        }
        self.config: RunConfig = from_settings(made, "test")
        engine, self.root = LocalEngine(), local(root)
        self.dataset = self.root / "datasets" / engine.make_dataset(self.config)
        self.items = load_vocabulary(self.dataset)

    def train(self, **settings):
        config = replace(self.config, train=replace(self.config.train, **settings))
        return self.root / "models" / LocalEngine().train(config, self.dataset.name)

    def lists(self, model, k=40, map_items=False):
        """Raw ids that a user is recommended who met item 1 and 2 of the dataset."""
        config = replace(self.config, score=replace(self.config.score, k=k))
        choice = read_item_choice(config)
        maker = load_list_maker(config, self.dataset, model, map_items, choice)
        met = sequences_of([1, 2], [])
        found = maker.recommend(met, sequences_of([], []))
        return found.item_ids.to_pylist(), found.scores.to_pylist()


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Items 1 to 30 have interactions, 101 and 102 are new; item 2 is not in the table."""
    table = item_table([*(n for n in range(1, 31) if n != 2), 101, 102])
    return Night(tmp_path_factory.mktemp("night"), log_table(), table)


@pytest.fixture(scope="module")
def model(night):
    return night.train()


def test_items_of_the_table_join_the_vocabulary_with_count_0(night):
    raw, counts = night.items.raw_item_ids.to_pylist(), night.items.counts.tolist()
    assert raw[-2:] == [101, 102]
    assert counts[-2:] == [0, 0]
    assert min(counts[:-2]) > 0
    assert night.items.is_listed[raw.index(2)] == False  # noqa: E712


def test_the_model_holds_sums_and_beside_them_what_they_were_added_up_from(night, model):
    table, learned = LightSANs.from_pretrained(model).item_table(), learned_features(model)
    assert learned is not None
    own, weights = own_vectors(learned), learned.map_weights
    numbers = learned.coding.category_numbers
    for raw, item in ((101, len(own) - 2), (30, night.items.raw_item_ids.index(30).as_py() + 1)):
        mean, spread = learned.coding.numbers["numeric.size"]
        colour = weights["category_embedding.weight"][
            numbers["categorical.colour", COLOURS[raw % 3]]
        ]
        size = weights["number_map.weight"][:, 0] * min(10.0, (raw - mean) / spread)
        torch.testing.assert_close(table[item], own[item] + colour + size)
    assert (own[-2:] == 0).all(), "new items have vectors by their features alone"
    without = night.items.raw_item_ids.index(2).as_py() + 1
    torch.testing.assert_close(table[without], own[without])


def test_new_items_of_the_table_are_recommended_by_the_model_and_not_as_popular(night, model):
    (by_model, popular), _ = night.lists(model)
    assert {101, 102} <= set(by_model)
    assert not {101, 102} & set(popular)


def test_an_item_that_left_the_table_is_recommended_no_more(night, model, tmp_path):
    """Neither a new one, nor is one missed that has interactions."""
    later = Night(tmp_path, log_table(), item_table([*range(3, 31), 101]))
    (by_model, _), _ = later.lists(model)
    assert 101 in by_model
    assert 102 not in by_model


def test_items_of_a_later_table_are_recommended_by_the_model_of_before(night, model, tmp_path):
    """A category that the model never met says nothing."""
    table = item_table([*range(1, 31), 103, 104], lambda n: "mauve" if n == 104 else COLOURS[n % 3])
    later = Night(tmp_path, log_table(), table)
    (by_model, _), (scores, _) = later.lists(model, map_items=True)
    assert {103, 104} <= set(by_model)
    learned, network = learned_features(model), LightSANs.from_pretrained(model)
    assert learned is not None
    weights = learned.map_weights
    number = learned.coding.category_numbers["categorical.colour", COLOURS[103 % 3]]
    mean, spread = learned.coding.numbers["numeric.size"]
    vector = weights["category_embedding.weight"][number]
    # Beyond ten deviations a number counts as ten.
    vector = vector + weights["number_map.weight"][:, 0] * min(10.0, (103 - mean) / spread)
    raw = [later.items.raw_item_ids[i].as_py() for i in (0, 1)]
    history = load_vocabulary(model).encode(pa.array(raw))[None]
    user = network.encode(torch.from_numpy(history), torch.tensor([2]))[0]
    expected = float(user @ vector)
    assert scores[by_model.index(103)] == pytest.approx(expected, abs=1e-5)


def test_a_warm_start_goes_on_from_the_parts(night, model):
    """Nothing learned is lost: before the first step, item vectors are those of the model."""
    continued = night.train(warm_start=model.name, learning_rate=1e-12)
    before, after = (LightSANs.from_pretrained(m).item_table() for m in (model, continued))
    torch.testing.assert_close(before, after, atol=1e-6, rtol=0)
    first, second = learned_features(model), learned_features(continued)
    assert first is not None
    assert second is not None
    torch.testing.assert_close(own_vectors(first), own_vectors(second), atol=1e-6, rtol=0)
    assert first.coding == second.coding


def test_a_model_without_features_begins_one_with_them_as_it_was(night, tmp_path):
    plain: dict[str, object] = {"data.item_table": None, "data.item_features.categorical": [],
             "data.item_features.numeric": []}  # fmt: skip
    first = Night(tmp_path, log_table(), item_table([1]), **plain)
    source = first.train()
    begun = night.train(warm_start=source.path, learning_rate=1e-12)
    before, after = (LightSANs.from_pretrained(m).item_table() for m in (source, begun))
    torch.testing.assert_close(after[: len(before)], before, atol=1e-6, rtol=0)
    assert learned_features(source) is None


def test_parts_that_are_gone_or_damaged_are_said(night):
    model = night.train(seed=7)
    file = model / files.ITEM_FEATURES
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"?")
    with pytest.raises(InputError, match=r"item_features\.safetensors: other content than the man"):
        learned_features(model)
    file.delete()
    with pytest.raises(InputError, match=r"item_features\.safetensors: the file is gone"):
        learned_features(model)
    LightSANs.from_pretrained(model)  # whoever only scores does not need them


def test_a_frame_of_items_teaches_a_recommender(tmp_path):
    features = {"categorical": ["colour"]}
    small = {"max_seq_len": 8, "hidden_size": 8, "inner_size": 8, "n_layers": 1}
    made = Recommender(epochs=1, model=small, item_features=features)
    made.fit(log_table(), items=item_table([*range(1, 31), 101]))
    assert 101 in made.recommend("u3", k=40)["item_id"].to_pylist()
    assert 101 in made.similar(5, k=30)["similar_item_id"].to_pylist()
    made.save(str(tmp_path))
    loaded = Recommender.load(str(tmp_path))
    assert loaded.recommend("u3").to_pylist() == made.recommend("u3").to_pylist()
