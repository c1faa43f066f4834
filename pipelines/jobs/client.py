"""Commands as jobs of a Ray cluster, through the Jobs API of its dashboard.

A job runs the same command line on an uploaded copy of the code.
"""

import logging
import os
import re
import shlex
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import requests
import urllib3
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from lightsans.config import RunConfig
from lightsans.config.file import LoadedConfig
from lightsans.config.marks import named_paths
from lightsans.errors import AccessError, ConfigError, LightSANsError, NotFoundError
from lightsans.scratch import scratch_directory
from pipelines.console.logs import dump_json, redact
from pipelines.console.output import RESULT_MARK_VARIABLE

CODE = Path(__file__).resolve().parents[2]
"""Directory of the packages: a checkout, or the site-packages of an installed wheel."""
PACKAGES = ("lightsans", "pipelines")
RESULT_MARK = "lightsans-result: "
"""Mark before the JSON result in a job's log, which mixes standard output and standard error."""

JOB_VARIABLE = "LIGHTSANS_JOB"
"""Variable of a job that holds its id."""

REQUEST_TIMEOUT_S = 120.0
ATTEMPTS, BETWEEN_ATTEMPTS_S = 4, 1.0
"""Requests whose connection ended without an answer are sent again: a busy dashboard drops some."""
NO_AGENT = "No available agent"
"""Beginning of the answer of a head that starts, or is busy, once it has waited ten seconds."""
STATUS_EVERY_S = 1.0
STOP_WITHIN_S = 60.0
MAX_COMMAND_BYTES = 100_000
"""Linux allows one argument 128 KiB, and the whole command is one argument of a shell."""


class ClusterError(LightSANsError):
    """The cluster cannot be reached, or refuses what it is asked."""


class OutOfReachError(ClusterError):
    """No answer: another attempt may get one."""


class DroppedError(OutOfReachError):
    """The connection ended before an answer, or nobody there is ready to carry the request out."""


class JobClient(Protocol):
    """The part of a `JobSubmissionClient` that following a job needs."""

    def get_job_info(self, job_id: str) -> JobDetails:
        """Status and exit code of a job."""

    def get_job_logs(self, job_id: str) -> str:
        """All that a job has printed so far."""

    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """Yield the output of a job from its start, as it comes."""


# ---- reaching the cluster ------------------------------------------------------------------------


class _Client(JobSubmissionClient):
    """Ray's client with a time limit on requests, more attempts, and errors that say what to do."""

    def _do_request(self, method: str, endpoint: str, **kwargs: Any) -> requests.Response:
        starts_a_job = method == "POST" and endpoint == "/api/jobs/"
        for _ in range(0 if starts_a_job else ATTEMPTS - 1):
            with suppress(DroppedError):
                return self._ask(method, endpoint, **kwargs)
            time.sleep(BETWEEN_ATTEMPTS_S)
        return self._ask(method, endpoint, **kwargs)

    def _ask(self, method: str, endpoint: str, **kwargs: Any) -> requests.Response:
        address = redact(self._address)
        try:
            response = super()._do_request(
                method, endpoint, **{"timeout": REQUEST_TIMEOUT_S, **kwargs}
            )
        except AuthenticationError as error:
            raise AccessError(_explain_refusal(address, error.message)) from None
        except (requests.ConnectionError, requests.Timeout) as error:
            raise (DroppedError if _is_dropped(error) else OutOfReachError)(
                f"nothing answers at {address} ({_root_cause(error)}). Is this the address of the "
                "dashboard, usually http://HEAD:8265, and is the port open or forwarded? The head "
                "serves it only when ray[default] is installed there, and to other machines only "
                "when started with --dashboard-host=0.0.0.0"
            ) from None
        if response.status_code >= 500:
            is_early = response.text.startswith(NO_AGENT)
            raise (DroppedError if is_early else OutOfReachError)(
                f"{address} answers with an error: {redact(response.text)}"
            )
        return response


def _is_dropped(error: requests.RequestException) -> bool:
    """Whether somebody was there, who closed the connection without an answer."""
    return bool(error.args) and isinstance(error.args[0], urllib3.exceptions.ProtocolError)


