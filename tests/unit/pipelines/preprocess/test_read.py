import pytest

from lightsans.config import DataConfig, StorageConfig
from lightsans.reading.units import ReadPlan, ReadUnit
from lightsans.storage.location import FileInfo, locate
from pipelines.console.progress import Bar
from pipelines.preprocess import read as preprocess_read
from pipelines.preprocess.read import Source, is_little
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
    ("name", "megabytes", "units", "little"),
    [
        ("day.csv", 200, 7, True),
        ("day.csv", 300, 8, False),
        ("day.csv", 1, 9, False),
        ("day.csv.gz", 60, 1, True),
        ("year.csv.gz", 10_000, 1, False),  # a single unit, read as a stream
    ],
)
def test_a_writer_holds_all_rows_of_little_input_only(name, megabytes, units, little):
    file = FileInfo(locate(f"/logs/{name}", StorageConfig()), megabytes * 2**20, "etag")
    plan = ReadPlan([ReadUnit(n, ()) for n in range(units)], "string", "string")
    assert is_little(plan, Source(DataConfig(), [file], [])) == little
