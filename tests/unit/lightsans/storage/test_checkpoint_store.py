import threading

import pytest

from lightsans.config import StorageConfig
from lightsans.storage.checkpoint_store import PROGRESS, CheckpointStore, complete_checkpoints
from lightsans.storage.location import Location


def files(text: str = "x") -> dict[str, bytes]:
    return {PROGRESS: text.encode(), "weights": b"w"}


@pytest.fixture
def directory(tmp_path) -> Location:
    return Location(str(tmp_path / "checkpoints"), StorageConfig())


def test_the_newest_and_those_asked_for_are_kept(directory):
    store = CheckpointStore(directory, keep=2)
    names = ["epoch-00001", "epoch-00001-step-00000007", "epoch-00002", "epoch-00003"]
    for name in names:
        store.write(name, files, also_kept=["epoch-00001"])
    store.wait()
    assert store.names() == ["epoch-00001", "epoch-00002", "epoch-00003"]
    assert (directory / "epoch-00002" / "weights").read_bytes() == b"w"


def test_what_is_interrupted_is_no_checkpoint(directory):
    (directory / "epoch-00009" / "weights").write_bytes(b"half")
    store = CheckpointStore(directory)
    store.write("epoch-00001", files)
    store.wait()
    assert complete_checkpoints(directory) == ["epoch-00001"]


def test_the_marker_is_written_last_and_training_does_not_wait(directory):
    seen: list[bool] = []
    goes_on = threading.Event()

    class Watched(dict[str, bytes]):
        def __getitem__(self, name: str) -> bytes:
            seen.append((directory / "epoch-00001" / PROGRESS).exists())
            return super().__getitem__(name)

    def make() -> dict[str, bytes]:
        goes_on.wait()
        return Watched(files())

    store = CheckpointStore(directory)
    store.write("epoch-00001", make)
    assert store.is_writing
    goes_on.set()
    store.wait()
    assert seen == [False, False]
    assert store.names() == ["epoch-00001"]


def test_a_failed_upload_is_raised_by_the_next_call(directory):
    def fail() -> dict[str, bytes]:
        raise OSError("no space left")

    store = CheckpointStore(directory)
    store.write("epoch-00001", fail)
    with pytest.raises(OSError, match="no space left"):
        store.wait()
    assert store.names() == []
