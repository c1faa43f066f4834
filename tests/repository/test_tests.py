"""Where tests stand, and how long they are."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
UNIT = sorted((TESTS / "unit").rglob("*.py"))


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
