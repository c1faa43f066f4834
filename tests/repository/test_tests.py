"""Where tests stand, and how long they are."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
UNIT = sorted((TESTS / "unit").rglob("*.py"))
TEST_FILES = sorted(TESTS.rglob("test_*.py"))
LONGEST = 42
"""Lines of the longest test."""


def subject_of(test: Path) -> Path:
    """The file that a unit test is named after: its own path without ``tests/unit`` and ``test_``.

    Tests of a package as a whole are named after the package.
    """
    place = ROOT / test.relative_to(TESTS / "unit").parent
    name = test.name.removeprefix("test_")
    package = place / name.removesuffix(".py") / "__init__.py"
    return package if package.exists() else place / name


def test_there_are_unit_tests():
    assert len(UNIT) > 50


@pytest.mark.parametrize("test", UNIT, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_unit_test_is_named_after_the_file_that_it_tests(test):
    assert test.name.startswith("test_"), "helpers of several tests stand directly in tests/"
    subject = subject_of(test).relative_to(ROOT)
    assert (ROOT / subject).exists(), f"{subject} does not exist"


@pytest.mark.parametrize("test", TEST_FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_strategy_that_several_tests_draw_from_stands_in_strategies(test):
    """Beside a test stands at most a call with the sizes that its tests need."""
    for node in ast.parse(test.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            names = {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}
            assert "st" not in names, f"line {node.lineno}: belongs into tests/strategies.py"


@pytest.mark.parametrize("test", TEST_FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_is_short_enough_to_be_a_sentence(test):
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= LONGEST, f"{node.name} has {lines} lines: cut it into sentences"
