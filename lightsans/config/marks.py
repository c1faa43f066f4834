"""Marks on settings: what each of them means for results, said where it is declared.

Ids, what ``--since`` compares, what a base must share, what a search may draw and which paths a job
must be able to reach are lists of settings; all of them are read off these marks.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, TypeVar

T = TypeVar("T")


class Mark(Enum):
    """One property of a setting. Every setting has exactly one of `EFFECTS`."""

    CONTENT = "decides the content of its section's result: its value is part of the id"
    RESOLVED = "decides the content by what it refers to, which is part of the id in its place"
    BUDGET = "says how far a search goes: with another value the finished search goes on"
    NO_EFFECT = "decides how a result is made, checked, kept or published, not its content"
    AT_ONCE = "says how many work at once: another number gives another result of equal standing"

    LATER = "joined when results existed, which had its default: left out of ids at its default"
    READS_ROWS = "decides how a row of a file is read: a base must share it"
    MAKES_SEQUENCES = "decides the sequences of a part: shared, unchanged parts are taken over"
    VALIDATES = "decides the valid metric, by which the epoch is chosen that is kept"
    DECIDES_LISTS = "decides the list of a user: --since carries lists over where it is the same"
    WEIGHTS = "decides which weights there are, or what they mean: a warm start needs it alike"
    SEARCHABLE = "may be searched"
    PATH = "names files or directories"
    PATH_OR_NAME = "names a file or directory if it holds a slash"


EFFECTS: Final = frozenset({Mark.CONTENT, Mark.RESOLVED, Mark.BUDGET, Mark.NO_EFFECT, Mark.AT_ONCE})

_KEY: Final = "marks"


def setting(default: T, *marks: Mark) -> T:
    """A field with a default value and marks."""
    return dataclasses.field(default=default, metadata={_KEY: frozenset(marks)})


def made_setting(make: Callable[[], T], *marks: Mark) -> T:
    """A field with marks whose default is made anew for each configuration.

    Settings of a class that is made so have these marks, too.
    """
    return dataclasses.field(default_factory=make, metadata={_KEY: frozenset(marks)})


def field_marks(field: "dataclasses.Field[Any]") -> frozenset[Mark]:
    """The marks of a field; none for a section, whose fields have their own."""
    marks: frozenset[Mark] = field.metadata.get(_KEY, frozenset())
    return marks


def fields_with(section: Any, *marks: Mark) -> list[str]:
    """Names of a section's fields that have all of these marks, in order.

    Args:
        section: A class of settings, or an instance.
        marks: The marks.
    """
    wanted = set(marks)
    return [f.name for f in dataclasses.fields(section) if wanted <= field_marks(f)]


def to_dict(config: object) -> dict[str, object]:
    """A configuration as plain dicts, lists and scalars: what YAML, JSON and Ray carry."""
    assert dataclasses.is_dataclass(config), config
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return value


def values_with(section: Any, *marks: Mark) -> dict[str, object]:
    """The values of a section's fields that have all of these marks, as plain values.

    A field marked `Mark.LATER` is left out while it has its default: so an id of before the field
    joined stays the id of the same content.
    """
    wanted = set(fields_with(section, *marks))
    return {name: value for name, value in _decided(section).items() if name in wanted}


def _decided(section: Any) -> dict[str, object]:
    """A section as plain values, without fields marked `Mark.LATER` that have their default."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        is_default = _plain(value) == default_value(section, field.name)
        if not (Mark.LATER in field_marks(field) and is_default):
            found[field.name] = (
                _decided(value) if dataclasses.is_dataclass(value) else _plain(value)
            )
    return found


def recorded_value(section: Any, recorded: Mapping[str, Any], name: str) -> object:
    """A setting of a manifest, with the defaults of what joined after it was written.

    Args:
        section: Class of the section.
        recorded: The section in the manifest.
        name: Name of the field.
    """
    default = default_value(section, name)
    if name not in recorded:
        return default
    value = recorded[name]
    return {**default, **value} if isinstance(default, dict) and isinstance(value, dict) else value


def differing(recorded: Mapping[str, Any], section: Any, mark: Mark) -> list[str]:
    """Names of the fields with a mark whose values differ from recorded ones.

    Args:
        recorded: The section in a manifest, or of another configuration.
        section: The section now.
        mark: The mark.
    """
    return [
        name
        for name in fields_with(section, mark)
        if recorded_value(type(section), recorded, name) != _plain(getattr(section, name))
    ]


def default_value(section: Any, name: str) -> object:
    """The default of a section's field as a plain value.

    What a manifest of before does not say of a field marked `Mark.LATER`.
    """
    [field] = [f for f in dataclasses.fields(section) if f.name == name]
    if field.default_factory is not dataclasses.MISSING:
        return _plain(field.default_factory())
    if field.default is dataclasses.MISSING:
        return None
    return _plain(field.default)


def walk_marks(config_class: type, prefix: str = "") -> Iterator[tuple[str, frozenset[Mark]]]:
    """Dotted name and marks of all settings that are no sections."""
    yield from _walk(config_class, prefix, frozenset())


def named_paths(config: Any) -> Iterator[tuple[str, str]]:
    """Setting and path of all files and directories that a configuration names."""
    for name, marks in walk_marks(type(config)):
        if not marks & {Mark.PATH, Mark.PATH_OR_NAME}:
            continue
        for path in _paths(operator.attrgetter(name)(config)):
            if Mark.PATH in marks or "/" in path:
                yield name, path


def _paths(value: Any) -> Iterator[str]:
    """Every path in a setting's value: itself, in a list, or marked so in a rule."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for entry in value:
            yield from _paths(entry)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            below = getattr(value, field.name)
            if Mark.PATH in field_marks(field) or dataclasses.is_dataclass(below):
                yield from _paths(below)


def _walk(
    config_class: type, prefix: str, inherited: frozenset[Mark]
) -> Iterator[tuple[str, frozenset[Mark]]]:
    for field in dataclasses.fields(config_class):
        marks = field_marks(field) | inherited
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from _walk(field.type, f"{prefix}{field.name}.", marks)
        else:
            yield prefix + field.name, marks
