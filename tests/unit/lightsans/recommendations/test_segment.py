"""Segments and sharing: what scoring processes are given, without Ray."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lightsans import LightSANs, ModelConfig
from lightsans.config import RunConfig, ScoreConfig
from lightsans.dataset.bucket_cursor import bucket_span
from lightsans.dataset.sequences import UserSequences
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import ConfigError, InputError
from lightsans.recommendations.recommender import Recommender
from lightsans.recommendations.segment import read_segment, segment_identity
from pipelines.score.shared_model import Shared, pack, unpack


def config_of(path) -> RunConfig:
    return RunConfig(score=ScoreConfig(users=str(path)))


def write_txt(path):
    path.write_text("\ufeff007\n\n 42 \n42\n")


def write_csv(path):
    path.write_text("name,user_id\nx,007\ny,42\nz,\n")


def write_parquet(path):
    pq.write_table(pa.table({"user_id": ["007", "42", None]}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("users.txt", write_txt), ("users.csv", write_csv), ("users.parquet", write_parquet)],
)
def test_a_segment_is_read_from_text_and_tables(tmp_path, name, write):
    write(tmp_path / name)
    segment = read_segment(config_of(tmp_path / name), pa.string())
    assert set(segment.user_ids.to_pylist()) - {" 42 "} == {"007", "42"}
    for user, is_in in (("007", True), ("7", False), ("42", True)):
        ids = pa.chunked_array([[user]])
        assert segment.contains(ids, *bucket_span(ids)).to_pylist() == [is_in]


def test_ids_become_numbers_where_the_dataset_has_numbers(tmp_path):
    write_txt(tmp_path / "users.txt")
    config = config_of(tmp_path / "users.txt")
    assert sorted(read_segment(config, pa.int64()).user_ids.to_pylist()) == [7, 42]
    (tmp_path / "users.txt").write_text("ann\n")
    with pytest.raises(InputError, match=r"score\.users: .*of type int64.*ann"):
        read_segment(config, pa.int64())


def test_what_is_wrong_with_the_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"score\.users: .*none\.txt: no such file"):
        segment_identity(config_of(tmp_path / "none.txt"))
    (tmp_path / "users.csv").write_text("id\n1\n")
    with pytest.raises(InputError, match=r"no column 'user_id' \(data\.columns\.user\)"):
        read_segment(config_of(tmp_path / "users.csv"), pa.string())
    with pytest.raises(InputError, match=r"no column 'user_id' \(data\.columns\.user\)"):
        segment_identity(config_of(tmp_path / "users.csv"))  # before Ray is started
    (tmp_path / "users").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file in UTF-8"):
        read_segment(config_of(tmp_path / "users"), pa.string())


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"score\.min_workers=3 is more than"):
        ScoreConfig(min_workers=3, num_workers=2)
    with pytest.raises(ConfigError, match=r"partition_by=rank needs score\.layout=long"):
        ScoreConfig(partition_by="rank")


def make_recommender(eligible) -> Recommender:
    torch.manual_seed(0)
    config = ModelConfig(hidden_size=32, inner_size=8, n_layers=1, max_seq_len=5)
    items = Vocabulary(pa.array([f"i{i}" for i in range(2000)]), np.arange(2000, 0, -1))
    return Recommender(
        LightSANs(config, 2000), items, items, None, k=5, remove_seen=True,
        eligible_ids=eligible, eligible_popular_ids=eligible,
    )  # fmt: skip


@pytest.mark.parametrize("eligible", [None, np.arange(1, 900)])
def test_an_unpacked_recommender_is_the_same_and_owns_no_copy_of_the_items(eligible):
    recommender = make_recommender(eligible)
    packed = pack(Shared(recommender, None))
    size = sum(buffer.nbytes for buffer in packed.buffers)
    table = recommender._model.item_table().nbytes
    # The table once, not again without padding; the index rounded, or of some items only.
    assert table < size < 2.6 * table
    assert len(packed.content) < 50_000
    again = unpack(packed).recommender
    histories = UserSequences(np.array([5, 7, 9], np.int32), np.array([0, 2, 3, 3]))
    none = UserSequences(np.zeros(0, np.int32), np.zeros(4, np.int64))
    expected, found = recommender.recommend(histories, none), again.recommend(histories, none)
    assert found.item_ids.to_pylist() == expected.item_ids.to_pylist()
    assert found.source.to_pylist() == ["model", "model", "popular"]
    address = again._model.item_table().data_ptr()
    assert any(buffer.ctypes.data == address for buffer in packed.buffers)


def test_fingerprints_tell_histories_apart_but_not_the_order_of_what_was_also_seen():
    recommender = make_recommender(None)

    def fingerprint(history, also_seen):
        made = [
            UserSequences(np.array(ids, np.int32), np.array([0, len(ids)]))
            for ids in (history, also_seen)
        ]
        return int(recommender.know(*made).fingerprints[0])

    same = fingerprint([1, 2, 3], [8, 9])
    assert fingerprint([1, 2, 3], [9, 8]) == same
    others = [([1, 3, 2], [8, 9]), ([1, 2, 3, 8], [9]), ([2, 3], [8, 9]), ([1, 2, 3], [8]),
              ([1, 2, 3], [8, 9, 9]), ([], [])]  # fmt: skip
    assert len({fingerprint(*other) for other in others} | {same}) == len(others) + 1
