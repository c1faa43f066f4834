"""Spaces of a search: settings with their choices or ranges, checked before anything is drawn.

A space is a mapping from a setting to one of four kinds:

    model.k_interests: {choice: [10, 15, 20]}
    model.hidden_dropout_prob: {uniform: [0.1, 0.5]}
    train.learning_rate: {loguniform: [1e-4, 1e-2]}     the bounds themselves
    model.inner_size: {quniform: [64, 256, 64]}         multiples of the last number

RecBole's ``hyper.test`` files are read as RecBole reads them: one line a setting, and the bounds of
``loguniform`` are natural logarithms. Combinations that the configuration refuses, such as heads
that do not divide the width, are never part of a search.
"""

import ast
import difflib
import itertools
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from lightsans.config import RunConfig, TrainConfig
from lightsans.config.file import check_value
from lightsans.config.marks import Mark, fields_with, walk_marks
from lightsans.config.run import ALIASES, setting_names, setting_type
from lightsans.config.yaml_text import read_yaml
from lightsans.errors import ConfigError

Kind = Literal["choice", "uniform", "loguniform", "quniform"]
Values = dict[str, Any]
"""A value for every setting of a space, by dotted name."""
RawSpace = dict[str, dict[str, list[Any]]]
"""A space as ``tune.space`` holds it."""

