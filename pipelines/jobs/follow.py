"""Follow a job: its log for people, its status for what decides how it ended.

The log comes as a stream that may break off and is taken up again; the status is asked for
separately, so that a broken stream never looks like the end of a job.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import aiohttp
from ray.job_submission import JobDetails, JobStatus

from lightsans.errors import LightSANsError, NotFoundError
from pipelines.console.exit_status import ExitStatus
from pipelines.console.logs import redact
from pipelines.console.progress import say
from pipelines.jobs.client import (
    STATUS_EVERY_S,
    ClusterError,
    JobClient,
    OutOfReachError,
    get_job,
)

RECONNECT_AFTER_S = 2.0
GIVE_UP_AFTER_S = 300.0
"""Time that the cluster may be unreachable before following ends; the job itself goes on."""


class LogLines:
    """Whole lines out of a log that arrives in pieces, and again from its start after a break."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._seen, self._rest = 0, ""

    def feed(self, position: int, text: str) -> int:
        """Show what is new of the piece at ``position``; the position after it."""
        end = position + len(text)
        if end > self._seen:
            *lines, self._rest = (self._rest + text[max(0, self._seen - position) :]).split("\n")
            self._seen = end
            for line in lines:
                self._show(line)
        return end

    def close(self) -> None:
        """Show a last line that has no end."""
        if self._rest:
            self._show(self._rest)
            self._rest = ""


def follow(client: JobClient, job_id: str, show: Callable[[str], None]) -> JobDetails:
    """Show each line of a job's log until the job is over; how it ended.

    Raises:
        ClusterError: The cluster stayed out of reach, and the job may still be running; or it was
            started anew, and the job is lost.
        NotFoundError: There is no such job.
    """
    return asyncio.run(_follow(client, job_id, LogLines(show)))


async def _follow(client: JobClient, job_id: str, log: LogLines) -> JobDetails:
    tail = asyncio.create_task(_tail(client, job_id, log))
    try:
        details = await _until_over(client, job_id)
    finally:
        tail.cancel()
        with suppress(asyncio.CancelledError):
            await tail
    try:  # the tail lags behind the status
        log.feed(0, await asyncio.to_thread(client.get_job_logs, job_id))
    except (LightSANsError, RuntimeError) as error:
        say(f"the end of the log is out of reach: {error}")
    log.close()
    return details


async def _tail(client: JobClient, job_id: str, log: LogLines) -> None:
    """Keep tailing: a stream can end, or never start behind a proxy, while the job runs."""
    while True:
        position = 0
        with suppress(aiohttp.ClientError, OSError, RuntimeError):
            async for text in client.tail_job_logs(job_id):
                position = log.feed(position, text)
        await asyncio.sleep(RECONNECT_AFTER_S)
        with suppress(LightSANsError, RuntimeError):
            log.feed(0, await asyncio.to_thread(client.get_job_logs, job_id))


async def _until_over(client: JobClient, job_id: str) -> JobDetails:
    out_of_reach_since: float | None = None
    was_there = False
    while True:
        try:
            details = await asyncio.to_thread(get_job, client, job_id)
        except OutOfReachError as error:
            now = time.monotonic()
            if out_of_reach_since is None:
                out_of_reach_since = now
                say(f"{error}; trying again, the job goes on meanwhile")
            if now - out_of_reach_since > GIVE_UP_AFTER_S:
                raise ClusterError(
                    f"{error}; gave up after {GIVE_UP_AFTER_S:.0f} s. The job {job_id} may still "
                    f"be running: `submit.py logs {job_id} --follow` takes it up again"
                ) from error
        except NotFoundError as error:
            if not was_there:
                raise
            raise ClusterError(
                f"the cluster has forgotten job {job_id} while it ran: its head was lost and "
                "another one took its place. The same command goes on from what is finished"
            ) from error
        else:
            out_of_reach_since, was_there = None, True
            if details.status.is_terminal():
                return details
        await asyncio.sleep(STATUS_EVERY_S)


# ---- how a job ended -----------------------------------------------------------------------------


_BY_SIGNAL = {2: ExitStatus.INTERRUPTED, 15: ExitStatus.TERMINATED}
_NO_INTERPRETER = (126, 127)
"""A shell's statuses for a command that cannot be run, or is not there."""


def exit_status(details: JobDetails) -> ExitStatus:
    """Exit status of the command in a job that is over, in the terms of the one table."""
    if details.status == JobStatus.SUCCEEDED:
        return ExitStatus.DONE
    if details.status == JobStatus.STOPPED:
        return ExitStatus.TERMINATED
    code = details.driver_exit_code
    if code is None or code == 0:
        return ExitStatus.FAILED
    if code < 0:
        return _BY_SIGNAL.get(-code, ExitStatus.FAILED)
    if code in _NO_INTERPRETER:
        return ExitStatus.USAGE
    return ExitStatus(code) if code in set(ExitStatus) else ExitStatus.FAILED


def explain_end(details: JobDetails, last_lines: Sequence[str]) -> str:
    """One line on how a job ended, with a way out where its last lines suggest one."""
    job_id = details.submission_id
    if details.status == JobStatus.SUCCEEDED:
        return f"job {job_id} succeeded"
    if details.status == JobStatus.STOPPED:
        return f"job {job_id} was stopped"
    code = details.driver_exit_code
    if code is None:  # it never started, or its machine went away: the log says nothing
        return f"job {job_id} failed: {redact(details.message or 'no reason was given')}"
    hint = ""
    text = "\n".join(last_lines)
    missing = re.search(r"No module named '?(?!lightsans|pipelines)([\w.]+)", text)
    if code in _NO_INTERPRETER or missing:
        what = f"has no {missing[1]}" if missing else "was not found"
        hint = (
            f": its interpreter {what}. Name the one that the cluster runs Ray with: "
            "--cluster-python /path/to/python, or LIGHTSANS_CLUSTER_PYTHON; it needs the packages "
            "of requirements.lock"
        )
    status = exit_status(details)
    there = "" if code == status else f" ({code} on the cluster)"
    return f"job {job_id} failed with exit status {status}{there}{hint}"
