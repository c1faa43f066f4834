import json
import threading
from dataclasses import dataclass
from functools import partial

import pytest

from lightsans.errors import LeaseError
from lightsans.storage.checkpoint_store import (
    PROGRESS,
    CheckpointStore,
    checkpoint_name,
    complete_checkpoints,
    discard_without_best,
    find_checkpoint,
)
from lightsans.storage.location import Location
from tests.factories import local


def files(best: int = 0, weights: bytes = b"w") -> dict[str, bytes]:
    return {PROGRESS: json.dumps({"best_epoch": best}).encode(), "weights": weights}


@dataclass
class Lease:
    """Who owns the checkpoints at the moment."""

    holder: str

    def require(self, owner: str) -> None:
        if self.holder != owner:
            raise LeaseError(f"lost to {self.holder}")

    def store_of(self, owner: str, directory: Location) -> CheckpointStore:
        return CheckpointStore(directory, owner=owner, require_owner=partial(self.require, owner))


def write(store: CheckpointStore, epoch: int, best: int, weights: bytes = b"w") -> None:
    store.write(checkpoint_name(epoch), partial(files, best, weights))
    store.wait()


@pytest.fixture
def directory(tmp_path) -> Location:
    return local(tmp_path / "checkpoints")


def test_the_newest_and_the_best_they_name_are_kept(directory):
    store = CheckpointStore(directory, keep=2)
    names = ["epoch-00001", "epoch-00001-step-00000007", "epoch-00002", "epoch-00003"]
    for name in names:
        store.write(name, partial(files, 1))
    store.wait()
    assert store.names() == ["epoch-00001", "epoch-00002", "epoch-00003"]
    checkpoint = find_checkpoint(directory / "epoch-00002")
    assert checkpoint is not None
    assert checkpoint.best == "epoch-00001"
    assert checkpoint.read("weights") == b"w"


def test_a_second_run_never_removes_the_best_checkpoint_of_the_first(directory):
    """Two `train` of one id: the slower one writes its first epoch beside epoch 6, best 3."""
    first, second = CheckpointStore(directory), CheckpointStore(directory)
    for epoch in range(1, 7):
        write(first, epoch, best=min(epoch, 3))
    write(second, 1, best=1)
    assert complete_checkpoints(directory) == [checkpoint_name(epoch) for epoch in (1, 3, 5, 6)]


def test_a_run_that_was_taken_over_writes_nothing_more(directory):
    lease = Lease("first")
    first = lease.store_of("first", directory)
    write(first, 1, best=1, weights=b"of the first")
    lease.holder = "second"
    with pytest.raises(LeaseError, match="lost to second"):
        write(first, 2, best=2)
    assert complete_checkpoints(directory) == ["epoch-00001"]


def test_a_run_that_is_taken_over_while_it_writes_completes_nothing(directory):
    lease = Lease("first")

    class TakenOver(dict[str, bytes]):
        """Files of the first run; while its weights are read, the second one takes over."""

        def items(self):
            for name in self:
                lease.holder = "second"
                write(lease.store_of("second", directory), 1, 1, b"of the second")
                yield name, self[name]

    first = lease.store_of("first", directory)
    first.write("epoch-00001", lambda: TakenOver(files(1, b"of the first")))
    with pytest.raises(LeaseError):
        first.wait()
    checkpoint = find_checkpoint(directory / "epoch-00001")
    assert checkpoint is not None
    assert checkpoint.read("weights") == b"of the second"


def test_checkpoints_whose_best_epoch_is_missing_are_discarded(directory):
    store = CheckpointStore(directory, keep=9)
    for epoch, best in ((1, 1), (2, 1), (4, 3), (5, 3)):
        write(store, epoch, best)
    assert discard_without_best(directory) == ["epoch-00003"]
    assert complete_checkpoints(directory) == ["epoch-00001", "epoch-00002"]
    assert discard_without_best(directory) == []


def test_a_checkpoint_of_before_has_its_files_beside_its_progress(directory):
    (directory / "epoch-00001" / "weights").write_bytes(b"w")
    (directory / "epoch-00001" / PROGRESS).write_bytes(files(1)[PROGRESS])
    checkpoint = find_checkpoint(directory / "epoch-00001")
    assert checkpoint is not None
    assert checkpoint.read("weights") == b"w"


def test_what_is_interrupted_is_no_checkpoint(directory):
    (directory / "epoch-00009" / "weights").write_bytes(b"half")
    store = CheckpointStore(directory)
    write(store, 1, best=1)
    assert complete_checkpoints(directory) == ["epoch-00001"]


def test_the_marker_is_written_last_and_training_does_not_wait(directory):
    seen: list[bool] = []
    goes_on = threading.Event()

    class Watched(dict[str, bytes]):
        def items(self):
            for name in self:
                seen.append((directory / "epoch-00001" / PROGRESS).exists())
                yield name, self[name]

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


def test_closed_nothing_is_written_any_more_and_failures_are_not_told(directory):
    """The process may train another model next, or be one whose training has just failed."""
    done, goes_on = [], threading.Event()

    def make(content: dict[str, bytes]) -> dict[str, bytes]:
        goes_on.wait()
        done.append(content)
        return content

    for content in (files(), {}):
        goes_on.clear()
        store = CheckpointStore(directory)
        store.write("epoch-00001", partial(make, content))
        threading.Timer(0.2, goes_on.set).start()
        store.close()
        assert done[-1] is content
        assert not store.is_writing
    assert store.names() == ["epoch-00001"], "the second has no progress: it changed nothing"


def test_a_failed_upload_is_raised_by_the_next_call(directory):
    def fail() -> dict[str, bytes]:
        raise OSError("no space left")

    store = CheckpointStore(directory)
    store.write("epoch-00001", fail)
    with pytest.raises(OSError, match="no space left"):
        store.wait()
    assert store.names() == []
