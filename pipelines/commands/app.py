"""The command line: the app with all its commands, and `main`, which maps errors to statuses.

`submit.py` and the installed program `lightsans` both call `main`.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from lightsans.errors import LightSANsError
from pipelines.commands.config import add_config_commands
from pipelines.commands.export import add_export_commands
from pipelines.commands.inspect import add_inspect_command
from pipelines.commands.item_lists import add_item_commands
from pipelines.commands.jobs import add_job_commands
from pipelines.commands.models import add_model_commands
from pipelines.commands.operations import add_operations_commands
from pipelines.commands.options import PROGRAM, examples
from pipelines.commands.publishing import add_publish_commands
from pipelines.commands.recbole import add_recbole_commands
from pipelines.commands.stages import add_stage_commands
from pipelines.console.exit_status import DESCRIPTION, ExitStatus, status_of
from pipelines.console.faults import explain_fault
from pipelines.console.interruption import install, received, tell
from pipelines.console.logs import configure_logs, log_error, printable
from pipelines.console.output import open_closed_streams
from pipelines.session.directories import keep_logs

# Stages are imported by the commands that run them: `--help` must not wait for Ray and torch.


class _Commands(TyperGroup):
    """The group of all commands: refuses an option as another's value, and words interruptions."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the options before the command."""
        with _printable_messages():
            return super().make_context(*arguments, **options)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that the arguments name, and check the arguments that are left."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _require_values(command, rest)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Typer would exit without a word on Ctrl-C."""
        try:
            with _printable_messages():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            number = received() or signal.SIGINT
            tell(number, error)
            raise typer.Exit(128 + number) from None


@contextmanager
def _printable_messages() -> Iterator[None]:
    """Let what the parser says of a command line obey no control character in it."""
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)  # of the parser's own errors
        if isinstance(message, str):
            error.message = printable(message, keep="\n")  # type: ignore[attr-defined]
        raise


def _require_values(command: Any, arguments: Sequence[str]) -> None:
    """Refuse `--dataset --model X`, where the parser takes `--model` for the id of a dataset.

    Raises:
        typer.BadParameter: An option stands where the value of another is expected.
    """
    takes_value: dict[str, bool] = {}
    for parameter in command.params:
        is_flag = getattr(parameter, "is_flag", False) or getattr(parameter, "count", False)
        for name in (*parameter.opts, *parameter.secondary_opts):
            takes_value[name] = not is_flag
    words = iter(arguments)
    for word in words:
        if word == "--":
            return
        if not word.startswith("-") or not takes_value.get(word, False):
            continue
        value = next(words, "")  # without any, the parser says so itself
        looks_like_option = value.startswith("--") and value[2:3].isalpha()
        if value in takes_value or looks_like_option:
            raise typer.BadParameter(
                f"expected a value and found the option {value} (if {value} is the value, write "
                f"{word}={value})",
                param_hint=f"'{word}'",
            )


app = typer.Typer(
    cls=_Commands,
    help=(
        "Run a stage of the LightSANs pipeline.\n\nA stage runs on the Ray cluster of RAY_ADDRESS "
        "(set inside a Ray job), or on an embedded one."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "fetch ml-100k",
        "pipeline --config pipelines/configs/quickstart.yaml",
        "recommend --config pipelines/configs/quickstart.yaml --user 196 --items data/ml-100k.item",
    )
    + f"\n\n{DESCRIPTION}",
)
add_stage_commands(app)
add_config_commands(app)
add_inspect_command(app)
add_model_commands(app)
add_item_commands(app)
add_publish_commands(app)
add_operations_commands(app)
add_job_commands(app)
add_recbole_commands(app)
add_export_commands(app)


@contextmanager
def plain_errors(exit_with: Callable[[int], None]) -> Iterator[None]:
    """Print an error that a person can mend as one line; others keep their traceback."""
    try:
        yield
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0
        number = received() or status - 128
        if number not in (signal.SIGTERM, signal.SIGHUP):
            raise
        tell(number, error)
        exit_with(128 + number)
    except KeyboardInterrupt as error:
        ended_by = received() or signal.SIGINT
        tell(ended_by, error)
        exit_with(128 + ended_by)
    except Exception as error:
        signalled = received()
        if signalled is None:
            exit_with(_tell_error(error))
            return
        tell(signalled, error)  # whatever came of it: this is the cause
        exit_with(128 + signalled)


def _tell_error(error: Exception) -> ExitStatus:
    """Print an error; the status to exit with."""
    own = error if isinstance(error, LightSANsError) else explain_fault(error)
    if own is None:
        log_error(f"failed unexpectedly{_logs_text()}", error, with_traceback=True)
        return ExitStatus.FAILED
    status = status_of(own)
    before = {
        ExitStatus.USAGE: "error",
        ExitStatus.GATE: "not published",
        ExitStatus.BUSY: "busy",
    }.get(status, "failed")
    logs = _logs_text() if status == ExitStatus.FAILED else ""
    log_error(f"{before}: {_in_words_of_program(str(own))}{logs}", error)
    return status


def _logs_text() -> str:
    kept = keep_logs()
    return f" (Ray's logs: {kept})" if kept else ""


def _in_words_of_program(message: str) -> str:
    """The message with its commands as they are called here: a wheel brings no `submit.py`."""
    if PROGRAM == "lightsans":
        message = message.replace("python submit.py ", "lightsans ")
        message = message.replace("`submit.py ", "`lightsans ")
    return message


@cache
def _all_commands() -> Any:
    """The parser of all commands, made of their functions once a process."""
    return get_command(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line, by default that of the process, and exit with its status."""
    open_closed_streams()
    install()
    with plain_errors(sys.exit):
        configure_logs()
        _all_commands()(args=arguments)
