"""Records: dataclasses that are JSON objects on storage.

Reading checks every field and names the one that is missing or wrong. Fields that a later version
added are passed over; a field with a default is one that an earlier version did not write, unless
it is `always_written`.
"""

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from lightsans.errors import InputError

R = TypeVar("R")

_BESIDE, _ALWAYS = "beside", "always"
_NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false"}


def fields_beside() -> Any:
    """A mapping or a record that stands beside the other fields in JSON, not below its name."""
    return field(metadata={_BESIDE: True})


def always_written(default: Any = MISSING, *, make: Any = MISSING) -> Any:
    """A field that has a default in memory and stands in every file, also where it is None.

    Args:
        default: The default.
        make: Makes the default, where each record needs one of its own.
    """
    return field(default=default, default_factory=make, metadata={_ALWAYS: True})


def to_json(record: object) -> dict[str, Any]:
    """The JSON object of a record; an optional field that has no value is left out."""
    assert is_dataclass(record)
    content: dict[str, Any] = {}
    for each in fields(record):
        value = getattr(record, each.name)
        if each.metadata.get(_BESIDE):
            content |= _plain(value)
        elif not (value is None and each.default is None) or each.metadata.get(_ALWAYS):
            content[each.name] = _plain(value)
    return content


def from_json(kind: type[R], content: object, name: str) -> R:
    """The record behind what `to_json` made, in this version or an earlier one.

    Args:
        kind: Class of the record.
        content: Parsed JSON.
        name: Name of the file, for errors.

    Raises:
        InputError: A field is missing or has another type.
    """
    try:
        return cast(R, _reader(cast(Any, kind))(content))
    except _FieldError as error:
        raise InputError(
            f"{name}: {error.path or 'the content'} {error.found}; expected {error.expected}. The "
            "file is damaged, or written by another version: make this result again"
        ) from None
    except ValueError as error:  # a record checked itself
        raise InputError(
            f"{name}: {error}. The file is damaged, or written by another version: make this "
            "result again"
        ) from None


def parse_json(content: str | bytes, name: str) -> Any:
    """The value in a JSON file.

    Args:
        content: Content of the file.
        name: Name of the file, for errors.

    Raises:
        InputError: The content is not JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # wrong encodings are a ValueError too
        raise InputError(
            f"{name}: not JSON ({error}); the file is damaged: make this result again"
        ) from None


def parse_object(content: str | bytes, name: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        content: Content of the file.
        name: Name of the file, for errors.

    Raises:
        InputError: The content is something else.
    """
    loaded = parse_json(content, name)
    if isinstance(loaded, dict):
        return loaded
    raise InputError(
        f"{name}: the content is {loaded!r:.60}; expected a JSON object. The file is damaged: make "
        "this result again"
    )


def read_object(make: Callable[[Mapping[str, Any]], R], content: Mapping[str, Any], name: str) -> R:
    """Make something of a JSON object.

    Args:
        make: A function that expects the object to be as it was written.
        content: Parsed JSON.
        name: Name of the file, for errors.

    Raises:
        InputError: The function did not find what it needs.
    """
    try:
        return make(content)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{name}: unusable ({type(error).__name__}: {error}). The file is damaged, or written "
            "by another version: make this result again"
        ) from None


class _FieldError(Exception):
    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found, expected)
        self.path, self.found, self.expected = "", found, expected

    def below(self, step: str) -> "_FieldError":
        """The same error, seen from the value that holds the wrong one."""
        self.path = step + ("." if self.path and self.path[0] != "[" else "") + self.path
        return self


def _plain(value: object) -> Any:
    if is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


# ---- readers: one per type, made once, since a manifest has thousands of equal entries ----------

Reader = Callable[[Any], Any]


@cache
def _reader(annotation: Any) -> Reader:
    """The reader of a type: parsed JSON to a value, or `_FieldError`."""
    if annotation in _NAMES:
        return _scalar_reader(annotation)
    if is_dataclass(annotation):
        return _record_reader(cast(type, annotation))
    kind, arguments = get_origin(annotation), get_args(annotation)
    if kind in (Union, types.UnionType):
        (inner,) = (each for each in arguments if each is not type(None))
        return _optional_reader(_reader(inner))
    if kind is Literal:
        return _choice_reader(arguments)
    if kind is tuple:
        return _list_reader(arguments)
    if kind is list:
        read = _list_reader((*arguments, ...))
        return lambda value: list(read(value))
    if kind is dict or kind is Mapping:
        return _mapping_reader(_reader(arguments[1]))
    assert annotation in (Any, object), f"records hold no {annotation}"
    return lambda value: value


def _scalar_reader(kind: type) -> Reader:
    accepted = (int, float) if kind is float else (kind,)

    def read(value: Any) -> Any:
        if type(value) in accepted:
            return value
        raise _FieldError(f"is {value!r:.60}", _NAMES[kind])

    return read


def _choice_reader(choices: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value in choices:
            return value
        raise _FieldError(f"is {value!r:.60}", f"one of {', '.join(map(str, choices))}")

    return read


def _optional_reader(read: Reader) -> Reader:
    def read_optional(value: Any) -> Any:
        return None if value is None else read(value)

    return read_optional


def _list_reader(arguments: tuple[Any, ...]) -> Reader:
    is_any_length = arguments[-1] is Ellipsis
    readers = [_reader(each) for each in arguments if each is not Ellipsis]

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise _FieldError(f"is {value!r:.60}", "a list")
        if not is_any_length and len(value) != len(readers):
            raise _FieldError(f"has {len(value)} entries", f"{len(readers)}")
        entries = []
        for at, entry in enumerate(value):
            try:
                entries.append(readers[0 if is_any_length else at](entry))
            except _FieldError as error:
                raise error.below(f"[{at}]") from None
        return tuple(entries)

    return read


def _mapping_reader(read_value: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _FieldError(f"is {value!r:.60}", "an object")
        found = {}
        for key, entry in value.items():
            try:
                found[key] = read_value(entry)
            except _FieldError as error:
                raise error.below(key) from None
        return found

    return read


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    read: Reader
    is_required: bool


def _record_reader(kind: type) -> Reader:
    hints = get_type_hints(kind)
    beside = next((f.name for f in fields(kind) if f.metadata.get(_BESIDE)), None)
    is_record_beside = beside is not None and is_dataclass(hints[beside])
    read_beside = None if beside is None else _reader(hints[beside])
    known = [
        _Field(
            each.name,
            _reader(hints[each.name]),
            bool(each.metadata.get(_ALWAYS))
            or (each.default is MISSING and each.default_factory is MISSING),
        )
        for each in fields(kind)
        if each.name != beside
    ]
    names = {each.name for each in known}

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _FieldError(f"is {value!r:.60}", "an object")
        found = {}
        for each in known:
            if each.name not in value:
                if each.is_required:
                    raise _FieldError("is missing", "it in every version").below(each.name)
                continue
            try:
                found[each.name] = each.read(value[each.name])
            except _FieldError as error:
                raise error.below(each.name) from None
        if beside is not None and read_beside is not None:
            others = {key: entry for key, entry in value.items() if key not in names}
            found[beside] = read_beside(value if is_record_beside else others)
        return kind(**found)

    return read
