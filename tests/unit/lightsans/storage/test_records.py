"""Records as JSON: what is written, what is read again, and what is refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from lightsans.errors import InputError
from lightsans.storage.records import (
    always_written,
    fields_beside,
    from_json,
    parse_object,
    to_json,
)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    name: str
    share: float | None = None


@dataclass(kw_only=True)
class Tree:
    leaves: tuple[Leaf, ...]
    heights: list[float] = always_written(make=list)
    parent: str | None = always_written(None)
    rest: Mapping[str, int] = fields_beside()


TREE = Tree(leaves=(Leaf(name="a"), Leaf(name="b", share=0.5)), heights=[1, 2.5], rest={"age": 3})
CONTENT = {
    "leaves": [{"name": "a"}, {"name": "b", "share": 0.5}],
    "heights": [1, 2.5],
    "parent": None,
    "age": 3,
}


def test_a_record_is_read_as_it_was_written():
    assert to_json(TREE) == CONTENT
    assert from_json(Tree, CONTENT, "tree.json") == TREE


def test_a_field_of_a_later_version_is_passed_over_and_a_default_may_be_missing():
    assert from_json(Leaf, {"name": "a", "colour": "green"}, "leaf.json") == Leaf(name="a")


@pytest.mark.parametrize("name", ["leaves", "heights", "parent"])
def test_a_field_that_stands_in_every_file_must_be_there(name):
    content = {key: value for key, value in CONTENT.items() if key != name}
    with pytest.raises(InputError, match=f"tree.json: {name} is missing"):
        from_json(Tree, content, "tree.json")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({**CONTENT, "heights": ["tall"]}, r"heights\[0\] is 'tall'; expected a number"),
        ({**CONTENT, "leaves": [{}]}, r"leaves\[0\]\.name is missing"),
        ({**CONTENT, "leaves": {}}, "leaves is {}; expected a list"),
        ({**CONTENT, "heights": [True]}, r"heights\[0\] is True; expected a number"),
        ([], r"the content is \[\]; expected an object"),
    ],
)
def test_a_wrong_field_is_named_with_its_place(content, found):
    with pytest.raises(InputError, match=f"tree.json: {found}"):
        from_json(Tree, content, "tree.json")


@pytest.mark.parametrize(
    ("content", "found"), [(b"{", "not JSON"), (b"\xff", "not JSON"), (b"[1]", "expected a JSON")]
)
def test_what_is_no_json_object_is_refused_with_its_file(content, found):
    with pytest.raises(InputError, match=f"tree.json: .*{found}"):
        parse_object(content, "tree.json")
