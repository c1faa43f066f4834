"""YAML text by this project's rules: 2e-3 is a number; 2026-11-01, 007 and +01:00 stay texts."""

import re
from collections.abc import Mapping

import yaml

from lightsans.errors import ConfigError

NULL = "tag:yaml.org,2002:null"
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
_RETAGGED = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}


class Loader(yaml.SafeLoader):
    """Reads numbers and texts by the rules of this module."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [rule for rule in rules if rule[0] not in _RETAGGED]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Dumper(yaml.SafeDumper):
    """Quotes whatever either YAML's own rules or ours would take for something else than text."""


Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
for _class in (Loader, Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


_REORDERING = {code: f"\\u{code:04x}" for code in (0x61C, *range(0x2028, 0x202F))}
_REORDERING |= {code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x2066, 0x206A))}
"""Characters by which a terminal shows a line in another order, as YAML writes them in quotes."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    has_them = any(ord(character) in _REORDERING for character in text)
    style = '"' if has_them or "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _represent_text)


def dump(values: Mapping[str, object]) -> str:
    """YAML that `Loader` reads back as the same values, and that a terminal can show.

    A text is on one line, behind which a remark may stand.
    """
    one_line = float("inf")
    text = yaml.dump(
        dict(values), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=one_line
    )
    return text.translate(_REORDERING)


def compose(text: str) -> tuple[Loader, yaml.Node | None]:
    """The nodes of YAML text, and the loader that makes values of them.

    Raises:
        YAMLError: This is not YAML.
    """
    try:
        loader = Loader(text)
        return loader, loader.get_single_node()
    except RecursionError:
        raise yaml.YAMLError("nested too deep") from None
    except ValueError as error:  # an escape for a character that does not exist
        raise yaml.YAMLError(str(error)) from error


def construct(loader: Loader, node: yaml.Node) -> object:
    """The value of a node: null, true, false, a number, a text, or lists and dicts of those.

    Raises:
        YAMLError: It is something else, such as a date, or a dict whose keys are not texts, or
            where one stands twice.
    """
    try:
        _require_names_once(node, set())
        value = loader.construct_object(node, deep=True)
        _require_plain(value)
    except RecursionError:
        raise yaml.YAMLError("nested too deep, or part of itself") from None
    except UnicodeEncodeError as error:
        raise yaml.YAMLError(f"a character is half of a surrogate pair: {error.reason}") from error
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        # PyYAML's own, for a text that does not fit its tag, or a number with thousands of digits.
        raise yaml.YAMLError(f"found a value that does not fit its tag {node.tag}") from error
    return value


def _require_names_once(node: yaml.Node, seen: set[int]) -> None:
    """Refuse a mapping with a name twice, of which PyYAML takes the last.

    Args:
        node: The mapping, or what may hold one.
        seen: Nodes that were looked at, to which aliases lead again.
    """
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _require_names_once(entry, seen)
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            problem = f"{name} is given twice, first in line {lines[name]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        lines[name] = line
        _require_names_once(value, seen)


def _require_plain(value: object) -> None:
    if isinstance(value, list):
        for entry in value:
            _require_plain(entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise yaml.YAMLError(f"found the key {key!r}, expected a text")
            _require_plain(key)
            _require_plain(entry)
    elif isinstance(value, str):
        value.encode()
    elif not isinstance(value, bool | int | float | None):
        kind = type(value).__name__
        raise yaml.YAMLError(f"found a {kind}; expected a number, a text, a list or a mapping")


def read_yaml(text: str, name: str) -> object:
    """The content of YAML text by this project's rules: 2e-3 is a number, 007 a text.

    Raises:
        ConfigError: It is not YAML; the message begins with ``name``.
    """
    try:
        loader, node = compose(text)
        return None if node is None else construct(loader, node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from error
