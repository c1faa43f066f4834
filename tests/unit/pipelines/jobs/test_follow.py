"""A job is followed by its log and its status, through broken streams and absences."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from ray.job_submission import JobDetails, JobStatus

from lightsans.errors import NotFoundError
from pipelines.jobs import follow as follow_room
from pipelines.jobs.client import ClusterError, OutOfReachError, get_job


def make_details(status: str, code: int | None = None, message: str = "") -> JobDetails:
    return JobDetails(
        type="SUBMISSION",
        submission_id="j",
        status=status,
        entrypoint="python submit.py train",
        driver_exit_code=code,
        message=message,
    )


class FakeCluster:
    """A job whose log grows by one line with every look at it, through streams that break off."""

    def __init__(self, log: list[str], streams: list[int], errors: dict[int, Exception]) -> None:
        self._log, self._streams, self._errors = log, iter(streams), errors
        self.looks = 0

    def get_job_info(self, job_id: str) -> JobDetails:
        self.looks += 1
        if self.looks in self._errors:
            raise self._errors[self.looks]
        over = self.looks > len(self._log)
        return make_details("SUCCEEDED" if over else "RUNNING", 0 if over else None)

    def get_job_logs(self, job_id: str) -> str:
        return "".join(self._log[: self.looks])

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        chars = next(self._streams, None)
        if chars is None:
            raise OSError("no stream")
        whole = self.get_job_logs(job_id)
        for start in range(0, chars, 3):
            yield whole[start : min(start + 3, chars)]
            await asyncio.sleep(0)


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_room, "STATUS_EVERY_S", 0.01)
    monkeypatch.setattr(follow_room, "RECONNECT_AFTER_S", 0.015)


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize("streams", [[], [0, 4], [7, 10**6], [1, 2, 3, 4, 5]])
def test_every_line_is_shown_once_however_often_the_stream_breaks(streams):
    log = [f"line {n} — ö\n" for n in range(20)] + ["no newline at the end"]
    cluster = FakeCluster(log, streams, {})
    shown: list[str] = []
    details = follow_room.follow(cluster, "j", shown.append)
    assert shown == "".join(log).split("\n")
    assert follow_room.exit_status(details) == 0


@pytest.mark.usefixtures("_fast")
def test_a_cluster_out_of_reach_for_a_while_is_asked_again(capsys):
    away: dict[int, Exception] = {n: OutOfReachError("nothing answers") for n in (2, 3, 4)}
    cluster = FakeCluster(["a\n"] * 6, [], away)
    assert follow_room.follow(cluster, "j", lambda line: None).status == JobStatus.SUCCEEDED
    assert capsys.readouterr().err.count("trying again") == 1


@pytest.mark.usefixtures("_fast")
def test_only_an_absence_without_a_break_is_given_up_on(monkeypatch):
    monkeypatch.setattr(follow_room, "GIVE_UP_AFTER_S", 0.2)
    away: dict[int, Exception] = {n: OutOfReachError("nothing answers") for n in range(2, 60, 2)}
    cluster = FakeCluster(["a\n"] * 60, [], away)  # 0.6 s in all
    assert follow_room.follow(cluster, "j", lambda line: None).status == JobStatus.SUCCEEDED


@pytest.mark.usefixtures("_fast")
def test_a_cluster_that_stays_away_leaves_the_job_to_itself(monkeypatch):
    monkeypatch.setattr(follow_room, "GIVE_UP_AFTER_S", 0.05)
    away: dict[int, Exception] = {n: OutOfReachError("nothing answers") for n in range(999)}
    with pytest.raises(ClusterError, match=r"may still be running: .* logs j --follow"):
        follow_room.follow(FakeCluster(["a\n"], [], away), "j", lambda line: None)


@pytest.mark.usefixtures("_fast")
def test_a_job_that_was_lost_with_its_head_is_an_outage_and_no_wrong_name():
    forgotten = RuntimeError("Request failed with status code 404: Job j does not exist")
    cluster = FakeCluster(["a\n"] * 9, [], {2: OutOfReachError("nothing answers"), 3: forgotten})
    with pytest.raises(ClusterError, match=r"forgotten job j while it ran: .* goes on from what"):
        follow_room.follow(cluster, "j", lambda line: None)
    with pytest.raises(NotFoundError, match="knows no job j"):
        follow_room.follow(FakeCluster([], [], {1: forgotten}), "j", lambda line: None)


def test_a_job_that_the_cluster_forgot_is_not_found():
    forgotten = RuntimeError("Request failed with status code 404: Job j does not exist")
    with pytest.raises(NotFoundError, match=r"knows no job j; `submit\.py jobs` lists them"):
        get_job(FakeCluster([], [], {1: forgotten}), "j")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", 3, 3),
        ("FAILED", 4, 4),
        ("FAILED", 130, 130),
        ("FAILED", -15, 143),
        ("FAILED", 127, 2),  # no such interpreter: what the user gave
        ("FAILED", -9, 1),
        ("FAILED", 137, 1),
        ("FAILED", 77, 1),
        ("FAILED", None, 1),
        ("STOPPED", None, 143),
    ],
)
def test_the_exit_status_of_a_job_is_one_of_the_table(status, code, expected):
    assert follow_room.exit_status(make_details(status, code)) == expected


@pytest.mark.parametrize(
    ("code", "last_line"),
    [(127, "sh: 1: python: not found"), (1, "ModuleNotFoundError: No module named 'ray'")],
)
def test_a_job_without_a_fitting_interpreter_says_how_to_name_one(code, last_line):
    text = follow_room.explain_end(make_details("FAILED", code), [last_line])
    assert "--cluster-python /path/to/python" in text
    assert ("has no ray" in text) == (code == 1)


@pytest.mark.parametrize(
    "last_line", ["failed: the loss is not finite", "No module named 'pipelines.nothing'"]
)
def test_a_job_that_failed_by_itself_is_not_blamed_on_the_interpreter(last_line):
    text = follow_room.explain_end(make_details("FAILED", 1), [last_line])
    assert text == "job j failed with exit status 1"


def test_a_job_that_never_started_gives_the_reason_of_the_cluster():
    details = make_details("FAILED", None, "runtime env setup failed: no space left")
    assert "no space left" in follow_room.explain_end(details, [])


def test_a_status_outside_the_table_is_still_told():
    text = follow_room.explain_end(make_details("FAILED", 137), [])
    assert text == "job j failed with exit status 1 (137 on the cluster)"