def connect(address: str) -> JobSubmissionClient:
    """A client for the dashboard at an address such as http://head:8265.

    Raises:
        ConfigError: This is not such an address.
        AccessError: The token is missing or wrong.
        OutOfReachError: Nothing answers there.
    """
    if not re.match(r"https?://[^\s/]+", address):
        raise ConfigError(
            f"--cluster={redact(address)}: expected the address of the dashboard, usually "
            "http://HEAD:8265 (6379 and 10001 are other services of the head)"
        )
    with _without_ray_address():
        try:
            return _Client(address)
        except AuthenticationError as error:  # Ray looks for the token before it asks anybody
            reason = error.message.rstrip(".")
            raise AccessError(f"{reason}. To mend it, {_TOKEN_WAY_OUT}") from None
        except (RuntimeError, requests.RequestException, ValueError, KeyError) as error:
            raise ConfigError(
                f"--cluster={redact(address)} is no dashboard of a Ray cluster: "
                f"{redact(str(error))}"
            ) from None


@contextmanager
def _without_ray_address() -> Iterator[None]:
    """Ray prefers these variables to the address it is given; a command line should win."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    saved = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


_TOKEN_WAY_OUT = (
    "export RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or the path of a file "
    "with it in RAY_AUTH_TOKEN_PATH (by default ~/.ray/auth_token); `ray get-auth-token` on the "
    "head prints it"
)


def _explain_refusal(address: str, reason: str) -> str:
    if "failed" in reason:
        return (
            f"{address} does not accept the token (HTTP 403): it belongs to another cluster or was "
            f"replaced. To mend it, {_TOKEN_WAY_OUT}"
        )
    mode = os.environ.get("RAY_AUTH_MODE") or "not set"
    return (
        f"{address} asks for a token (HTTP 401), and RAY_AUTH_MODE is {mode}. To mend it, "
        f"{_TOKEN_WAY_OUT}"
    )


def _root_cause(error: BaseException) -> str:
    """The last words of an exception: "Connection refused" out of urllib3's nesting."""
    text = str(error)
    found = re.search(r"\[Errno -?\d+\] ([^')\"]+)|(timed out)", text)
    return next((group for group in found.groups() if group), text) if found else text


# ---- submitting ----------------------------------------------------------------------------------


def settings_as_overrides(loaded: LoadedConfig) -> list[str]:
    """The settings that somebody chose, as ``--set`` takes them.

    A job gets its configuration this way: a file may lie outside the uploaded directory, and the
    list of jobs then shows what each of them ran with.
    """
    return [
        f"{name}={dump_json(value)}"
        for name, value in _leaves(loaded.config)
        if loaded.origins[name] != "default"
    ]


