"""The command line as a person meets it: help, effective configuration, exit status."""

import pytest
import typer
from typer.testing import CliRunner

import submit
from lightsans import errors
from lightsans.config.file import load_config, parse_config

COMMANDS = typer.main.get_command(submit.app).commands  # type: ignore[attr-defined]
ERRORS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type)),
    key=lambda kind: kind.__name__,
)


def test_the_commands_of_the_pipeline_are_there():
    names = "preprocess train evaluate score pipeline config fetch recommend models"
    assert set(names.split()) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples_and_knows_json(name):
    shown = CliRunner().invoke(submit.app, [name, "--help"])
    assert shown.exit_code == 0
    assert f"python submit.py {name}" in shown.output.partition("Examples")[2]
    assert "--json" in shown.output
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"


def test_the_effective_configuration_says_where_values_come_from_and_reads_back(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("train:\n  epochs: 7\ndata: {input: [a.csv]}\n")
    arguments = ["--config", str(file), "--set", "model.k_interests=3"]
    shown = CliRunner().invoke(submit.app, ["config", *arguments]).output
    assert f"  epochs: 7  # {file}:2\n" in shown
    assert "  k_interests: 3  # --set\n" in shown
    assert "  n_layers: 2\n" in shown
    assert "without a remark are defaults" in shown.splitlines()[0]
    expected = load_config(str(file), ["model.k_interests=3"]).config
    assert parse_config(shown, "shown").config == expected


@pytest.mark.parametrize("kind", [*ERRORS, OSError], ids=lambda kind: kind.__name__)
def test_what_a_person_can_mend_ends_with_two_other_failures_with_one(kind, capsys):
    """And a night that is refused with three; only what nobody foresaw has a traceback."""
    mendable = (
        *(errors.ConfigError, errors.InputError),
        *(errors.NotFoundError, errors.VocabularyMismatchError),
    )
    expected = 2 if issubclass(kind, mendable) else 3 if kind is errors.GateError else 1
    statuses: list[int] = []
    with submit._plain_errors(statuses.append):
        raise kind("what happened")
    assert statuses == [expected]
    shown = capsys.readouterr().err
    assert "what happened" in shown
    assert ("Traceback" in shown) == (kind is OSError)
