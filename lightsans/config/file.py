"""Reads a YAML file and ``--set key=value`` into one checked `RunConfig`.

Settings travel as a flat mapping from the dotted name (``model.k_interests``) to its value and the
place it came from: defaults < profile < file < ``--set`` is then one update of a dict, and every
error can say where the value stands. pydantic checks the types.
"""

import dataclasses
import difflib
import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from lightsans.config.checks import require_usable, without_credentials
from lightsans.config.marks import to_dict
from lightsans.config.run import ALIASES, LEAVES, SECTIONS, TYPES, RunConfig, names_under
from lightsans.config.yaml_text import NULL, Loader, compose, construct, dump
from lightsans.errors import ConfigError

_ADAPTER = TypeAdapter(RunConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedConfig:
    """A configuration and where each of its settings came from."""

    config: RunConfig
    origins: dict[str, str]
    """Dotted setting to ``default``, ``profile NAME``, ``FILE:LINE`` or ``--set``."""


class _Setting(NamedTuple):
    value: object
    origin: str


def load_config(
    path: str | None, overrides: Sequence[str] = (), *, profiles: Path | None = None
) -> LoadedConfig:
    """Combine the defaults, the local file at ``path`` if any, and ``key=value`` overrides.

    When the file or an override names a ``profile``, its settings come right after the defaults.

    Args:
        path: A YAML file.
        overrides: ``key=value`` each.
        profiles: Directory with a YAML file for each profile; None if there are no profiles.

    Raises:
        ConfigError: The file cannot be read, or a setting or the profile is unknown or wrong.
    """
    if path is None:
        return parse_config("", "", overrides, profiles=profiles)
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: {error.strerror}; name an existing YAML file, "
            "such as pipelines/configs/quickstart.yaml"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration {path} is not UTF-8 text: {error}") from error
    return parse_config(text, path, overrides, profiles=profiles)


def parse_config(
    text: str, name: str, overrides: Sequence[str] = (), *, profiles: Path | None = None
) -> LoadedConfig:
    """Parse the text of a configuration file; see `load_config`.

    Args:
        text: Content of a YAML file.
        name: Name of the file, for errors.
        overrides: ``key=value`` each.
        profiles: See `load_config`.

    Raises:
        ConfigError: The text is not YAML, or a setting or the profile is unknown or wrong.
    """
    given = _file_settings(text, name) | _override_settings(overrides)
    settings = _defaults() | _profile_settings(given.get("profile"), profiles) | given
    for key, setting in settings.items():
        without_credentials(key, setting.value)
    origins = {key: setting.origin for key, setting in settings.items()}
    return LoadedConfig(config=_validate(settings), origins=origins)


def from_dict(values: Mapping[str, object]) -> RunConfig:
    """Read back what `to_dict` made of a configuration: the first line of a Ray worker.

    Its profile is not looked up, since every value is there; and one that was saved by an earlier
    version may hold credentials.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """
    return _validate(_defaults() | _file_settings(dump(values), "the saved configuration"))


def from_settings(values: Mapping[str, object], origin: str) -> RunConfig:
    """The configuration with some settings other than the defaults.

    Args:
        values: Values by dotted name, such as ``model.k_interests``.
        origin: Who gives them, for messages.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """
    named = {ALIASES.get(key, key): _Setting(value, origin) for key, value in values.items()}
    for key in named:
        if key not in LEAVES:
            raise ConfigError(f"unknown setting {key} in {origin}; {_suggest(key)}")
    return _validate(_defaults() | named)


def dump_yaml(config: RunConfig) -> str:
    """Write all settings as YAML that `load_config` reads back as an equal configuration."""
    return dump(to_dict(config))


def _defaults() -> dict[str, _Setting]:
    return {key: _Setting(value, "default") for key, value in _flatten(to_dict(RunConfig()))}


def _flatten(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict) and prefix + name in SECTIONS:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _nest(settings: Mapping[str, _Setting]) -> dict[str, object]:
    root: dict[str, object] = {}
    for key, setting in settings.items():
        *sections, leaf = key.split(".")
        node: Any = root
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = setting.value
    return root


# ---- the file ------------------------------------------------------------------------------------


def _file_settings(text: str, name: str) -> dict[str, _Setting]:
    try:
        loader, node = compose(text)
        if node is None or node.tag == NULL:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{name} holds no settings; expected lines such as 'root: ./data'")
        return _collect(loader, node, "", name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{name}{place}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from error


def _collect(loader: Loader, node: yaml.MappingNode, prefix: str, name: str) -> dict[str, _Setting]:
    """The leaves under one mapping. Every unknown or doubled name is reported, not just one."""
    found: dict[str, _Setting] = {}
    lines: dict[str, int] = {}
    problems = []
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        origin = name if name == "--set" else f"{name}:{line}"
        written = f"{prefix}{key_node.value}"
        key = ALIASES.get(written, written)
        if key in lines:
            problems.append(f"{key} is given twice in {name}: lines {lines[key]} and {line}")
            continue
        lines[key] = line
        try:
            made = _settings_at(loader, key, value_node, name, origin)
        except ConfigError as error:
            problems.append(str(error))
            continue
        for twice in sorted(found.keys() & made.keys()):  # "score.k: 5" beside "score: {k: 6}"
            problems.append(f"{twice} is given twice in {name}: {found[twice].origin}, {origin}")
        found |= made
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _settings_at(
    loader: Loader, key: str, node: yaml.Node, name: str, origin: str
) -> dict[str, _Setting]:
    """Settings that one key sets: itself, or all that its section holds."""
    if key in LEAVES:
        return {key: _Setting(construct(loader, node), origin)}
    if key not in SECTIONS:
        line = "" if origin == "--set" else f" (line {origin.rpartition(':')[2]})"
        raise ConfigError(f"unknown setting {key} in {name}; {_suggest(key)}{line}")
    if isinstance(node, yaml.MappingNode):
        return _collect(loader, node, f"{key}.", name)
    if node.tag == NULL:  # a section whose lines are all commented out
        return {}
    found = construct(loader, node)
    raise ConfigError(f"{key} is {found!r} ({origin}); expected {', '.join(names_under(key))}")


def _suggest(key: str) -> str:
    section, _, leaf = key.rpartition(".")
    near = [name for name in sorted(TYPES) if name.rpartition(".")[2] == leaf]
    if not near and section in SECTIONS:
        siblings = {name.rpartition(".")[2]: name for name in names_under(section)}
        near = [siblings[name] for name in difflib.get_close_matches(leaf, siblings, n=1)]
    elif not near:
        near = difflib.get_close_matches(key, sorted(TYPES), n=1)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"expected one of {', '.join(names_under(section if section in SECTIONS else ''))}"


def check_value(name: str, value: object, origin: str) -> Any:
    """The value as this setting keeps it: 1 becomes 1.0 where numbers may be fractions.

    Raises:
        ConfigError: It is of another type; the message names ``origin``.
    """
    try:
        return TypeAdapter(TYPES[name]).validate_json(json.dumps(value), strict=True)
    except ValidationError:
        expected = _describe(TYPES[name])
        raise ConfigError(f"{name} is {value!r} ({origin}); expected {expected}") from None


# ---- profiles ------------------------------------------------------------------------------------


def _profile_settings(chosen: _Setting | None, profiles: Path | None) -> dict[str, _Setting]:
    if chosen is None or chosen.value is None:
        return {}
    if profiles is None:
        given = f"profile is {chosen.value!r} ({chosen.origin})"
        raise ConfigError(f"{given}, and no profiles are known here; give its settings themselves")
    known = sorted(path.stem for path in profiles.glob("*.yaml"))
    if chosen.value not in known:
        raise ConfigError(
            f"profile is {chosen.value!r} ({chosen.origin}); expected one of {', '.join(known)}, "
            f"or a new file in {profiles}"
        )
    path = profiles / f"{chosen.value}.yaml"
    found = _file_settings(path.read_text(encoding="utf-8-sig"), str(path))
    if "profile" in found:
        raise ConfigError(f"{path} names a profile itself; put all of its settings into one file")
    return {key: _Setting(value, f"profile {chosen.value}") for key, (value, _) in found.items()}


# ---- --set ---------------------------------------------------------------------------------------


def _override_settings(overrides: Sequence[str]) -> dict[str, _Setting]:
    found: dict[str, _Setting] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set {override} is not key=value, such as model.k_interests=10")
        loader, node = _override_value(key, text.strip())
        try:
            found |= _settings_at(loader, ALIASES.get(key, key), node, "--set", "--set")
        except yaml.YAMLError as error:
            reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            raise ConfigError(f"--set {override}: the value cannot be used: {reason}") from error
    return found


def _override_value(key: str, text: str) -> tuple[Loader, yaml.Node]:
    """The value as YAML; what is no YAML value (``*.csv``, ``::``, ``|``) is the text itself.

    Where a setting is a list, commas separate its values, without the blanks around them.
    """
    text = '"\\t"' if text == r"\t" else text  # the one escape that a separator needs
    structured = text.startswith(("[", "{", '"', "'"))
    if "," in text and not structured and get_origin(TYPES.get(ALIASES.get(key, key))) is tuple:
        pieces = [_override_value(key, piece.strip()) for piece in text.split(",")]
        nodes = [node for _, node in pieces]
        return pieces[0][0], yaml.SequenceNode("tag:yaml.org,2002:seq", nodes)
    is_text = TYPES.get(ALIASES.get(key, key)) in (str, str | None, tuple[str, ...])  # quote_char='
    try:
        loader, node = compose(text or "null")
    except yaml.YAMLError as error:
        if structured and not (is_text and text.startswith(("'", '"'))):
            raise ConfigError(f"--set {key}={text}: the value is not valid YAML") from error
    else:
        is_plain = isinstance(node, yaml.ScalarNode) and node.value == (text or "null")
        is_text &= node is not None and node.tag.endswith((":int", ":float"))  # 12e456789012
        if node is not None and (structured or is_plain) and not is_text:
            return loader, node
    return Loader(""), yaml.ScalarNode("tag:yaml.org,2002:str", text)


# ---- checks --------------------------------------------------------------------------------------


def _validate(settings: dict[str, _Setting]) -> RunConfig:
    for key, (value, origin) in settings.items():
        if get_origin(TYPES[key]) is tuple and not isinstance(value, list):
            settings[key] = _Setting([value], origin)  # data.input: one.csv
        require_usable(key, value, origin, TYPES[key], _describe)
    # JSON, because pydantic is strict about scalars there and still takes a list for a tuple.
    document = json.dumps(_nest(settings), default=str)
    try:
        return _ADAPTER.validate_json(document, strict=True)
    except ValidationError as error:
        problems = dict.fromkeys(_problem(e, settings) for e in error.errors())  # unions repeat
        raise ConfigError("\n".join(problems)) from error


def _problem(error: Any, settings: Mapping[str, _Setting]) -> str:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):  # a dataclass checked itself and named its settings
        named = re.findall(r"\w+(?:\.\w+)*", str(cause))
        origins = {name: settings[name].origin for name in named if name in settings}
        places = "; ".join(f"{name}: {origin}" for name, origin in origins.items())
        return f"{cause} ({places})" if places else str(cause)
    parts = [str(part) for part in error["loc"]]
    key = ".".join(parts)
    while parts and key not in settings:  # below the setting come list positions and union members
        parts.pop()
        key = ".".join(parts)
    if not parts:
        return f"the configuration is not understood: {error['msg']}"
    value, origin = settings[key]
    rule = _rule_problem(error, len(parts), key, origin)
    if rule is not None:
        return rule
    texts = (tuple[str, ...],) if isinstance(value, list) else (str, str | None)
    is_bare = isinstance(value, int | float | list) and TYPES[key] in texts  # NULL is nothing
    hint = "; put it in quotes" if is_bare else ""
    return f"{key} is {value!r} ({origin}); expected {_describe(TYPES[key])}{hint}"


def _rule_problem(error: Any, depth: int, key: str, origin: str) -> str | None:
    """The problem within a rule, an entry of dataclasses; None where it is elsewhere."""
    kind = tuple(part for part in get_args(TYPES[key]) if dataclasses.is_dataclass(part))
    places = error["loc"][depth:]
    if not kind or len(places) < 2:
        return None
    place, *names = places
    where = f"{key}.{place}" if isinstance(place, str) else f"{key}[{place}]"
    for name in names:
        field = {f.name: f.type for f in dataclasses.fields(kind[0])}.get(name)
        if error["type"] == "unexpected_keyword_argument" and field is None:
            known = [f.name for f in dataclasses.fields(kind[0])]
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            return f"unknown setting {where}.{name} ({origin}); {hint}"
        if field is None:  # a position in a list, a member of a union
            continue
        where += f".{name}"
        inner = [part for part in (field, *get_args(field)) if dataclasses.is_dataclass(part)]
        kind = tuple(inner) or kind
    if error["type"] == "missing":
        return f"{where} is missing ({origin})"
    hint = "; put it in quotes" if error["type"] == "string_type" else ""
    return f"{where} is {error['input']!r} ({origin}); {error['msg'].lower()}{hint}"


_WORDS = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
_PLURALS = {int: "integers", str: "texts", float: "numbers"}


def _describe(annotation: Any) -> str:
    arguments = get_args(annotation)
    kind = get_origin(annotation)
    if kind is Literal:
        return "one of " + ", ".join(str(value) for value in arguments)
    if kind is tuple:
        if dataclasses.is_dataclass(arguments[0]):
            names = [field.name for field in dataclasses.fields(arguments[0])]
            return f"a list of rules with {', '.join(names)}"
        return f"a list of {_PLURALS[arguments[0]]}"
    if kind is dict:
        if dataclasses.is_dataclass(arguments[1]):
            names = [field.name for field in dataclasses.fields(arguments[1])]
            return f"names, each with {', '.join(names)}"
        if arguments[1] not in _PLURALS:
            return "names with ranges, such as {model.k_interests: {choice: [5, 10]}}"
        return f"names with {_PLURALS[arguments[1]]}, such as {{name: value}}"
    if kind in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _describe(a) for a in arguments)
    if dataclasses.is_dataclass(annotation):
        return f"a rule with {' and '.join(field.name for field in dataclasses.fields(annotation))}"
    return _WORDS[annotation]
