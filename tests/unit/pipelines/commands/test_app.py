"""The command line as a person meets it: help, effective configuration, exit status."""

import json
import signal
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from lightsans import errors
from lightsans.config.file import load_config, parse_config
from pipelines.commands.app import app, plain_errors
from tests.commands import ROOT

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
ERRORS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type)),
    key=lambda kind: kind.__name__,
)


def test_the_commands_of_the_pipeline_are_there():
    names = "preprocess train evaluate score pipeline config fetch recommend models"
    assert set(names.split()) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples_and_knows_json(name):
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert f"python submit.py {name}" in shown.output.partition("Examples")[2]
    assert "--json" in shown.output
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"


@pytest.mark.parametrize(
    "condition",
    [
        "price > 0 and channel = 'web' and country in ['de', 'at', 'ch'] and flag != 'inner'",
        "price > 0\nand country = 'de'",
    ],
)
def test_a_long_text_and_one_of_several_lines_read_back_as_they_are(tmp_path, condition):
    """A remark behind the first of several lines would be part of the text, or no YAML."""
    overrides = [f"data.where={json.dumps(condition)}"]
    shown = CliRunner().invoke(app, ["config", "-s", *overrides]).output
    assert "# --set" in shown
    assert parse_config(shown, "shown").config == load_config(None, overrides).config


def test_the_effective_configuration_says_where_values_come_from_and_reads_back(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("train:\n  epochs: 7\ndata: {input: [a.csv]}\n")
    arguments = ["--config", str(file), "--set", "model.k_interests=3"]
    shown = CliRunner().invoke(app, ["config", *arguments]).output
    assert f"  epochs: 7  # {file}:2\n" in shown
    assert "  k_interests: 3  # --set\n" in shown
    assert "  n_layers: 2\n" in shown
    assert "without a remark are defaults" in shown.splitlines()[0]
    expected = load_config(str(file), ["model.k_interests=3"]).config
    assert parse_config(shown, "shown").config == expected


@pytest.mark.parametrize("kind", [*ERRORS, OSError], ids=lambda kind: kind.__name__)
def test_the_status_says_who_can_mend_it_and_only_what_nobody_foresaw_has_a_traceback(kind, capsys):
    mendable = (
        *(errors.ConfigError, errors.InputError),
        *(errors.NotFoundError, errors.VocabularyMismatchError),
    )
    others = {errors.GateError: 3, errors.LeaseError: 4, errors.PublishError: 4}
    expected = 2 if issubclass(kind, mendable) else others.get(kind, 1)
    statuses: list[int] = []
    with plain_errors(statuses.append):
        raise kind("what happened")
    assert statuses == [expected]
    shown = capsys.readouterr().err
    assert "what happened" in shown
    assert ("Traceback" in shown) == (kind is OSError)


@pytest.mark.programs
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_ends_with_its_status_and_a_line_that_says_how_to_go_on(number):
    """Through a shell, while the command works."""
    code = (
        "import os, signal, pipelines.fetch as fetch\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        f"def run(*given): os.kill(os.getpid(), {int(number)})\n"
        "fetch.run_fetch = run\n"
        "from pipelines.commands.app import main\n"
        "main(['fetch', 'ml-100k'])\n"
    )
    # Started in the background, the process would ignore SIGINT; under nohup, SIGHUP.
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 128 + number
    [line] = done.stderr.splitlines()
    assert line.endswith("; the same command goes on from here")


@pytest.mark.programs
@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_command_whose_caller_closed_its_streams_does_its_work(tmp_path, closed):
    words = f"{sys.executable} submit.py models --set root={tmp_path} --json {closed}"
    done = subprocess.run(["sh", "-c", words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("models" in done.stdout) == ("1>&-" not in closed)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["evaluate", "--dataset", "--model", "X"], "--dataset"),
        (["train", "--dataset", "--json"], "--dataset"),
        (["train", "--set", "--json"], "--set"),
        (["train", "-c", "-s", "root=x"], "-c"),
        (["train", "--from", "--modle=X"], "--from"),
        (["recommend", "--user", "--items", "x"], "--user"),
        (["jobs", "--cluster", "--json"], "--cluster"),
        (["import-recbole", "x.pth", "--tokens", "-c", "x"], "--tokens"),
    ],
)
def test_an_option_as_the_value_of_another_is_bad_usage(words, option):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr
    assert "expected a value" in result.stderr


def test_a_value_that_begins_like_an_option_can_be_given_with_an_equals_sign(monkeypatch):
    seen: list[tuple[object, ...]] = []

    def select(*given: object) -> None:
        seen.append(given)
        raise RuntimeError

    monkeypatch.setattr("pipelines.commands.models.select", select)
    for words in (["--user=--items"], ["--user", "-5"], ["-u", "-"]):
        CliRunner().invoke(app, ["recommend", *words])
    assert len(seen) == 3


@pytest.mark.programs
@pytest.mark.parametrize("words", [["--help"], ["--config", "absent.yaml"], ["-s", "x=1"]])
def test_neither_help_nor_a_mistake_in_a_setting_waits_for_ray_or_torch(words):
    stages = ["preprocess", "train", "evaluate", "score", "pipeline", "tune"]
    code = (
        "import sys\nfrom pipelines.commands.app import main\n"
        f"for stage in {stages}:\n"
        f"    try:\n        main([stage, *{words}])\n    except SystemExit:\n        pass\n"
        "print(sorted({'ray', 'torch', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.programs
def test_an_installed_program_is_named_in_examples_and_errors():
    code = (
        "import sys\nsys.argv = ['/opt/bin/lightsans', 'train', '--help']\n"
        "from pipelines.commands.app import main, plain_errors\n"
        "from lightsans.errors import NotFoundError\n"
        "with plain_errors(print):\n    raise NotFoundError('run `submit.py train` first')\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "run `lightsans train` first" in done.stderr
    assert "Usage: lightsans train" in done.stdout
    assert "lightsans train --config my.yaml" in done.stdout
    assert "submit.py" not in done.stdout


@pytest.mark.parametrize("words", [["models", "a\u202eb"], ["a\u202eb"], ["--a\u202eb", "models"]])
def test_what_the_parser_says_of_a_command_line_obeys_nothing_in_it(words):
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 2
    assert "\u202e" not in shown.output
    assert "\\u202e" in shown.output
