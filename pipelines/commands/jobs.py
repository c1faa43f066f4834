"""``--cluster`` for the stages, and the commands `jobs`, `logs` and `stop`."""

import inspect
import json
import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from lightsans.config.file import load_config
from lightsans.errors import ConfigError
from pipelines.commands.options import JsonOption, examples, with_space
from pipelines.console.logs import (
    configure_logs,
    log,
    log_context,
    log_error,
    logs_are_json,
    redact,
)
from pipelines.console.output import print_json, print_table
from pipelines.console.progress import say

# `pipelines.jobs.client` is imported by what uses it: `--help` must not wait for Ray.

INTERRUPTED = 130
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="URL", help="Run as a job of the Ray cluster with this dashboard."
    ),
]
NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="With --cluster: print the job's id and return.")
]
ClusterPythonOption = Annotated[
    str,
    typer.Option(
        "--cluster-python",
        metavar="PATH",
        envvar="LIGHTSANS_CLUSTER_PYTHON",
        help="With --cluster: the interpreter there.",
    ),
]
LogFormatOption = Annotated[
    str | None,
    typer.Option("--log-format", metavar="text|json", help="Lines for people or for collectors."),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--cluster", metavar="URL", help="Dashboard; default: RAY_API_SERVER_ADDRESS."),
]
JobArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


# ---- stages --------------------------------------------------------------------------------------


def runs_on_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """A stage command that also takes ``--cluster``, and then submits itself as a job.

    The command needs the options ``config``, ``overrides`` and ``as_json``; all it has are passed
    on to the job.
    """

    def run(
        context: typer.Context,
        cluster: ClusterOption = None,
        no_wait: NoWaitOption = False,
        cluster_python: ClusterPythonOption = "python",
        log_format: LogFormatOption = None,
        **options: Any,
    ) -> None:
        configure_logs(log_format)
        if cluster is not None:
            raise typer.Exit(_submit(context, cluster, cluster_python, no_wait))
        job_id = _current_job()
        if job_id is not None:
            _warn_of_a_passing_root(options)
        with log_context(job_id=job_id) if job_id else nullcontext():
            try:
                command(**options)
            except KeyboardInterrupt as error:  # Typer would exit without a word
                log_error("interrupted; the same command goes on from here", error)
                raise typer.Exit(INTERRUPTED) from None

    context, *ours = (
        parameter
        for parameter in inspect.signature(run).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    )
    parameters = [context, *inspect.signature(command).parameters.values(), *ours]
    # What Typer reads the options from.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


_NOT_FOR_THE_JOB = {
    "config", "overrides", "space", "cluster", "no_wait", "cluster_python", "log_format", "help"
}  # fmt: skip


def _submit(context: typer.Context, cluster: str, python: str, no_wait: bool) -> int:
    """Run this command as a job; the exit status of the job."""
    from pipelines.jobs import client as jobs

    options = context.params
    overrides = with_space(options["overrides"], options.get("space"))
    loaded = load_config(options["config"], overrides)
    jobs.require_reachable_paths(loaded.config)
    arguments = [str(context.command.name), *_given_options(context)]
    arguments += [
        word for override in jobs.settings_as_overrides(loaded) for word in ("--set", override)
    ]
    if logs_are_json():
        arguments += ["--log-format", "json"]
    as_json = bool(options["as_json"])
    client = jobs.connect(cluster)
    variables = jobs.job_variables() if as_json else {}
    job_id = jobs.submit_job(client, arguments, python=python, variables=variables)
    with log_context(job_id=job_id):
        say(f"job {job_id} submitted to {redact(cluster)}")
        root = loaded.config.root
        if "://" not in root:
            say(f"root={root} must be a directory that all machines of the cluster share")
        if no_wait:
            print_json({"job_id": job_id}) if as_json else print(job_id)
            return 0
        return _follow(client, job_id, cluster, to_stderr=as_json, ask=True)


def _given_options(context: typer.Context) -> list[str]:
    """The options of this call as a command line, without those that concern submission."""
    words = []
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if parameter.name in _NOT_FOR_THE_JOB or value in (None, (), [], parameter.default):
            continue
        flag = parameter.opts[0] if parameter.opts[0].startswith("-") else None
        if isinstance(value, bool):
            words.append(str(flag) if value else parameter.secondary_opts[0])
            continue
        for entry in value if isinstance(value, list | tuple) else [value]:
            words += [flag, str(entry)] if flag else [str(entry)]
    return words


def _current_job() -> str | None:
    """The id of the job that this process is the driver of."""
    content = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    return json.loads(content)["metadata"].get("job_submission_id") if content else None


