"""Examples in documents that can be run as they stand."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["api.md", "recommendations.md", "serving.md"])
def test_the_examples_of_a_page_print_what_they_say(name):
    result = doctest.testfile(str(DOCS / name), module_relative=False, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0
