"""Find or make: one process makes a result, the others find it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import pytest

from lightsans.config import StorageConfig
from lightsans.errors import LeaseError
from lightsans.storage.location import locate
from lightsans.storage.manifests import Manifest, is_finished
from pipelines.session.lease import Lease, hold
from pipelines.session.stage import find_or_make, own, set_wait, wait_setting
from tests.factories import local


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.session.waiting.POLL_S", 0.05)
    return local(tmp_path)


@pytest.fixture
def waits():
    """Sets how long stages wait; the default comes back after the test."""
    yield set_wait
    set_wait(None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing(Manifest):
    kind: ClassVar = "thing"
    number: int


class Maker:
    """Makes results, and remembers how it was asked to."""

    def __init__(self, root):
        self.root, self.directory = root, root / "things" / "0123"
        self.calls = []

    def run(self, **settings):
        return make_thing(self, self._make, **settings)

    def _make(self, owner, anew):
        self.calls.append(anew)
        owner.require()
        assert not is_finished(self.directory) or anew
        return Thing(number=len(self.calls))


def make_thing(maker, make, **settings):
    return find_or_make(
        Thing, maker.directory, maker.root, stage="make", kind="thing", make=make, **settings
    )


@pytest.fixture
def maker(root):
    return Maker(root)


def test_a_result_is_made_once_and_then_found(maker, capfd):
    manifest, found = maker.run()
    assert (manifest.number, found) == (1, False)
    assert maker.run() == (manifest, True)
    assert maker.calls == [False]
    assert "make: thing 0123 is up to date (" in capfd.readouterr().err


def test_force_and_results_that_are_not_current_are_made_anew(maker):
    maker.run()
    assert maker.run(force=True)[0].number == 2
    manifest, found = maker.run(is_current=lambda manifest: manifest.number == 7)
    assert (manifest.number, found) == (3, False)
    assert maker.calls == [False, True, True]


def test_force_without_a_finished_result_begins_anew_too(maker):
    maker.run(force=True)
    assert maker.calls == [True]


def test_of_many_at_once_one_makes_the_result_and_the_others_find_it(maker):
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: maker.run(), range(6)))
    assert len(maker.calls) == 1
    assert sorted(found for _, found in results) == [False] + [True] * 5
    assert {manifest.number for manifest, _ in results} == {1}


def test_with_no_time_to_wait_the_error_names_who_is_at_work(maker, waits):
    waits(0)
    other = Lease(maker.root / "locks" / "thing-0123.json", "make of thing 0123", 60)
    other.take()
    with pytest.raises(LeaseError, match=r"held by make of thing 0123 \(host .*process .*since"):
        maker.run()
    assert maker.calls == []
    other.release()
    assert maker.run()[1] is False


def test_a_finished_result_is_found_whoever_holds_its_lease(maker, waits):
    waits(0)
    maker.run()
    Lease(maker.root / "locks" / "thing-0123.json", "somebody", 60).take()
    assert maker.run()[1] is True


def test_who_lost_the_lease_writes_no_manifest(maker):
    lock = maker.root / "locks" / "thing-0123.json"

    def make(owner, anew):
        content = lock.read_json()
        lock.write_json({**content, "owner": "a rival", "token": "another"})
        return Thing(number=0)

    with pytest.raises(LeaseError, match="lost to a rival"):
        make_thing(maker, make)
    assert not is_finished(maker.directory)
    assert lock.read_json()["owner"] == "a rival"


def test_a_failure_gives_the_lease_back_and_leaves_no_manifest(maker):
    def fail(owner, anew):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        make_thing(maker, fail)
    assert maker.run(wait_s=0)[1] is False


def test_other_results_are_not_waited_for(maker):
    with own(maker.root / "things" / "4567", maker.root, stage="make", kind="thing"):
        assert maker.run(wait_s=0)[1] is False


def test_storage_without_conditional_writes_is_used_with_a_warning(capfd):
    root = locate("memory://bucket/root", StorageConfig())
    maker = Maker(root)
    assert maker.run()[1] is False
    assert "no conditional writes" in capfd.readouterr().err
    assert maker.run()[1] is True
    root.delete()


def test_the_wait_is_without_end_unless_it_is_set(waits):
    assert wait_setting() == float("inf")
    assert wait_setting(0) == 0
    waits(7)
    assert wait_setting(0) == 7


def test_a_wait_inside_a_thread_finds_what_was_made_meanwhile(maker):
    begun, go_on = threading.Event(), threading.Event()

    def slow(owner, anew):
        begun.set()
        assert go_on.wait(10)
        return Thing(number=1)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(make_thing, maker, slow)
        assert begun.wait(10)
        second = pool.submit(maker.run)
        threading.Timer(0.2, go_on.set).start()
        assert first.result()[1] is False
        assert second.result()[1] is True
    assert maker.calls == []


def read_elsewhere(root, seconds):
    """Take a lease as another machine would have, to read the result for so many seconds."""
    lock = root / "locks" / "other-x.json"
    Lease(lock, "train of model x", seconds, ["things/0123"]).take()
    lock.write_json({**lock.read_json(), "host": "elsewhere", "pid_space": ""})


def test_a_result_that_another_process_reads_is_not_made_anew_meanwhile(root, monkeypatch):
    monkeypatch.setattr("pipelines.session.waiting.POLL_S", 0.05)
    maker = Maker(root)
    maker.run()
    read_elsewhere(root, 0.6)
    with pytest.raises(LeaseError, match=r"0123: train of model x \(host elsewhere.* reads it"):
        maker.run(force=True, wait_s=0)
    assert is_finished(maker.directory)
    assert maker.calls == [False]
    maker.run(force=True, wait_s=30)
    assert maker.calls == [False, True]


def test_what_a_process_reads_itself_it_may_make_anew(root):
    maker = Maker(root)
    maker.run()
    with hold(root / "locks" / "other-x.json", "search", 60, uses=["things/0123"]):
        maker.run(force=True, wait_s=0)
    assert maker.calls == [False, True]