def _warn_of_a_passing_root(options: dict[str, Any]) -> None:
    root = load_config(options["config"], options["overrides"] or ()).config.root
    if "://" not in root and not root.startswith(("/", "~")):
        say(
            f"warning: root={root} is relative, so results are written below the job's working "
            "directory on the head, which Ray deletes; use s3://bucket/prefix or an absolute path"
        )


# ---- following a job -----------------------------------------------------------------------------


class JobLog:
    """Prints a job's lines, and keeps its JSON result and its last words."""

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
            self.result = json.dumps(found, ensure_ascii=False)
            if not line:
                return
        self.last_lines.append(line)
        if not logs_are_json():
            print(redact(line), file=self._file, flush=True)
        elif line.startswith("{") and line.endswith("}"):
            print(redact(line), file=sys.stderr, flush=True)
        else:  # Ray's own lines
            log(line)


def _follow(
    client: Any, job_id: str, cluster: str, *, to_stderr: bool, ask: bool, summary: bool = False
) -> int:
    """Follow a job to its end and print its JSON result, if any; its exit status."""
    from pipelines.jobs import client as jobs

    job_log = JobLog(to_stderr=to_stderr)
    try:
        details = jobs.follow(client, job_id, job_log.show)
    except KeyboardInterrupt:
        _leave_or_stop(client, job_id, cluster, ask=ask)
        return INTERRUPTED
    status = jobs.exit_status(details)
    say(jobs.explain_end(details, job_log.last_lines))
    if summary:
        print_json(_summary(details, job_log.result))
    elif job_log.result is not None:
        print(job_log.result)
    return status


def _leave_or_stop(client: Any, job_id: str, cluster: str, *, ask: bool) -> None:
    """What follows Ctrl-C: the job goes on unless the person says otherwise."""
    from pipelines.jobs import client as jobs

    answer = ""
    if ask and sys.stdin.isatty():
        print(f"\nStop the job {job_id}? [y/N] ", end="", file=sys.stderr, flush=True)
        try:
            answer = sys.stdin.readline().strip().lower()
        except KeyboardInterrupt:  # again: let go
            print(file=sys.stderr)
    if answer in ("y", "yes"):
        details = jobs.stop_job(client, job_id)
        say(f"job {job_id}: {details.status.value.lower()}")
        return
    say(
        f"job {job_id} goes on; `python submit.py logs {job_id} --follow --cluster {cluster}` "
        f"takes its log up again, `python submit.py stop {job_id} --cluster {cluster}` stops it"
    )


def _summary(details: Any, result: str | None) -> dict[str, Any]:
    from pipelines.jobs.client import exit_status

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

    address = cluster_address(cluster)
    submitted = [job for job in connect(address).list_jobs() if job.submission_id]
    submitted.sort(key=lambda job: job.start_time or 0)
    found = [
        {
            "job_id": job.submission_id,
            "status": job.status.value,
            "started_at": _moment(job.start_time),
            "duration_s": _duration_s(job.start_time, job.end_time),
            "exit_status": job.driver_exit_code,
            "entrypoint": job.entrypoint,
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
            _shortened(job.entrypoint),
        ]
        for entry, job in zip(found, submitted, strict=True)
    ]
    header = ["job", "status", "started (UTC)", "seconds", "command"]
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
    from pipelines.jobs import client as jobs

    address = cluster_address(cluster)
    client = jobs.connect(address)
    details = jobs.get_job(client, job_id)
    if follow:
        status = _follow(client, job_id, address, to_stderr=as_json, ask=False, summary=as_json)
        raise typer.Exit(status)
    job_log = JobLog(to_stderr=as_json)
    lines = jobs.LogLines(job_log.show)
    lines.feed(0, client.get_job_logs(job_id))
    lines.close()
    if as_json:
        print_json(_summary(details, job_log.result))
    elif job_log.result is not None:
        print(job_log.result)


def stop(job_id: JobArgument, cluster: AddressOption = None, as_json: JsonOption = False) -> None:
    """Stop a job; what it finished stays, and the same command goes on from there."""
    from pipelines.jobs import client as jobs

    details = jobs.stop_job(jobs.connect(cluster_address(cluster)), job_id)
    if as_json:
        print_json({"job_id": job_id, "status": details.status.value})
    else:
        print(f"job {job_id}: {details.status.value.lower()}")


def add_job_commands(app: typer.Typer) -> None:
    """Give the command line `jobs`, `logs` and `stop`."""
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
    line = " ".join(command.split())
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
