import getpass
import itertools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lightsans.errors import LeaseError
from lightsans.storage.conditional_writes import write_if_unchanged
from pipelines.session.lease import Lease, Owner, hold, read_holder
from tests.factories import local


@pytest.fixture
def location(tmp_path):
    return local(tmp_path) / "locks" / "nightly.json"


def change(location, **fields):
    """Rewrite a lease as its holder would have, elsewhere or at another time."""
    location.write_json({**location.read_json(), **fields})


def in_seconds(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


# ---- conditional writes


# ---- the lease


def test_a_second_run_is_told_who_holds_the_lease_and_until_when(location):
    with hold(location, "nightly --as-of 2026-11-05", 60):
        with pytest.raises(LeaseError) as caught, hold(location, "another", 60):
            pass
        ends = location.read_json()["expires_at"]
        assert "held by nightly --as-of 2026-11-05 (host " in str(caught.value)
        assert f"process {os.getpid()}, user {getpass.getuser()}) since 20" in str(caught.value)
        assert f" until {ends}" in str(caught.value)


def test_a_lease_that_was_given_back_can_be_taken_at_once(location):
    for owner in ("first", "second"):
        with hold(location, owner, 60):
            assert location.read_json()["owner"] == owner


def test_a_lease_is_given_back_when_the_block_fails(location):
    with pytest.raises(RuntimeError), hold(location, "first", 60):
        raise RuntimeError
    with hold(location, "second", 60):
        pass


def test_a_lease_is_renewed_while_it_is_held(location):
    with hold(location, "first", 0.6) as lease:
        for _ in range(4):
            time.sleep(0.3)
            with pytest.raises(LeaseError), hold(location, "second", 60):
                pass
        lease.renew()


def test_a_lease_of_another_machine_is_taken_over_only_once_it_has_ended(location):
    lease = Lease(location, "elsewhere", 60)
    lease.take()
    change(location, pid_space="another machine", expires_at=in_seconds(30))
    with pytest.raises(LeaseError, match="held by elsewhere"), hold(location, "here", 60):
        pass
    change(location, expires_at=in_seconds(-0.001))
    with hold(location, "here", 60):
        assert location.read_json()["owner"] == "here"


def test_a_lease_of_a_killed_process_of_this_machine_is_taken_over_at_once(location):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    lease = Lease(location, "killed", 60)
    lease.take()
    change(location, pid=int(done.stdout))
    with hold(location, "next", 60):
        assert location.read_json()["owner"] == "next"


def test_a_lease_of_a_killed_process_that_nobody_reaped_is_taken_over_at_once(location):
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        Lease(location, "killed", 60).take()
        change(location, pid=killed.pid)
        with pytest.raises(LeaseError, match="held by killed"), hold(location, "next", 60):
            pass
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays
        with hold(location, "next", 60):
            assert location.read_json()["owner"] == "next"
    finally:
        killed.kill()
        killed.wait()


def test_a_process_whose_state_is_not_shown_is_taken_for_living(location, monkeypatch):
    Lease(location, "hidden", 60).take()
    unreadable = Path("/nowhere")
    monkeypatch.setattr("pipelines.session.lease._pid_space", lambda: "here")
    change(location, pid_space="here")
    monkeypatch.setattr("pipelines.session.lease.Path", lambda path: unreadable)
    with pytest.raises(LeaseError, match="held by hidden"), hold(location, "next", 60):
        pass


def test_a_pid_of_another_container_says_nothing_about_its_life(location):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    Lease(location, "elsewhere", 60).take()
    for space in ("", "another container"):
        change(location, pid=int(done.stdout), pid_space=space)
        with pytest.raises(LeaseError, match="held by elsewhere"), hold(location, "here", 60):
            pass


def test_who_lost_the_lease_hears_of_it_and_leaves_the_new_holder_alone(location):
    with hold(location, "slow", 60) as slow:
        slow.renew()
        change(location, expires_at=in_seconds(-1))
        thief = Lease(location, "quick", 60)
        thief.take()
        with pytest.raises(LeaseError, match=r"lost to quick .*publishes nothing"):
            slow.renew()
    assert location.read_json()["owner"] == "quick"
    thief.renew()


def wait_and_time_the_interruption(location, block):
    """Seconds until `block` is ended, whose lease is stolen as it begins."""

    def steal_and_go_on() -> None:
        with hold(location, "slow", 1.2):
            change(location, expires_at=in_seconds(-1))
            Lease(location, "quick", 60).take()
            block()

    begun = time.monotonic()
    with pytest.raises(LeaseError, match="lost to quick"):
        steal_and_go_on()
    return time.monotonic() - begun


def test_a_lost_lease_ends_its_block_at_once_also_inside_a_long_wait(location):
    assert wait_and_time_the_interruption(location, lambda: time.sleep(60)) < 5


def test_a_block_that_swallows_errors_is_ended_all_the_same(location):
    def stubborn() -> None:
        while True:
            try:
                time.sleep(60)
            except Exception:
                continue

    assert wait_and_time_the_interruption(location, stubborn) < 5


def test_a_lost_outer_lease_ends_the_block_of_an_inner_one(location):
    def inner() -> None:
        with hold(location.parent / "inner.json", "inner", 60):
            time.sleep(60)

    assert wait_and_time_the_interruption(location, inner) < 5
    with hold(location.parent / "inner.json", "next", 60):  # it was given back
        pass


def test_a_renewal_without_an_answer_does_not_cost_the_lease(location, monkeypatch):
    answers = []

    def stalled(place, content, version):
        answers.append(place.storage.timeout_s)
        written = write_if_unchanged(place, content, version)
        if len(answers) == 1:
            raise TimeoutError("no answer")  # after it was written
        return written

    with hold(location, "first", 1.8) as lease:
        monkeypatch.setattr("pipelines.session.lease.write_if_unchanged", stalled)
        time.sleep(2.4)
        lease.renew()
        monkeypatch.undo()
        with pytest.raises(LeaseError, match="held by first"), hold(location, "x", 60):
            pass
    assert len(answers) > 2
    assert max(answers) <= 1.8 / 10  # several attempts fit into the duration


def test_a_wait_ends_when_the_lease_is_given_back(location, monkeypatch):
    monkeypatch.setattr("pipelines.session.waiting.POLL_S", 0.05)
    lease = Lease(location, "first", 60)
    lease.take()
    threading.Timer(0.4, lease.release).start()
    with hold(location, "second", 60, wait_s=30):
        assert location.read_json()["owner"] == "second"


def test_a_wait_without_end_says_a_line_a_minute_who_is_waited_for(location, monkeypatch, capfd):
    monkeypatch.setattr("pipelines.session.waiting.POLL_S", 0.02)
    monkeypatch.setattr("pipelines.session.waiting.TELL_EVERY_S", 0.2)
    lease = Lease(location, "first", 60)
    lease.take()
    threading.Timer(0.5, lease.release).start()
    with hold(location, "second", 60, wait_s=float("inf")):
        pass
    assert capfd.readouterr().err.count("waiting for first (host ") in (2, 3, 4)


def test_a_wait_that_is_given_up_says_for_whom(location):
    Lease(location, "first", 60).take()
    with pytest.raises(LeaseError, match=r"held by first \(host .* after 0.2 s of waiting"):
        Lease(location, "second", 60).take(0.2)


def test_a_worker_of_an_owner_that_lost_the_lease_is_refused(location):
    with hold(location, "first", 60) as lease:
        owner = Owner(location, lease.token)
        owner.require()
        change(location, expires_at=in_seconds(-1))
        Lease(location, "second", 60).take()
        with pytest.raises(LeaseError, match=r"lost to second .*writes nothing more"):
            owner.require()
    Owner(location, None).require()  # storage without leases


def test_a_lease_of_before_is_read(location):
    lease = Lease(location, "old", 60)
    lease.take()
    content = location.read_json()
    del content["user"], content["since"]
    location.write_json(content)
    with pytest.raises(LeaseError, match=r"held by old \(host [^,]*, process \d+\) until"):
        Lease(location, "new", 60).take()


def test_a_lease_file_that_was_removed_is_a_lost_lease(location):
    with hold(location, "first", 60) as lease:
        location.delete()
        with pytest.raises(LeaseError, match="lost to nobody: the file was removed"):
            lease.renew()
    assert not location.exists()


DEEP = b"[" * 100_000
WRONG: list[dict[str, object]] = [
    {"expires_at": "2099-01-01T00:00:00"},  # of which zone?
    {"expires_at": "soon"},
    {"expires_at": 5},
    {"expires_at": None},
    {"since": "yesterday"},
    {"pid": "1"},
    {"pid": 10**30},
    {"pid": -1},
    {"uses": "datasets/d"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_lease_with_a_field_that_makes_no_sense_is_no_lease(location, wrong):
    Lease(location, "first", 60).take()
    change(location, **wrong)
    for look in (lambda: Lease(location, "second", 60).take(), lambda: read_holder(location)):
        with pytest.raises(
            LeaseError, match=rf"is not a lease \({next(iter(wrong))} is .*remove it"
        ):
            look()


def test_a_lease_of_a_later_version_is_read(location):
    Lease(location, "first", 60).take()
    change(location, colour="blue")
    with pytest.raises(LeaseError, match="held by first"):
        Lease(location, "second", 60).take()


def test_a_lease_of_the_future_that_is_not_renewed_ends_after_its_duration(location, monkeypatch):
    monkeypatch.setattr("pipelines.session.waiting.POLL_S", 0.02)
    Lease(location, "of another clock", 0.3).take()
    change(location, expires_at=in_seconds(3e9), host="elsewhere", pid_space="")
    with pytest.raises(LeaseError, match="held by of another clock"):
        Lease(location, "impatient", 60).take()
    Lease(location, "patient", 60).take(wait_s=30)
    assert location.read_json()["owner"] == "patient"


def test_a_lease_of_the_future_that_is_renewed_is_left_to_its_holder(location, monkeypatch):
    monkeypatch.setattr("pipelines.session.waiting.POLL_S", 0.02)
    Lease(location, "of another clock", 0.5).take()
    change(location, expires_at=in_seconds(3e9), host="elsewhere", pid_space="")
    renewals, sleep = itertools.count(), time.sleep

    def renew(seconds):
        change(location, expires_at=in_seconds(3e9 + next(renewals)))
        sleep(min(seconds, 0.02))

    monkeypatch.setattr("pipelines.session.lease.time.sleep", renew)
    with pytest.raises(LeaseError, match=r"held by of another clock .* after 1 s"):
        Lease(location, "other", 60).take(wait_s=1)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"owner": 1, "colour": 2}', DEEP])
def test_a_file_that_is_no_lease_is_an_error_that_says_what_to_do(location, content):
    location.write_bytes(content)
    with pytest.raises(LeaseError, match=r"is not a lease \(.*remove it"), hold(location, "x", 60):
        pass


def test_of_many_who_take_a_lease_at_once_one_gets_it(location):
    for round_number in range(5):
        if round_number:
            change(location, expires_at=in_seconds(-1))  # what was held has ended
        barrier = threading.Barrier(8)

        def attempt(name: str, barrier: threading.Barrier = barrier) -> str:
            lease = Lease(location, name, 60)
            barrier.wait()
            try:
                lease.take()
            except LeaseError as error:
                return str(error)
            return name

        with ThreadPoolExecutor(8) as pool:
            said = set(pool.map(attempt, [f"run-{i}" for i in range(8)]))
        winner = location.read_json()["owner"]
        assert winner in said
        assert all(f"held by {winner} " in refusal for refusal in said - {winner})
