"""``--cluster`` for the stages: a command submits itself as a job of a Ray cluster."""

import inspect
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from pipelines.commands.jobs import follow_job
from pipelines.commands.options import read_config, with_recommendations, with_space
from pipelines.console.logs import configure_logs, log_context, logs_are_json, redact
from pipelines.console.output import print_json
from pipelines.console.progress import say

# `pipelines.jobs.client` is imported by what uses it: `--help` must not wait for Ray.

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
WaitOption = Annotated[
    float | None,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="How long to wait for another process that makes the same result; 0: not at all, and "
        "exit with status 4. Default: without end.",
    ),
]
LogFormatOption = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        metavar="text|timed|json",
        help="Lines for people, with times, or for collectors.",
    ),
]


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
        wait: WaitOption = None,
        **options: Any,
    ) -> None:
        configure_logs(log_format)
        if cluster is not None:
            raise typer.Exit(_submit(context, cluster, cluster_python, no_wait))
        from pipelines.session.stage import set_wait

        set_wait(wait)
        job_id = _current_job()
        if job_id is not None:
            _warn_of_a_passing_root(options)
        with log_context(job_id=job_id) if job_id else nullcontext():
            command(**options)

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
    "config", "overrides", "space", "recommendations", "cluster", "no_wait", "cluster_python",
    "log_format", "help",
}  # fmt: skip


def _submit(context: typer.Context, cluster: str, python: str, no_wait: bool) -> int:
    """Run this command as a job; the exit status of the job."""
    from pipelines.jobs import client as jobs

    options = context.params
    overrides = with_space(options["overrides"], options.get("space"))
    overrides = with_recommendations(overrides, options.get("recommendations"))
    loaded = read_config(options["config"], overrides)
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
        return follow_job(client, job_id, cluster, to_stderr=as_json, ask=True)


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
    root = read_config(options["config"], options["overrides"]).config.root
    if "://" not in root and not root.startswith(("/", "~")):
        say(
            f"warning: root={root} is relative, so results are written below the job's working "
            "directory on the head, which Ray deletes; use s3://bucket/prefix or an absolute path"
        )