ARGUMENTS: Final[dict[str, str]] = {
    "choice": "a list of values",
    "uniform": "low, high",
    "loguniform": "low, high",
    "quniform": "low, high, step",
}
RECBOLE_NAMES: Final = {
    "num_layers": "model.n_layers",
    "train_batch_size": "train.batch_size",
    "MAX_ITEM_LIST_LENGTH": "model.max_seq_len",
}
MOST_COMBINATIONS: Final = 50_000
"""Larger spaces are drawn from without listing them."""
_LARGEST_LOGARITHM: Final = 700
"""Limit of logarithms of numbers that a float can hold."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting of a space."""

    name: str
    kind: Kind
    arguments: tuple[Any, ...]
    """The options of a choice; low and high, and for quniform the step."""

    @property
    def options(self) -> tuple[Any, ...] | None:
        """All values, where they can be listed."""
        if self.kind == "choice":
            return self.arguments
        if self.kind != "quniform":
            return None
        return tuple(self.multiple(n) for n in self._counts)

    @property
    def num_options(self) -> int | None:
        """Number of all values; None where they cannot be listed."""
        if self.kind == "quniform":
            return self._counts.stop - self._counts.start
        return None if self.options is None else len(self.options)

    @property
    def _counts(self) -> range:
        """Steps of the values of a quniform."""
        low, high, step = self.arguments
        return range(round(low / step), round(high / step) + 1)

    def multiple(self, count: int) -> int | float:
        """``count`` steps of a quniform, as its setting keeps them."""
        value = float(f"{count * self.arguments[2]:.12g}")
        return round(value) if setting_type(self.name) is int else value

    def draw(self, rng: np.random.Generator) -> Any:
        """A value drawn as the kind says."""
        if self.kind == "choice":
            return self.arguments[int(rng.integers(len(self.arguments)))]
        low, high = self.arguments[:2]
        if self.kind == "loguniform":
            return float(math.exp(rng.uniform(math.log(low), math.log(high))))
        value = float(rng.uniform(low, high))
        return self.multiple(round(value / self.arguments[2])) if self.kind == "quniform" else value


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The dimensions of a search, and the run that they vary."""

    dimensions: tuple[Dimension, ...]
    base: RunConfig

    def configure(self, values: Values) -> RunConfig:
        """The run with these values.

        Raises:
            ConfigError: They do not go together.
        """
        changes: dict[str, Values] = {"model": {}, "train": {}}
        for name, value in values.items():
            section, _, leaf = name.partition(".")
            changes[section][leaf] = value
        return replace(
            self.base,
            model=replace(self.base.model, **changes["model"]),
            train=replace(self.base.train, **changes["train"]),
        )

    def is_valid(self, values: Values) -> bool:
        """Whether the configuration takes these values together."""
        try:
            self.configure(values)
        except ConfigError:
            return False
        return True

    def key(self, values: Values) -> tuple[Any, ...]:
        """The values in the order of the dimensions: equal for equal trials."""
        return tuple(values[dimension.name] for dimension in self.dimensions)

    @property
    def size(self) -> int | None:
        """Number of combinations, valid or not; None where they cannot be counted."""
        numbers = [dimension.num_options for dimension in self.dimensions]
        return None if None in numbers else math.prod(n for n in numbers if n is not None)

    def combinations(self) -> list[Values] | None:
        """All valid combinations in the order of the file; None where there are too many.

        Raises:
            ConfigError: None is valid.
        """
        if self.size is None or self.size > MOST_COMBINATIONS:
            return None
        names = [dimension.name for dimension in self.dimensions]
        options = [dimension.options or () for dimension in self.dimensions]
        listed = [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*options)]
        valid = [values for values in listed if self.is_valid(values)]
        if not valid:
            self.configure(listed[0])  # says why
        return valid


def build_space(space: Mapping[str, Any], base: RunConfig, origin: str) -> SearchSpace:
    """A checked space.

    Args:
        space: Setting to ``{kind: arguments}``; RecBole's names and bare ones are understood.
        base: The run whose settings are varied.
        origin: Name of the space, for errors: a file, or ``tune.space``.

    Raises:
        ConfigError: A name, kind or value is wrong; or there is nothing to search.
    """
    if not space:
        raise ConfigError(
            f"{origin} is empty; give a file with --space, or settings such as "
            "tune.space={model.k_interests: {choice: [5, 10]}}"
        )
    if not isinstance(space, Mapping):
        raise ConfigError(
            f"{origin} is {space!r}; expected settings with their values, such as "
            "{model.k_interests: {choice: [5, 10]}}"
        )
    dimensions: dict[str, Dimension] = {}
    for written, content in space.items():
        name = find_name(str(written), origin)
        if name in dimensions:
            raise ConfigError(f"{origin} gives {name} twice, the second time as {written}")
        dimensions[name] = _dimension(name, content, f"{origin}, {written}")
    return SearchSpace(tuple(dimensions.values()), base)


def find_name(written: str, origin: str) -> str:
    """The dotted name of a setting that may be searched.

    Raises:
        ConfigError: It is unknown (the nearest name is suggested), or not searched, and why.
    """
    settings = setting_names()
    names = [name for name, marks in walk_marks(RunConfig) if Mark.SEARCHABLE in marks]
    known = {name.partition(".")[2]: name for name in names} | RECBOLE_NAMES
    known |= {name: name for name in names}
    known |= {alias: name for alias, name in ALIASES.items() if name in names}
    if written in known:
        return known[written]
    if {written, f"train.{written}"} & set(settings):
        raise ConfigError(
            f"{origin}: {written} cannot be searched; settings of model can, and train."
            f"{', '.join(fields_with(TrainConfig, Mark.SEARCHABLE))}"
        )
    near = difflib.get_close_matches(written, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "expected a setting of model or train"
    raise ConfigError(f"{origin}: unknown setting {written}; {hint}")


def _dimension(name: str, content: Any, origin: str) -> Dimension:
    if isinstance(content, list):
        content = {"choice": content}
    if not isinstance(content, dict) or len(content) != 1 or not set(content) <= set(ARGUMENTS):
        raise ConfigError(
            f"{origin}: found {content!r}; expected one of {', '.join(ARGUMENTS)}, such as "
            "{choice: [1, 2]}"
        )
    [(kind, arguments)] = content.items()
    if not isinstance(arguments, list) or not arguments:
        raise ConfigError(f"{origin}: {kind} needs {ARGUMENTS[kind]}, found {arguments!r}")
    if kind == "choice":
        options = tuple(check_value(name, value, origin) for value in arguments)
        if len(set(options)) < len(options):
            raise ConfigError(f"{origin}: a value is given twice in {list(options)}")
        return Dimension(name, "choice", options)
    return Dimension(name, kind, _range(name, kind, arguments, origin))


def _range(name: str, kind: str, arguments: list[Any], origin: str) -> tuple[float, ...]:
    expected = f"{origin}: {kind} needs {ARGUMENTS[kind]}, found {arguments}"
    are_numbers = all(isinstance(a, int | float) and not isinstance(a, bool) for a in arguments)
    if not are_numbers or len(arguments) != len(ARGUMENTS[kind].split(",")):
        raise ConfigError(expected)
    if not all(abs(argument) <= sys.float_info.max for argument in arguments):
        raise ConfigError(f"{expected}: give finite numbers")
    low, high, *rest = (float(argument) for argument in arguments)
    if low >= high:
        raise ConfigError(f"{expected}: low is not below high")
    if kind == "loguniform" and low <= 0:
        raise ConfigError(f"{expected}: the bounds of a logarithm are positive")
    if rest and rest[0] <= 0:
        raise ConfigError(f"{expected}: the step is positive")
    takes = setting_type(name)
    if takes not in (int, float):
        raise ConfigError(f"{origin}: {name} is no number; use choice")
    if takes is int and (kind != "quniform" or rest[0] != int(rest[0])):
        raise ConfigError(f"{origin}: {name} is a whole number; use choice, or quniform and a step")
    return (low, high, *rest)


# ---- files ---------------------------------------------------------------------------------------


def parse_space(text: str, name: str) -> RawSpace:
    """The space in a file: YAML when its name ends so, else RecBole's ``hyper.test``.

    Args:
        text: Content of the file.
        name: Its name, for errors.

    Returns:
        What ``tune.space`` takes.

    Raises:
        ConfigError: A name, kind or value is wrong.
    """
    if name.endswith((".yaml", ".yml", ".json")):
        content = read_yaml(text, name)
        if not isinstance(content, dict):
            raise ConfigError(f"{name} holds no settings; expected lines such as k_interests: [5]")
    else:
        content = _parse_recbole(text, name)
    space = build_space(content, RunConfig(), name)
    return {d.name: {d.kind: list(d.arguments)} for d in space.dimensions}


def _parse_recbole(text: str, name: str) -> dict[str, dict[str, list[Any]]]:
    """Lines of ``setting kind arguments``, as RecBole's ``HyperTuning`` reads them."""
    found: dict[str, dict[str, list[Any]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        place = f"{name}, line {number}"
        if len(words) < 3 or words[1] not in ARGUMENTS:
            raise ConfigError(
                f"{place}: found {line.strip()!r}; expected a setting, one of "
                f"{', '.join(ARGUMENTS)}, and its values"
            )
        written, kind, rest = words[0], words[1], " ".join(words[2:])
        if written in found:
            raise ConfigError(f"{place}: {written} is given a second time")
        try:
            arguments = list(ast.literal_eval(rest if kind == "choice" else f"[{rest}]"))
        except (ValueError, SyntaxError, TypeError) as error:
            raise ConfigError(f"{place}: {kind} needs {ARGUMENTS[kind]}, found {rest!r}") from error
        if kind == "loguniform":
            arguments = _exponentials(arguments, place)
        found[written] = {kind: arguments}
    return found


def _exponentials(arguments: list[Any], place: str) -> list[Any]:
    """The bounds that RecBole (hyperopt) gives as natural logarithms."""
    if len(arguments) != 2 or not all(isinstance(a, int | float) for a in arguments):
        return arguments  # refused with the other ranges
    low, high = arguments
    if not max(abs(low), abs(high)) <= _LARGEST_LOGARITHM:
        raise ConfigError(
            f"{place}: loguniform {low},{high} are natural logarithms here, as in RecBole; "
            f"expected numbers from -{_LARGEST_LOGARITHM} to {_LARGEST_LOGARITHM}, such as -8,-4"
        )
    if 0 < low < high and high - low < 0.1:
        raise ConfigError(
            f"{place}: loguniform {low},{high} are natural logarithms here, as in RecBole: from "
            f"{math.exp(low):.4g} to {math.exp(high):.4g}. For a range of the numbers themselves "
            f"write {math.log(low):.4g},{math.log(high):.4g}"
        )
    return [math.exp(low), math.exp(high)]
