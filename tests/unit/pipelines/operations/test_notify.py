"""Who is told how a night ended, by a server on this machine: tries, secrets, and no harm."""

import contextlib
import json
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lightsans.config import NightlyConfig
from lightsans.errors import ConfigError
from lightsans.ranking.bootstrap import Estimate
from pipelines.console import logs
from pipelines.operations import notify as notifying
from pipelines.operations.attempts import Figures, begin_attempt, ended
from pipelines.operations.notify import message_of, notify, require_secrets
from tests.factories import local

SECRET = "T0/B1/very-secret-part"


class Hook(BaseHTTPRequestHandler):
    """Answers with the statuses that the server was given, the last one for ever."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        statuses = self.server.statuses  # type: ignore[attr-defined]
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setattr(notifying, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(logs, "_hidden", set())
    server = HTTPServer(("127.0.0.1", 0), Hook)
    server.requests, server.statuses = [], [200]  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def root(tmp_path):
    return local(tmp_path)


def settings(hook, path="/hook", **fields):
    return NightlyConfig(notify_url=f"http://127.0.0.1:{hook.server_port}{path}", **fields)


def attempt(outcome="published", reason="", **fields):
    begun = replace(begin_attempt("2026-11-05", datetime(2026, 11, 5, tzinfo=UTC)), **fields)
    return ended(begun, outcome, reason, 0)


def test_the_end_of_a_night_arrives_as_json(hook, root):
    figures = Figures(metrics={"ndcg@10": Estimate(0.1234, 0.1, float("nan"))}, users=7)
    notify(settings(hook), root, attempt(run_id="r", figures=figures))
    [(path, headers, body)] = hook.requests
    assert path == "/hook"
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers
    told = json.loads(body)
    assert told["text"].startswith("Night 2026-11-05: published, run r, test ndcg@10 0.1234 [")
    assert (told["outcome"], told["run_id"], told["exit_status"]) == ("published", "r", 0)
    assert told["figures"]["metrics"]["ndcg@10"] == {"value": 0.1234, "low": 0.1, "high": None}
    assert told["page"] == (root / "reports/nightly-2026-11-05.html").uri


@pytest.mark.parametrize(
    ("statuses", "tries", "is_told"),
    [
        ([503, 429, 200], 3, True),
        ([500], notifying.ATTEMPTS, False),
        ([404], 1, False),
        ([302], 1, False),
    ],
)
def test_what_may_pass_is_tried_again_and_the_rest_is_a_warning(
    hook, root, capsys, statuses, tries, is_told
):
    hook.statuses = statuses
    notify(settings(hook), root, attempt())
    assert [path for path, _, _ in hook.requests] == ["/hook"] * tries
    said = capsys.readouterr().err
    assert ("WARNING: nightly: http://127.0.0.1:" in said) is not is_told
    assert is_told or f"it answered with status {statuses[-1]}" in said


def test_nobody_there_is_a_warning(root, capsys, monkeypatch):
    monkeypatch.setattr(notifying, "FIRST_PAUSE_S", 0.01)
    notify(NightlyConfig(notify_url="http://127.0.0.1:1/x"), root, attempt())
    assert "was not told how this night ended: URLError: " in capsys.readouterr().err


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nX: "])
def test_a_server_that_hangs_or_drips_its_answer_holds_no_night_up(
    answer, root, capsys, monkeypatch
):
    monkeypatch.setattr(notifying, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(notifying, "TIMEOUT_S", 0.1)
    server, done = socket.create_server(("127.0.0.1", 0)), threading.Event()
    calls = []

    def drip(connection):
        with connection, contextlib.suppress(OSError):
            connection.sendall(answer)
            while not done.wait(0.05):
                if answer:  # a byte now and then keeps the socket's own timeout away
                    connection.sendall(b"x")

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                calls.append(threading.Thread(target=drip, args=(connection,)))
                calls[-1].start()

    accepting = threading.Thread(target=serve)
    accepting.start()
    config = NightlyConfig(notify_url=f"http://127.0.0.1:{server.getsockname()[1]}/hook")
    notify(config, root, attempt())
    done.set()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for thread in (accepting, *calls):
        thread.join()
    assert len(calls) == notifying.ATTEMPTS
    told = capsys.readouterr().err
    assert "WARNING: nightly: " in told
    assert "was not told how this night ended: TimeoutError" in told


def test_after_a_signal_there_is_one_short_try(hook, root):
    hook.statuses = [503]
    notify(settings(hook), root, attempt("interrupted"))
    assert len(hook.requests) == 1


def test_secrets_come_from_the_environment_and_go_to_the_server_alone(
    hook, root, capsys, monkeypatch
):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("HOOK_TOKEN", "token-of-mine")
    config = settings(hook, "/services/${HOOK_SECRET}", notify_token="HOOK_TOKEN")
    require_secrets(config)
    hook.statuses = [404]
    reason = f"saw {SECRET} and token-of-mine"
    notify(config, root, attempt("failed", reason))
    [(path, headers, body)] = hook.requests
    assert path == f"/services/{SECRET}"
    assert headers["Authorization"] == "Bearer token-of-mine"
    said = capsys.readouterr().err + body.decode()
    assert SECRET not in said
    assert "token-of-mine" not in said
    assert "/services/${HOOK_SECRET} was not told" in said
    assert logs.redact(reason) == "saw *** and ***"


def test_a_variable_that_is_not_set_is_told_by_its_name_and_fails_nothing(hook, root, capsys):
    config = settings(hook, "/${NOT_SET_AT_ALL}")
    with pytest.raises(ConfigError, match="environment variable NOT_SET_AT_ALL, which is not set"):
        require_secrets(config)
    notify(config, root, attempt())
    assert "NOT_SET_AT_ALL, which is not set" in capsys.readouterr().err
    assert hook.requests == []


def test_without_an_address_nobody_is_told(root):
    notify(NightlyConfig(), root, attempt())
    require_secrets(NightlyConfig())


@pytest.mark.parametrize(
    "fields",
    [
        {"notify_url": "ftp://host/x"},
        {"notify_url": "${HOOK}"},
        {"notify_url": "https://host/x", "notify_token": "a-token-itself=="},
        {"notify_token": "HOOK_TOKEN"},
    ],
)
def test_settings_that_make_no_sense_are_refused_without_repeating_a_secret(fields):
    with pytest.raises(ConfigError, match=r"nightly\.notify") as caught:
        NightlyConfig(**fields)
    assert "a-token-itself" not in str(caught.value)


def test_the_text_says_why_a_night_was_refused(root):
    told = message_of(NightlyConfig(), root, attempt("refused", "1 of 3 checks failed"))
    assert told["text"].endswith(" minutes\n1 of 3 checks failed")
