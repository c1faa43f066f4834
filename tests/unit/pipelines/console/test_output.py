import json

import pytest

from lightsans.reports.evaluation_figures import EvaluationFigures
from pipelines.console.output import print_json, print_metrics, print_table

HARMFUL = "\x1b]52;c;cm0=\x07\x1b[2J\r\n\x00\x7f\x9b2J\u202e\u2069"
"""Sets the clipboard, clears the screen, goes back to the start of the line, reorders it."""
CONTROLS = {character for character in HARMFUL if not character.isprintable()}


def test_a_heading_is_one_line_however_narrow_its_table(capsys):
    heading = "User 17: 2 of 71 items, newest first"
    print_table(heading, ["item"], [["55"], ["167"]])
    assert capsys.readouterr().out.splitlines()[0] == heading


def test_a_table_shows_controls_of_ids_and_titles_as_escapes(capsys):
    print_table(f"User {HARMFUL}", [f"item {HARMFUL}"], [[f"title {HARMFUL}"]])
    shown = capsys.readouterr().out
    assert not CONTROLS & set(shown) - {"\n"}
    assert shown.count(r"\x1b]52;c;cm0=\x07") == 3


@pytest.mark.parametrize("mark", ["", "mark: "])
def test_json_has_the_same_value_and_no_control_in_its_text(mark, capsys, monkeypatch):
    monkeypatch.setenv("LIGHTSANS_RESULT_MARK", mark)
    print_json({"user": HARMFUL, HARMFUL: "ü"})
    shown = capsys.readouterr().out
    assert not CONTROLS & set(shown.removesuffix("\n"))
    assert json.loads(shown.removeprefix(mark)) == {"user": HARMFUL, HARMFUL: "ü"}


def test_metrics_of_nobody_are_shown_as_none(capsys):
    nothing: dict[str, float] = {}
    nobody = {scorer: {"valid": nothing, "test": nothing} for scorer in ("model", "popular")}
    found = EvaluationFigures(
        metrics=nobody,
        users={"valid": 0, "test": 0},
        intervals={scorer: {"valid": {}, "test": {}} for scorer in nobody},
        differences={"popular": {"valid": {}, "test": {}}},
    )
    print_metrics(found, "leave-one-out")
    shown = capsys.readouterr().out
    assert "none" in shown
    assert "0.0000" not in shown
    assert "WARNING" not in shown