def _leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(section):
        value = getattr(section, field.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def require_reachable_paths(config: RunConfig) -> None:
    """Refuse paths that only mean something on this machine.

    Raises:
        ConfigError: A setting that names a file or directory holds a relative path.
    """
    from lightsans.warehouse.tables import path_in  # `jobs` and `logs` start sooner without

    for name, path in named_paths(config):
        place = path_in(path)
        if place and "://" not in place and not place.startswith(("/", "~")):
            raise ConfigError(
                f"{name}={path} is relative to this directory, which the cluster does not have; "
                "use s3://bucket/prefix, or an absolute path that all of its machines share"
            )


def submit_job(
    client: JobSubmissionClient, arguments: Sequence[str], *, python: str, variables: dict[str, str]
) -> str:
    """Upload the code and start ``submit.py`` with these arguments; the id of the job.

    Args:
        client: From `connect`.
        arguments: The command line after ``submit.py``.
        python: Interpreter on the head, or a command in front of one.
        variables: Environment variables of the job.

    Raises:
        ClusterError: The upload or the start is refused.
        ConfigError: The command line is too long.
    """
    entrypoint = shlex.join([*shlex.split(python), "submit.py", *arguments])
    if len(entrypoint.encode()) > MAX_COMMAND_BYTES:
        raise ConfigError(
            f"the settings of this run take {len(entrypoint.encode()):,} bytes, and the command of "
            f"a job at most {MAX_COMMAND_BYTES:,}; give data.input as a directory or glob"
        )
    job_id = f"lightsans-{arguments[0]}-{uuid.uuid4().hex[:8]}"
    with _quiet_upload(), upload_directory(CODE) as directory:
        environment = environment_of(job_id, str(directory), variables)
        attempt = 1
        while True:
            try:
                return _submit(client, job_id, entrypoint, environment)
            except DroppedError:
                time.sleep(BETWEEN_ATTEMPTS_S)
                if _is_known(client, job_id):  # only the answer was lost
                    return job_id
                if attempt == ATTEMPTS:
                    raise
            attempt += 1


def _submit(
    client: JobSubmissionClient, job_id: str, entrypoint: str, environment: dict[str, Any]
) -> str:
    try:
        return client.submit_job(
            entrypoint=entrypoint, submission_id=job_id, runtime_env=environment
        )
    except (RuntimeError, ValueError) as error:
        raise ClusterError(f"the job was not accepted: {redact(str(error))}") from error


def _is_known(client: JobClient, job_id: str) -> bool:
    try:
        get_job(client, job_id)
    except NotFoundError:
        return False
    return True


def environment_of(job_id: str, directory: str, variables: dict[str, str]) -> dict[str, Any]:
    """The runtime environment of a job, which no other job has.

    Where Ray failed to set one up, for a full disk perhaps, it refuses the same one on that machine
    for ten minutes without a try: the same command again must not ask for the same.
    """
    return {"working_dir": directory, "env_vars": {**variables, JOB_VARIABLE: job_id}}


@contextmanager
def upload_directory(code: Path) -> Iterator[Path]:
    """A directory with ``submit.py`` and both packages, as a job needs it.

    A checkout is one, and `.rayignore` says what of it is uploaded. Beside installed packages lie
    others: they are copied, and ``submit.py``, which a wheel does not bring, is written.

    Args:
        code: Where the packages lie.
    """
    if (code / "submit.py").exists() and (code / ".rayignore").exists():
        yield code
        return
    with scratch_directory("lightsans-job-") as made:
        directory = Path(made)
        for package in PACKAGES:
            without_caches = shutil.ignore_patterns("__pycache__")
            shutil.copytree(code / package, directory / package, ignore=without_caches)
        program = "from pipelines.commands.app import main\n\nmain()\n"
        (directory / "submit.py").write_text(program)
        yield directory


@contextmanager
def _quiet_upload() -> Iterator[None]:
    """Ray warns about each directory that it leaves out by default, such as .venv."""
    logger = logging.getLogger("ray._private.runtime_env")
    uploads = logging.getLogger("ray.dashboard.modules.dashboard_sdk")
    levels = logger.level, uploads.level
    logger.setLevel(logging.ERROR)
    uploads.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(levels[0])
        uploads.setLevel(levels[1])


def job_variables() -> dict[str, str]:
    """Environment variables that make a job mark its JSON result in the log."""
    return {RESULT_MARK_VARIABLE: RESULT_MARK}


# ---- looking and stopping ------------------------------------------------------------------------


def get_job(client: JobClient, job_id: str) -> JobDetails:
    """Status and exit code of a job.

    Raises:
        NotFoundError: There is no such job.
    """
    try:
        return client.get_job_info(job_id)
    except RuntimeError as error:
        if "does not exist" in str(error):
            raise NotFoundError(
                f"the cluster knows no job {job_id}; `submit.py jobs` lists them. A head that was "
                "restarted has forgotten its jobs"
            ) from None
        raise


def stop_job(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """Stop a job and wait for its end; nothing happens when it is over.

    Raises:
        NotFoundError: There is no such job.
        ClusterError: It does not end.
    """
    details = get_job(client, job_id)
    if details.status.is_terminal():
        return details
    client.stop_job(job_id)
    deadline = time.monotonic() + STOP_WITHIN_S
    while time.monotonic() < deadline:
        details = get_job(client, job_id)
        if details.status.is_terminal():
            return details
        time.sleep(STATUS_EVERY_S / 2)
    raise ClusterError(f"job {job_id} has not stopped after {STOP_WITHIN_S:.0f} s; try again")
