import numpy as np
import pytest

from lightsans.columns.hashing import NUM_BUCKETS, bucket_range, pieces_of
from lightsans.config import DataConfig, StorageConfig
from lightsans.errors import ConfigError
from lightsans.storage.location import FileInfo, locate
from lightsans.storage.parts import part_index, part_name
from pipelines.console.progress import Bar
from pipelines.preprocess import read as preprocess_read
from pipelines.preprocess.identity import choose_num_parts
from tests.factories import local


class RecordingBar(Bar):
    """Keeps what it was told."""

    def __init__(self):
        super().__init__("reading", 3, None)
        self.notes = []

    def advance(self, count=1, note=""):
        self.notes.append((count, note))


def test_the_bar_tells_rows_and_parts_from_the_notes_of_tasks(tmp_path, monkeypatch):
    """Notes are looked at while the block runs, and once more at its end."""
    monkeypatch.setattr(preprocess_read, "_WATCH_EVERY_S", 3600)
    work, progress = local(tmp_path), RecordingBar()
    with preprocess_read._watch(work, progress):
        (work / "unit-00000.json").write_json({"read": 1500})
        (work / "unit-00001.json").write_json({"read": 500})
        (work / "part-00007.json").write_json({"part": 7})
    assert progress.notes == [
        (1, "(rows read: 0, parts written: 1)"),
        (1, "(rows read: 1,500, parts written: 1)"),
        (1, "(rows read: 2,000, parts written: 1)"),
    ]


@pytest.mark.parametrize(
    ("gigabytes", "parts", "megabytes_each"),
    [(0.001, 4, 0), (64, 956, 67), (275, 4096, 67), (1000, 4096, 244), (16000, 4096, 3906)],
)
def test_parts_grow_once_there_are_as_many_as_buckets(gigabytes, parts, megabytes_each):
    """Nothing ends at 256 GiB of text; tasks ask for memory in proportion to the part."""
    size = int(gigabytes * 10**9)
    files = [FileInfo(locate("/logs/a.csv", StorageConfig()), size, "etag")]
    assert choose_num_parts(files, DataConfig()) == parts
    assert round(size / parts / 10**6) == megabytes_each


@pytest.mark.parametrize("count", [1, 3, 956, 4095, 4096])
def test_parts_share_all_buckets_and_their_names_sort_as_they_do(count):
    ranges = [bucket_range(part, count) for part in range(count)]
    assert [bucket for first, end in ranges for bucket in range(first, end)] == list(range(4096))
    assert pieces_of(np.arange(4096, dtype=np.int32), count).tolist() == [
        part for part, (first, end) in enumerate(ranges) for _ in range(first, end)
    ]
    names = [part_name(part) for part in range(count)]
    assert names == sorted(names)
    assert [part_index(name) for name in names] == list(range(count))


def test_more_parts_than_buckets_are_refused():
    with pytest.raises(ConfigError, match=r"data\.num_parts=4097 is too large; the most is 4,096"):
        DataConfig(num_parts=4097)
    assert DataConfig(num_parts=NUM_BUCKETS).num_parts == NUM_BUCKETS
