import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from lightsans.errors import ConfigError
from pipelines.console import logs
from pipelines.console.progress import bar, say
from tests.commands import ROOT

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"


@pytest.fixture(autouse=True)
def _restored_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # One per process: two stages at once, as other tests have them, may leave something in it.
    monkeypatch.setattr(logs, "_context", {})
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    logging.captureWarnings(False)
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.getLogger("lightsans").handlers.clear()


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_text_is_printed_as_it_is(capsys):
    logs.configure_logs("text")
    say("train: 3 epochs", epochs=3)
    assert capsys.readouterr().err == "train: 3 epochs\n"


def test_a_timed_line_begins_with_its_time_in_utc(capsys):
    logs.configure_logs("timed")
    say("train: 3 epochs\nmore", epochs=3)
    time, text = capsys.readouterr().err.split(" ", 1)
    assert text == "train: 3 epochs\nmore\n"
    age = datetime.now(UTC) - datetime.fromisoformat(time)
    assert abs(age.total_seconds()) < 60


def test_a_json_line_has_time_level_stage_ids_message_and_fields(capsys):
    logs.configure_logs("json")
    with logs.log_context(stage="train"):
        logs.add_log_context(model_id="m1")
        say("train: 3 epochs", epochs=3)
    [line] = lines_of(capsys)
    age = datetime.now(UTC) - datetime.fromisoformat(str(line.pop("time")))
    assert 0 <= age.total_seconds() < 60
    expected = {"level": "info", "stage": "train", "model_id": "m1", "epochs": 3}
    assert line == {**expected, "message": "3 epochs"}


def test_the_context_ends_with_its_block_and_inner_blocks_add_to_outer_ones(capsys):
    logs.configure_logs("json")
    with logs.log_context(job_id="j"):
        with logs.log_context(stage="score"):
            logs.add_log_context(run_id="r")
        say("after")
    say("outside")
    after, outside = lines_of(capsys)
    assert (after.get("job_id"), after.get("stage"), after.get("run_id")) == ("j", None, None)
    assert "job_id" not in outside


def test_another_thread_speaks_for_the_same_stage(capsys):
    logs.configure_logs("json")
    with logs.log_context(stage="train"):
        thread = threading.Thread(target=say, args=("epoch 1",))
        thread.start()
        thread.join()
    assert lines_of(capsys)[0]["stage"] == "train"


@logs.log_context(stage="train")
def failing_stage() -> None:
    logs.add_log_context(model_id="m1")
    raise ValueError("the reason")


def test_an_error_is_told_with_the_stage_and_ids_under_which_it_happened(capsys):
    logs.configure_logs("json")
    with pytest.raises(ValueError, match="the reason") as caught:
        failing_stage()
    logs.log_error("failed", caught.value, with_traceback=True)
    [line] = lines_of(capsys)
    assert (line["level"], line["error"], line["stage"]) == ("error", "ValueError", "train")
    assert line["model_id"] == "m1"
    assert str(line["traceback"]).endswith("ValueError: the reason")


def test_a_bar_becomes_lines_with_numbers(capsys, monkeypatch):
    logs.configure_logs("json")
    monkeypatch.setattr("pipelines.console.progress.LINE_EVERY_S", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)  # even on a terminal
    with logs.log_context(stage="score"), bar("parts", 4) as progress:
        progress.advance(2)
    [line] = lines_of(capsys)
    assert (line["done"], line["total"], line["left_s"]) == (2, 4, 0)


