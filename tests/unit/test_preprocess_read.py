from lightsans.config import StorageConfig
from lightsans.storage import locate
from pipelines import preprocess_read
from pipelines.progress import Bar


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
    work, progress = locate(str(tmp_path), StorageConfig()), RecordingBar()
    with preprocess_read._watch(work, progress):
        (work / "unit-00000.json").write_json({"read": 1500})
        (work / "unit-00001.json").write_json({"read": 500})
        (work / "part-00007.json").write_json({"part": 7})
    assert progress.notes == [
        (1, "(rows read: 0, parts written: 1)"),
        (1, "(rows read: 1,500, parts written: 1)"),
        (1, "(rows read: 2,000, parts written: 1)"),
    ]
