"""Lines for people and for log collectors, on standard error.

``LIGHTSANS_LOG=json``, or ``--log-format json``, makes every line a JSON object with time, level,
stage and the ids at hand. In both formats secrets that got into a message are blotted out. What a
line says at info level may name datasets, models, runs and files; ids of users belong to debug.
"""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from lightsans.errors import ConfigError

FORMAT_VARIABLE = "LIGHTSANS_LOG"
FORMATS = ("text", "json")

_logger = logging.getLogger("lightsans")

# Of the process, not of the thread: the thread that reports epochs speaks for the same stage.
_context: dict[str, str] = {}


def configure_logs(log_format: str | None = None) -> None:
    """Write lines in this format; None takes it from ``LIGHTSANS_LOG``, or text.

    Raises:
        ConfigError: There is no such format.
    """
    chosen = log_format or os.environ.get(FORMAT_VARIABLE) or "text"
    if chosen not in FORMATS:
        name = "--log-format" if log_format else FORMAT_VARIABLE
        raise ConfigError(f"{name}={chosen!r} is not a log format; expected text or json")
    handler = _StderrHandler()
    handler.setFormatter(JsonFormatter() if chosen == "json" else TextFormatter())
    for ours in _own_handlers():
        _logger.removeHandler(ours)
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    if chosen == "json":
        _adopt_other_loggers()


def logs_are_json() -> bool:
    """Whether lines are for a collector, so that nothing may be drawn between them."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in _own_handlers())


def log(text: str, level: int = logging.INFO, /, **fields: Any) -> None:
    """Write one line; ``fields`` are the numbers behind the text, for the JSON format."""
    if not _own_handlers():
        configure_logs()
    _logger.log(level, "%s", text, extra={"fields": fields})


def log_error(text: str, error: BaseException, *, with_traceback: bool = False) -> None:
    """Write an error with the stage and ids it happened under, as `log_context` noted them."""
    fields = {**getattr(error, "log_context", {}), "error": type(error).__name__}
    if with_traceback:
        fields["traceback"] = "".join(traceback.format_exception(error)).rstrip()
    log(text, logging.ERROR, **fields)


@contextmanager
def log_context(**values: str) -> Iterator[None]:
    """Add a stage or ids to all lines of the block; also a decorator for a whole function."""
    before = dict(_context)
    _context.update(values)
    try:
        yield
    except BaseException as error:
        if not hasattr(error, "log_context"):  # the innermost block knows most
            error.log_context = dict(_context)  # type: ignore[attr-defined]
        raise
    finally:
        _context.clear()
        _context.update(before)


def add_log_context(**values: str) -> None:
    """Add ids that became known inside a `log_context` block, until that block ends."""
    _context.update(values)


class TextFormatter(logging.Formatter):
    """The text alone, with the traceback of an unexpected error below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        text = record.getMessage()
        details = getattr(record, "fields", {}).get("traceback")
        return redact(f"{text}\n{details}" if details else text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        text = record.getMessage()
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **_context,
            "message": text.removeprefix(f"{_context.get('stage')}: "),
            **getattr(record, "fields", {}),
        }
        if record.name != _logger.name:
            content["logger"] = record.name
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(_redacted(content), ensure_ascii=False, default=str)


class _StderrHandler(logging.Handler):
    """Writes to the standard error of the moment: progress bars and tests replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "hide", False):  # Ray Data's mark for what is not for the console
            print(self.format(record), file=sys.stderr, flush=True)


def _own_handlers() -> list[_StderrHandler]:
    return [handler for handler in _logger.handlers if isinstance(handler, _StderrHandler)]


def _adopt_other_loggers() -> None:
    """Let Python's warnings and the warnings of libraries come as JSON as well."""
    handler = _StderrHandler(logging.WARNING)
    handler.setFormatter(JsonFormatter())
    logging.captureWarnings(True)
    logging.basicConfig(handlers=[handler])
    adopt_ray_loggers()


def adopt_ray_loggers() -> None:
    """Take their console away from Ray's loggers in JSON mode; they get it when they are imported.

    What Ray's C++ core prints stays as it is.
    """
    if not logs_are_json():
        return
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logger = logging.getLogger(name)
        for handler in logger.handlers[:]:
            if isinstance(handler, logging.StreamHandler) and not hasattr(handler, "baseFilename"):
                logger.removeHandler(handler)
        logger.propagate = True


# ---- secrets -------------------------------------------------------------------------------------

_BLOT = "***"
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN")
_SECRETS = [
    (re.compile(r"://(?:[^\s@/:]*:[^\s@]*|[^\s@/]+)@"), f"://{_BLOT}@"),  # user:password@ of a URL
    # AWS access keys, and what follows one that was taken out of a URL
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b(?::[^\s@'\"]+)?"), _BLOT),
    (re.compile(r"(?i)\bbearer\s+[^\s'\"]+"), f"Bearer {_BLOT}"),
    (
        re.compile(
            r"(?i)(secret_access_key|session_token|security[-_]token|auth_token|password"
            r"|x-amz-signature|x-amz-credential)(['\"]?\s*[=:]\s*['\"]?)[^\s&,;'\"]+"
        ),
        rf"\1\2{_BLOT}",
    ),
]


def redact(text: str) -> str:
    """The text without what looks like a password, token or key, or is one of this process's."""
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= 8:  # a shorter one would blot out ordinary words
            text = text.replace(value, _BLOT)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _redacted(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(entry) for entry in value]
    return value if isinstance(value, int | float | None) else redact(str(value))