def test_warnings_and_other_loggers_come_as_json_too(capsys):
    logging.getLogger().handlers.clear()
    logs.configure_logs("json")
    logging.getLogger("ray.data").warning("low on memory")
    logging.getLogger("ray.data").info("chatter")
    logging.getLogger("ray.data").warning("for Ray's own file", extra={"hide": True})
    [line] = lines_of(capsys)
    found = line["level"], line["logger"], line["message"]
    assert found == ("warning", "ray.data", "low on memory")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("GET https://ann:hunter2@host:9000/b?x=1", "hunter2"),
        ("s3://key:a/b+c=@bucket/prefix", "a/b+c="),
        ("https://token@host/x", "token"),
        ("https://ann:hunt@er22@host/x", "er22"),
        ("at https://hun@ter22@host/x", "ter22"),
        ("delta://s3://ann:hunter22@bucket/log@v3", "hunter22"),
        ("delta://s3://ann:hunter22@v3", "hunter22"),
        ("abfss://ann:hunter22@shop.dfs.core.windows.net/x", "hunter22"),
        ("delta://s3://hunter22@bucket/log@v3", "hunter22"),
        ("https://ann:hunter22@v3/x", "hunter22"),
        ("https://ann:hun'ter22@host/x", "ter22"),
        (f"key {ACCESS_KEY} is unknown", ACCESS_KEY),
        ("aws_secret_access_key = abc/def", "abc/def"),
        ('{"SecretAccessKey": "x", "secret_access_key": "abc/def"}', "abc/def"),
        ("RAY_AUTH_TOKEN=0a1b2c3d", "0a1b2c3d"),
        ("Authorization: Bearer 0a1b2c3d", "0a1b2c3d"),
        ("?X-Amz-Signature=0a1b2c3d&X-Amz-Date=1", "0a1b2c3d"),
    ],
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_secrets_are_redacted(text, secret, log_format, capsys):
    logs.configure_logs(log_format)
    say(text, detail={"again": [text]})
    error = capsys.readouterr().err
    assert secret not in error
    assert "***" in error


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"]
)
def test_the_secrets_of_this_process_are_redacted_wherever_they_stand(name, monkeypatch):
    monkeypatch.setenv(name, "wJalrXUtnFEMI/K7MDENG")
    assert logs.redact("signed with wJalrXUtnFEMI/K7MDENG!") == "signed with ***!"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/prefix/part-00000.parquet",
        "http://head:8265 at user@example.org",
        "export RAY_AUTH_TOKEN_PATH=/home/ann/token",
        "model 0a1b2c3d4e5f on dataset 5f4e3d2c1b0a",
        "['s3://a/b', 's3://c/d@e']",
        "delta://s3://bucket/log@v3: no such version",
        "abfss://logs@shop.dfs.core.windows.net/x: no such file",
        "('delta://log@v3', 'iceberg://s3://bucket@v12/')",
    ],
)
def test_what_is_no_secret_stays(text):
    assert logs.redact(text) == text


def test_an_unknown_format_is_refused_by_the_name_it_was_given_under(monkeypatch):
    with pytest.raises(ConfigError, match=r"--log-format='xml'.*text, timed or json"):
        logs.configure_logs("xml")
    monkeypatch.setenv("LIGHTSANS_LOG", "yaml")
    with pytest.raises(ConfigError, match="LIGHTSANS_LOG='yaml'"):
        logs.configure_logs()


@pytest.mark.programs
def test_a_command_in_json_mode_writes_json_lines_alone_and_no_secret(tmp_path):
    """The whole standard error of a failing process, its error included."""
    line = [sys.executable, "submit.py", "recommendations", "-s", f"root=s3://{ACCESS_KEY}:pw@"]
    done = subprocess.run(
        line, cwd=ROOT, env={"LIGHTSANS_LOG": "json"}, capture_output=True, text=True, timeout=60
    )
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert found[-1]["level"] == "error"
    assert ACCESS_KEY not in done.stderr
    assert "pw@" not in done.stderr
    assert done.returncode != 0


CONTROLS = "\x1b]52;c;cm0=\x07\x1b[2J\r\x00\x7f\x85\x9b2J\u202e\u2066\u2028"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_control_character_of_an_id_reaches_the_terminal(log_format, capsys):
    logs.configure_logs(log_format)
    say(f"item {CONTROLS} is unknown", item=CONTROLS)
    [shown] = capsys.readouterr().err.split("\n")[:-1]
    assert not set(CONTROLS) & set(shown) - set("]52;c;cm0=[2J")
    if log_format == "json":
        assert json.loads(shown)["item"] == CONTROLS
    else:
        assert shown.startswith(r"item \x1b]52;c;cm0=\x07\x1b[2J\x0d\x00\x7f\x85\x9b2J\u202e")


def test_lines_and_tabs_of_a_text_stay():
    assert logs.printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
    assert logs.printable("Müller, 東京 👍🏽") == "Müller, 東京 👍🏽"
