"""Segments and sharing: what scoring processes are given, without Ray."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import DataConfig, RunConfig, ScoreConfig, to_dict
from lightsans.config.data import ColumnsConfig
from lightsans.dataset.bucket_cursor import bucket_span
from lightsans.errors import InputError
from lightsans.recommendations.segment import read_segment, segment_identity

READ = to_dict(DataConfig())
"""How the dataset's log was read."""


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
    (tmp_path / "users.txt").write_text("ann\n7.0\n")
    assert read_segment(config, pa.int64()).user_ids.to_pylist() == [7]


def test_what_is_wrong_with_the_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"score\.users: .*none\.txt: no such file"):
        segment_identity(config_of(tmp_path / "none.txt"), READ)
    (tmp_path / "users.csv").write_text("id\n1\n")
    with pytest.raises(InputError, match=r"no column 'user_id'; .*data\.columns\.user"):
        read_segment(config_of(tmp_path / "users.csv"), pa.string())
    with pytest.raises(InputError, match=r"no column 'user_id'; .*data\.columns\.user"):
        segment_identity(config_of(tmp_path / "users.csv"), READ)  # before Ray is started
    (tmp_path / "users").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable as utf-16"):
        read_segment(config_of(tmp_path / "users"), pa.string())


def test_a_segment_that_is_read_otherwise_than_the_log_is_another_one(tmp_path):
    """Other settings may name other users of the same file."""
    (tmp_path / "users.csv").write_text("user_id,friend_id\nann,bob\n")
    config = config_of(tmp_path / "users.csv")
    same = segment_identity(config, READ)
    assert same is not None
    assert set(same) == {"uri", "size", "etag"}  # as before settings were compared
    assert (
        segment_identity(config, {"columns": READ["columns"]}) == same
    )  # made by an early version
    read = [
        DataConfig(columns=ColumnsConfig(user="friend_id")),
        DataConfig(strip_ids=True),
        DataConfig(missing_values=("ann",)),
    ]
    found = [segment_identity(replace(config, data=data), READ) for data in read]
    assert len({str(identity) for identity in [same, *found]}) == 4
    assert segment_identity(replace(config, data=read[0]), to_dict(read[0])) == same
    others = DataConfig(timezone="Europe/Berlin", columns=ColumnsConfig(timestamp="ts"))
    assert segment_identity(replace(config, data=others), READ) == same
