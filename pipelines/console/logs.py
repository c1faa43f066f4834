"""Lines for people and for log collectors, on standard error.

``LIGHTSANS_LOG=json``, or ``--log-format json``, makes every line a JSON object with time, level,
stage and the ids at hand; ``timed`` puts the time, in UTC, before the text. In all formats secrets
that got into a message are redacted, and control characters are written as escapes: ids and titles
come from logs that users write. What a line says at info level may name datasets, models, runs and
files; ids of users belong to debug.
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
from functools import lru_cache
from typing import Any

from lightsans.config.checks import AZURE_ACCOUNT, TABLE_VERSION
from lightsans.errors import ConfigError

FORMAT_VARIABLE = "LIGHTSANS_LOG"
FORMATS = ("text", "timed", "json")

_logger = logging.getLogger("lightsans")

# Of the process, not of the thread: the thread that reports epochs logs for the same stage.
_context: dict[str, str] = {}


def configure_logs(log_format: str | None = None) -> None:
    """Write lines in this format; None takes it from ``LIGHTSANS_LOG``, or text.

    Raises:
        ConfigError: There is no such format.
    """
    chosen = log_format or os.environ.get(FORMAT_VARIABLE) or "text"
    if chosen not in FORMATS:
        name = "--log-format" if log_format else FORMAT_VARIABLE
        raise ConfigError(f"{name}={chosen!r} is not a log format; expected text, timed or json")
    handler = _StderrHandler()
    handler.setFormatter(_FORMATTERS[chosen]())
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
        try:
            configure_logs()
        except ConfigError:  # this line may be about that very error
            configure_logs("text")
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
        return printable(redact(f"{text}\n{details}" if details else text), keep="\n\t")


class TimedFormatter(TextFormatter):
    """The text behind its time, for logs that nobody watches as they are written."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%SZ} {super().format(record)}"


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
        return dump_json(redacted(content))


_FORMATTERS: dict[str, type[logging.Formatter]] = {
    "text": TextFormatter,
    "timed": TimedFormatter,
    "json": JsonFormatter,
}


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


# ---- what a terminal obeys -----------------------------------------------------------------------

_CONTROLS = (
    *range(0x20),  # C0, with ESC and BEL
    *range(0x7F, 0xA0),  # DEL and C1
    *(0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)),  # direction, lines
    *range(0xD800, 0xE000),  # lone surrogates, which no UTF-8 stream takes
)
_AS_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CONTROLS}
_IN_JSON = {code: f"\\u{code:04x}" for code in _CONTROLS}


def printable(text: str, *, keep: str = "") -> str:
    """The text with every control character but those to keep as an escape.

    Covers what moves a cursor, sets a title or the clipboard (C0, DEL, C1) and what reorders a line
    (overrides of direction, separators of lines).
    """
    return text.translate(_escapes_but(keep))


@lru_cache  # of over two thousand characters, for every line that is shown
def _escapes_but(keep: str) -> dict[int, str]:
    kept = {ord(character) for character in keep}
    return {code: shown for code, shown in _AS_ESCAPES.items() if code not in kept}


def dump_json(content: Any) -> str:
    """One line of JSON that a terminal can show: the same value with controls as escapes."""
    return json.dumps(content, ensure_ascii=False, default=str).translate(_IN_JSON)


# ---- secrets -------------------------------------------------------------------------------------

_MASK = "***"
_SECRET_VARIABLES = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET"),
)
_SECRETS = [
    # user:password@ of a URL, up to the last @ of the word: a password may hold one as it is
    (
        re.compile(r"://(?:[^\s@/:'\"]*:(?:(?!://)[^\s'\"])*|(?:(?!://)[^\s/'\"])+)@"),
        f"://{_MASK}@",
    ),
    (
        re.compile(r"://(?:[^\s@/:]*:[^\s@]*|[^\s@/]+)@"),
        f"://{_MASK}@",
    ),  # the same with quotes in it
    # AWS access keys, and what follows one that was taken out of a URL
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b(?::[^\s@'\"]+)?"), _MASK),
    (re.compile(r"(?i)\bbearer\s+[^\s'\"]+"), f"Bearer {_MASK}"),
    (
        re.compile(
            r"(?i)(secret_access_key|session_token|security[-_]token|auth_token|password"
            r"|x-amz-signature|x-amz-credential)(['\"]?\s*[=:]\s*['\"]?)[^\s&,;'\"]+"
        ),
        rf"\1\2{_MASK}",
    ),
]


_hidden: set[str] = set()
"""Secrets that settings refer to."""


def hide_secret(value: str) -> None:
    """Redact this text from now on, wherever it comes up."""
    if len(value) >= 4:  # a shorter one is no secret, and part of many words
        _hidden.add(value)


def redact(text: str) -> str:
    """The text without what looks like a password, token or key, or is one of this process's."""
    for value in sorted(_hidden, key=len, reverse=True):
        text = text.replace(value, _MASK)
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= 8:  # a shorter one would redact ordinary words
            text = text.replace(value, _MASK)
    text = TABLE_VERSION.sub(r"\1\0\2", text)  # its @ does not stand behind a secret
    text = AZURE_ACCOUNT.sub(r"\1\0", text)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return re.sub(r"\0(?=v\d|\w+\.(?:dfs|blob)\.)", "@", text)


def redacted(value: Any) -> Any:
    """The value with every text in it as `redact` makes it."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redacted(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(entry) for entry in value]
    return value if isinstance(value, int | float | None) else redact(str(value))
