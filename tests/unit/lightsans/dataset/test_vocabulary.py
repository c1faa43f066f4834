import numpy as np
import pyarrow as pa
import pytest

from lightsans.columns.hashing import hash_ids
from lightsans.dataset.vocabulary import (
    Vocabulary,
    dead_items,
    item_id_mapping,
    load_vocabulary,
)
from lightsans.errors import InputError, VocabularyMismatchError
from lightsans.storage.manifests import write_manifest
from tests.factories import local, vocabulary_of
from tests.manifests import dataset_manifest, model_manifest


def vocabulary(*raw: str) -> Vocabulary:
    return Vocabulary(pa.array(raw, pa.string()), np.ones(len(raw), np.int64))


def test_items_are_numbered_by_falling_count_and_ties_by_raw_id():
    made = Vocabulary.from_counts(pa.array(["b", "c", "a", "d"]), np.array([2, 9, 2, 1]))
    assert made.raw_item_ids.to_pylist() == ["c", "a", "b", "d"]
    assert made.counts.tolist() == [9, 2, 2, 1]


def test_ids_round_trip_and_unknown_items_are_zero():
    items = vocabulary("x", "007", "ü")
    assert items.encode(pa.array(["ü", "7", "007"])).tolist() == [3, 0, 2]
    assert items.decode(np.array([3, 1], np.int32)).to_pylist() == ["ü", "x"]


def test_a_saved_vocabulary_is_read_back(tmp_path):
    location = local(tmp_path / "items.parquet")
    items = Vocabulary(pa.array([30, 10]), np.array([5, 4]))
    items.save(location)
    loaded = Vocabulary.load(location)
    assert loaded.fingerprint == items.fingerprint
    assert loaded.counts.tolist() == [5, 4]
    assert location.read_table()["item_id"].to_pylist() == [1, 2]


def test_the_fingerprint_depends_on_the_order_of_items():
    assert vocabulary("a", "b").fingerprint != vocabulary("b", "a").fingerprint


@pytest.mark.parametrize("described", [dataset_manifest, model_manifest])
def test_items_that_the_manifest_does_not_name_are_refused(tmp_path, described):
    directory, items = local(tmp_path), vocabulary_of("a", "b")
    items.save(directory / "items.parquet")
    write_manifest(directory, described(vocabulary_fingerprint=items.fingerprint))
    assert load_vocabulary(directory).raw_item_ids.to_pylist() == ["a", "b"]
    vocabulary_of("b", "a").save(directory / "items.parquet")
    with pytest.raises(InputError, match=r"items\.parquet: other items than the manifest names"):
        load_vocabulary(directory)
    (directory / "manifest.json").delete()  # it is being made: nothing says what it should hold
    assert load_vocabulary(directory).num_items == 2


def test_a_dataset_fits_a_model_when_one_vocabulary_extends_the_other():
    small, large = vocabulary("a", "b"), vocabulary("a", "b", "c")
    assert item_id_mapping(small, large, False, "") is None
    mapping = item_id_mapping(large, small, False, "")
    assert mapping is not None
    assert mapping.tolist() == [0, 1, 2, 0]


def test_other_vocabularies_are_refused_unless_mapped_by_raw_id():
    dataset, model = vocabulary("b", "z"), vocabulary("a", "b")
    with pytest.raises(VocabularyMismatchError, match=r"dataset d and model m .* --map-items"):
        item_id_mapping(dataset, model, False, "dataset d and model m")
    mapping = item_id_mapping(dataset, model, True, "dataset d and model m")
    assert mapping is not None
    assert mapping.tolist() == [0, 2, 0]


def test_ids_of_different_types_cannot_be_mapped():
    other = Vocabulary(pa.array([1, 2]), np.ones(2, np.int64))
    with pytest.raises(VocabularyMismatchError, match=r"data\.item_id_type"):
        item_id_mapping(vocabulary("1"), other, True, "they")


