"""Tells an address how a night ended: a JSON POST that is tried again, and never fails the night.

Secrets are given by reference: ``${NAME}`` in ``nightly.notify_url`` stands for an environment
variable, and ``nightly.notify_token`` names the one that holds a token. Their values are redacted
in every line of this process. Redirects are not followed, since they would take the token along.
A timeout of a socket begins anew with every byte, and none bounds the look-up of a name, so each
try has a thread that is left behind once its time is over.
"""

import http.client
import json
import math
import os
import re
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from lightsans.config import NightlyConfig
from lightsans.errors import ConfigError
from lightsans.storage.location import Location
from lightsans.storage.records import to_json
from pipelines.console.logs import hide_secret, redact, redacted
from pipelines.console.progress import say
from pipelines.operations.attempts import Attempt
from pipelines.operations.status import stage_minutes

ATTEMPTS, TIMEOUT_S, FIRST_PAUSE_S = 4, 10.0, 1.0
"""Tries, seconds that each may take, and the pause after the first; it doubles."""
HURRIED_TIMEOUT_S = 1.0
"""Seconds of the only try of a process that a signal ends."""
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which another try may succeed."""


def notify(config: NightlyConfig, root: Location, attempt: Attempt) -> None:
    """Send the end of a night to ``nightly.notify_url``; a failure is a warning.

    Args:
        config: Names address and secrets.
        root: Where all results lie.
        attempt: The attempt, which has ended.
    """
    if config.notify_url is None:
        return
    hurries = attempt.outcome == "interrupted"
    try:
        request = _request(config, message_of(config, root, attempt))
        _send(request, 1 if hurries else ATTEMPTS, HURRIED_TIMEOUT_S if hurries else TIMEOUT_S)
    except Exception as error:  # of a server, of a library or of a variable that is not set
        say(
            f"WARNING: nightly: {redact(config.notify_url)} was not told how this night ended: "
            f"{_words(error)}"
        )


def require_secrets(config: NightlyConfig) -> None:
    """Check at the start of a night that its end can be told, and hide the secrets.

    Raises:
        ConfigError: A variable that the address or the token refers to is not set.
    """
    if config.notify_url is not None:
        _address(config.notify_url)
        _token(config)


def message_of(config: NightlyConfig, root: Location, attempt: Attempt) -> dict[str, Any]:
    """The content of the message: ``text`` for people in a chat, the rest for programs."""
    metric = (attempt.figures.metrics or {}).get(config.metric)
    words = [f"Night {attempt.date}: {attempt.outcome}"]
    if attempt.run_id is not None:
        words.append(f"run {attempt.run_id}")
    if metric is not None:
        words.append(f"test {config.metric} {metric:.4f}")
    if attempt.seconds is not None:
        words.append(f"{attempt.seconds / 60:.1f} minutes")
    reason = f"\n{attempt.reason}" if attempt.reason else ""
    reports = root / "reports"
    return {
        "text": ", ".join(words) + reason,
        "event": "night",
        **to_json(attempt),
        "root": root.uri,
        "failed_checks": attempt.failed_checks,
        "minutes": None if attempt.seconds is None else round(attempt.seconds / 60, 2),
        "stage_minutes": stage_minutes(attempt),
        "page": (reports / f"nightly-{attempt.date}.html").uri,
    }


def _request(config: NightlyConfig, message: dict[str, Any]) -> urllib.request.Request:
    assert config.notify_url is not None
    body = json.dumps(redacted(_finite(message)), allow_nan=False)
    request = urllib.request.Request(_address(config.notify_url), data=body.encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    request.add_header("User-Agent", "lightsans")
    token = _token(config)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    return request


def _send(request: urllib.request.Request, attempts: int, timeout_s: float) -> None:
    opener = urllib.request.build_opener(_NoRedirects)
    pause_s = FIRST_PAUSE_S
    for number in range(1, attempts + 1):
        try:
            _open(opener, request, timeout_s)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in _PASSING or number == attempts:
                raise
        except (OSError, http.client.HTTPException):
            if number == attempts:
                raise
        time.sleep(pause_s)
        pause_s *= 2


def _open(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout_s: float
) -> None:
    """Send a request.

    Raises:
        TimeoutError: No whole answer came in time.
    """
    failed: list[Exception] = []

    def send() -> None:
        try:
            opener.open(request, timeout=timeout_s).close()
        except Exception as error:
            failed.append(error)

    sender = threading.Thread(target=send, daemon=True, name="notify")
    sender.start()
    sender.join(timeout_s)
    if sender.is_alive():
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    if failed:
        raise failed[0]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


def _address(url: str) -> str:
    return _REFERENCE.sub(lambda found: _secret(found[1], "nightly.notify_url"), url)


def _token(config: NightlyConfig) -> str | None:
    name = config.notify_token
    return None if name is None else _secret(name, "nightly.notify_token")


def _secret(name: str, setting: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"{setting} refers to the environment variable {name}, which is not set")
    hide_secret(value)
    return value


def _words(error: Exception) -> str:
    """The error without the address, which may hold a secret."""
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered with status {error.code}"
    if isinstance(error, ConfigError):
        return str(error)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return redact(f"{type(error).__name__}: {reason}")


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
