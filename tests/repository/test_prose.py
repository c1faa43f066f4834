"""Docstrings begin with a verb or a noun, not with a genitive of something named elsewhere."""

import ast
import re

import pytest

from tests.commands import ROOT

FRAGMENTS = ("Of ", "Those ", "What ", "Whose ", "By ")
BEGINNINGS = (
    "As ",
    "Did ",
    "For ",
    "From ",
    "In ",
    "So ",
    "These ",
    "Up to ",
    "When ",
    "Where ",
    "Who ",
)
"""Beginnings of fragments of the code; a test may begin with the reason for what it expects."""
ARGUMENT = re.compile(r"^ +\w+: (Of|Those|What|Whose) ", re.MULTILINE)
"""An entry of ``Args:``, ``Returns:`` or ``Raises:`` that begins with a fragment."""


def docstrings(source: str) -> list[tuple[int, str]]:
    """Line and text of every docstring: modules, classes, functions, and those after a name."""
    bodies = (getattr(node, "body", None) for node in ast.walk(ast.parse(source)))
    statements = [statement for body in bodies if isinstance(body, list) for statement in body]
    return sorted(
        (statement.lineno, statement.value.value.strip())
        for statement in statements
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def fragments(source: str, beginnings: tuple[str, ...] = FRAGMENTS) -> list[int]:
    """Lines of the docstrings that begin with a fragment, or describe an argument with one."""
    return [
        line
        for line, text in docstrings(source)
        if text.startswith(beginnings) or ARGUMENT.search(text)
    ]


@pytest.mark.parametrize(
    "name", ["lightsans", "pipelines", "benchmarks", "tools", "cluster", "submit.py", "tests"]
)
def test_docstrings_begin_with_a_verb_or_a_noun(name):
    place = ROOT / name
    beginnings = FRAGMENTS if name == "tests" else FRAGMENTS + BEGINNINGS
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(place.rglob("*.py") if place.is_dir() else [place])
        for line in fragments(path.read_text(encoding="utf-8"), beginnings)
    ]

    assert not found, f"begin these docstrings with a verb or a noun: {', '.join(found)}"


def test_a_fragment_is_found_wherever_a_docstring_may_stand():
    source = '"""Of it."""\nX = 1\n"""What it is."""\nclass A:\n    """Good."""\n    y: int\n'
    source += '    """\n    Those left."""\n    def f(self):\n        """Whose it is."""\n'

    assert fragments(source) == [1, 3, 7, 10]


def test_a_fragment_is_found_in_the_description_of_an_argument():
    source = 'def f():\n    """Good.\n\n    Args:\n        root: {}.\n    """\n'

    assert fragments(source.format("Of all runs")) == [2]
    assert fragments(source.format("Root of all runs")) == []
