"""The commands `jobs`, `logs` and `stop`, and how a job is followed."""

import json
import os
import sys
from collections import deque
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from lightsans.errors import ConfigError
from pipelines.commands.options import PROGRAM, JsonOption, examples
from pipelines.console.exit_status import ExitStatus
from pipelines.console.interruption import take_time
from pipelines.console.logs import dump_json, log, logs_are_json, printable, redact
from pipelines.console.output import print_json, print_table
from pipelines.console.progress import say

# The room `pipelines.jobs` is imported by what uses it: `--help` must not wait for Ray.

ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

AddressOption = Annotated[
    str | None,
    typer.Option("--cluster", metavar="URL", help="Dashboard; default: RAY_API_SERVER_ADDRESS."),
]
JobArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


# ---- following a job -----------------------------------------------------------------------------


class JobLog:
    """Prints a job's lines, and keeps its JSON result and its last lines."""

    def __init__(self, *, to_stderr: bool) -> None:
        self._file = sys.stderr if to_stderr else sys.stdout
        self.result: str | None = None
        self.last_lines: deque[str] = deque(maxlen=30)

    def show(self, line: str) -> None:
        """Print one line of the log."""
        from pipelines.jobs.client import RESULT_MARK

        line, mark, result = line.partition(RESULT_MARK)
        if mark:  # another process may have written behind it on the same line
            found, _ = json.JSONDecoder().raw_decode(result)
            self.result = dump_json(found)
            if not line:
                return
        self.last_lines.append(line)
        if not logs_are_json():
            print(printable(redact(line), keep="\t"), file=self._file, flush=True)
        elif line.startswith("{") and line.endswith("}"):
            print(printable(redact(line)), file=sys.stderr, flush=True)
        else:  # Ray's own lines
            log(line)


def follow_job(
    client: Any, job_id: str, cluster: str, *, to_stderr: bool, ask: bool, summary: bool = False
) -> int:
    """Follow a job to its end and print its JSON result, if any; returns its exit status."""
    from pipelines.jobs.follow import exit_status, explain_end, follow

    take_time()
    job_log = JobLog(to_stderr=to_stderr)
    try:
        details = follow(client, job_id, job_log.show)
    except KeyboardInterrupt:
        _leave_or_stop(client, job_id, cluster, ask=ask)
        return ExitStatus.INTERRUPTED
    say(explain_end(details, job_log.last_lines))
    if summary:
        print_json(_summary(details, job_log.result))
    elif job_log.result is not None:
        print(job_log.result)
    return exit_status(details)


def _leave_or_stop(client: Any, job_id: str, cluster: str, *, ask: bool) -> None:
    """Handle Ctrl-C: the job goes on unless the person says otherwise."""
    from pipelines.jobs.client import stop_job

    answer = ""
    if ask and sys.stdin.isatty():
        print(f"\nStop the job {job_id}? [y/N] ", end="", file=sys.stderr, flush=True)
        try:
            answer = sys.stdin.readline().strip().lower()
        except KeyboardInterrupt:  # again: let go
            print(file=sys.stderr)
    if answer in ("y", "yes"):
        details = stop_job(client, job_id)
        say(f"job {job_id}: {details.status.value.lower()}")
        return
    rest = f"{job_id} --cluster {redact(cluster)}"
    say(
        f"job {job_id} goes on; `{PROGRAM} logs {rest} --follow` takes its log up again, "
        f"`{PROGRAM} stop {rest}` stops it"
    )


def _summary(details: Any, result: str | None) -> dict[str, Any]:
    from pipelines.jobs.follow import exit_status

    return {
        "job_id": details.submission_id,
        "status": details.status.value,
        "exit_status": exit_status(details) if details.status.is_terminal() else None,
        "result": json.loads(result) if result else None,
    }


# ---- the commands about jobs ---------------------------------------------------------------------