@pytest.mark.parametrize(
    "raw", [pa.array([f"item {i}" for i in range(50)]), pa.array(range(1000, 1050))]
)
def test_a_kept_index_finds_what_a_fresh_one_finds(raw, monkeypatch):
    items = Vocabulary(raw, np.ones(len(raw), np.int64))
    unknown = pa.array(["no item", ""]) if pa.types.is_string(raw.type) else pa.array([7, -1])
    wanted = pa.concat_arrays([raw.take(pa.array([49, 0, 0, 17])), unknown])
    asked = [wanted, wanted.slice(1, 3), wanted.slice(0, 0), pa.chunked_array([wanted, wanted])]
    expected = [items.encode(ids).tolist() for ids in asked]
    items.keep_index()
    hashed = []

    def hash_and_note(ids):
        hashed.append(len(ids))
        return hash_ids(ids)

    monkeypatch.setattr("lightsans.dataset.vocabulary.hash_ids", hash_and_note)
    assert [items.encode(ids).tolist() for ids in asked] == expected
    assert expected[0] == [50, 1, 1, 18, 0, 0]
    assert sum(hashed) == sum(len(ids) for ids in asked)  # the vocabulary not once more


def test_ids_with_the_hash_of_another_are_told_apart(monkeypatch):
    monkeypatch.setattr(
        "lightsans.dataset.vocabulary.hash_ids",
        lambda ids: np.array([len(i) for i in ids.to_pylist()], np.uint64),
    )
    items = vocabulary("a", "bb", "ccc")
    items.keep_index()
    assert items.encode(pa.array(["x", "bb", "ccc", "zzzz"])).tolist() == [0, 2, 3, 0]
    same = vocabulary("a", "b")  # no index can tell these apart: none is kept
    same.keep_index()
    assert same.encode(pa.array(["b", "a"])).tolist() == [2, 1]


def test_an_empty_vocabulary_keeps_no_index():
    items = vocabulary()
    items.keep_index()
    assert items.encode(pa.array(["a"])).tolist() == [0]


def listed(counts: dict[str, int], table: list[str]) -> Vocabulary:
    """Items with these counts, and those of a table of features."""
    raw = pa.array(list(counts), pa.string())
    return Vocabulary(raw, np.array(list(counts.values()))).with_listed(pa.array(table))


def test_items_of_a_table_of_features_follow_in_order_with_count_0(tmp_path):
    made = listed({"b": 2, "left": 0}, ["z", "b", "c"])
    made.save(local(tmp_path / "items.parquet"))
    loaded = Vocabulary.load(local(tmp_path / "items.parquet"))
    for items in (made, loaded, made.with_counts(made.counts)):
        assert items.raw_item_ids.to_pylist() == ["b", "left", "c", "z"]
        assert items.counts.tolist() == [2, 0, 0, 0]
        assert items.is_listed is not None
        assert items.is_listed.tolist() == [True, False, True, True]
        assert items.is_offered.tolist() == items.is_living.tolist() == [True, False, True, True]


def test_without_a_table_of_features_the_file_is_as_before():
    assert vocabulary("a").table().column_names == ["item_id", "raw_item_id", "count"]


def test_an_item_that_was_not_counted_is_dead_unless_tonights_table_and_the_model_know_it():
    model = listed({"met": 3, "left": 0}, ["new", "withdrawn"])
    plain = Vocabulary(model.raw_item_ids, model.counts)
    tonight = listed({"met": 3, "left": 0, "withdrawn": 0}, ["new", "newer"])
    mapping = item_id_mapping(tonight, model, True, "")
    names = ["", *model.raw_item_ids.to_pylist()]

    def dead(dataset, of, mapping):
        return sorted({names[item] for item in dead_items(dataset, of, mapping) if item})

    assert dead(tonight, model, mapping) == ["left", "withdrawn"]
    assert dead(tonight, plain, mapping) == ["left", "new", "withdrawn"], "it has no features"
    fewer = listed({"met": 3}, ["newer"])
    mapping = item_id_mapping(fewer, model, True, "")
    assert dead(fewer, model, mapping) == ["left", "new", "withdrawn"]
    assert dead(plain, plain, None) == ["left", "new", "withdrawn"]