def list_jobs(cluster: AddressOption = None, as_json: JsonOption = False) -> None:
    """List the jobs that a cluster remembers, oldest first."""
    from pipelines.jobs.client import connect
    from pipelines.jobs.follow import exit_status

    address = cluster_address(cluster)
    submitted = [job for job in connect(address).list_jobs() if job.submission_id]
    submitted.sort(key=lambda job: job.start_time or 0)
    found = [
        {
            "job_id": job.submission_id,
            "status": job.status.value,
            "started_at": _moment(job.start_time),
            "duration_s": _duration_s(job.start_time, job.end_time),
            "exit_status": exit_status(job) if job.status.is_terminal() else None,
            "entrypoint": redact(job.entrypoint),
        }
        for job in submitted
    ]
    if as_json:
        print_json({"jobs": found})
        return
    rows = [
        [
            job.submission_id,
            job.status.value,
            str(entry["started_at"]).removesuffix("+00:00"),
            entry["duration_s"],
            "" if entry["exit_status"] is None else str(int(entry["exit_status"])),
            _shortened(redact(job.entrypoint)),
        ]
        for entry, job in zip(found, submitted, strict=True)
    ]
    header = ["job", "status", "started (UTC)", "seconds", "exit", "command"]
    print_table(f"{len(rows)} jobs of {redact(address)}", header, rows)


def show_logs(
    job_id: JobArgument,
    cluster: AddressOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until the job ends; exit with its status.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the log of a job."""
    from pipelines.jobs.client import connect, get_job
    from pipelines.jobs.follow import LogLines

    address = cluster_address(cluster)
    client = connect(address)
    details = get_job(client, job_id)
    if follow:
        status = follow_job(client, job_id, address, to_stderr=as_json, ask=False, summary=as_json)
        raise typer.Exit(status)
    job_log = JobLog(to_stderr=as_json)
    lines = LogLines(job_log.show)
    lines.feed(0, client.get_job_logs(job_id))
    lines.close()
    if as_json:
        print_json(_summary(details, job_log.result))
    elif job_log.result is not None:
        print(job_log.result)


def stop(job_id: JobArgument, cluster: AddressOption = None, as_json: JsonOption = False) -> None:
    """Stop a job; what it finished stays, and the same command goes on from there."""
    from pipelines.jobs.client import connect, stop_job

    details = stop_job(connect(cluster_address(cluster)), job_id)
    if as_json:
        print_json({"job_id": job_id, "status": details.status.value})
    else:
        print(f"job {job_id}: {details.status.value.lower()}")


def add_job_commands(app: typer.Typer) -> None:
    """Add `jobs`, `logs` and `stop`."""
    app.command("jobs", epilog=examples("jobs --cluster http://head:8265"))(list_jobs)
    app.command("logs", epilog=examples("logs lightsans-train-0a1b2c3d --follow"))(show_logs)
    app.command("stop", epilog=examples("stop lightsans-train-0a1b2c3d"))(stop)


def cluster_address(given: str | None) -> str:
    """The dashboard that was named on the command line, or else in the environment.

    Raises:
        ConfigError: There is none.
    """
    found = [given, *(os.environ.get(name) for name in ADDRESS_VARIABLES)]
    for address in found:
        if address and (address == given or address.startswith(("http://", "https://"))):
            return address
    raise ConfigError(
        "which cluster? Give --cluster http://HEAD:8265, or set RAY_API_SERVER_ADDRESS to it"
    )


def _shortened(command: str, most: int = 60) -> str:
    """The command of a job without its interpreter and its settings, of which there are many."""
    line = " ".join(command.split())
    line = line[max(0, line.find("submit.py ")) :].partition(" --set ")[0]
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _moment(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _duration_s(start_ms: int | None, end_ms: int | None) -> int | None:
    if not start_ms:
        return None
    end_s = end_ms / 1000 if end_ms else datetime.now(UTC).timestamp()
    return round(end_s - start_ms / 1000)
