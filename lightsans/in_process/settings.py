"""Settings as keyword arguments: a section as a dict, or a setting by its last name alone."""

import os
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import numpy as np

from lightsans.config import RunConfig
from lightsans.config.file import from_settings
from lightsans.config.marks import Mark, walk_marks
from lightsans.config.run import ALIASES, LEAVES, SECTIONS, names_under
from lightsans.errors import ConfigError

ORIGIN = "Recommender(...)"
_FRAME = ("data.input", "data.base", "data.format", "data.partition_time", "data.item_table")
"""Settings about files: a frame is none."""
ITEMS = "(the frame of items)"
"""Stands for ``data.item_table`` until `Recommender.fit` is given that frame."""
_USED = ("data", "data.columns", "data.temporal", "model", "train", "evaluate", "score", "similar")
"""Sections whose settings can be given by their last name."""
_MARKS = dict(walk_marks(RunConfig))


def config_of(settings: Mapping[str, Any]) -> RunConfig:
    """The configuration that keyword arguments ask for.

    Args:
        settings: ``epochs=5``, ``model={"k_interests": 10}`` or ``**{"score.k": 20}`` alike.

    Raises:
        ConfigError: A name is unknown, or that of several settings, or a value is wrong.
    """
    found: dict[str, object] = {}
    for name, value in settings.items():
        for key, plain in _resolve(name, value):
            if key in found:
                raise ConfigError(f"{ORIGIN} gives {key} twice; give it once")
            found[key] = plain
    if "score.users" in found:  # it would have no effect
        raise ConfigError(f"{ORIGIN} takes no score.users: recommend(users=...) is given them")
    about_files = [key for key in _FRAME if key in found]
    if about_files == ["data.item_table"]:
        raise ConfigError(
            f"{ORIGIN} takes no data.item_table: fit(frame, items=...) is given a frame"
        )
    if about_files:
        raise ConfigError(
            f"{ORIGIN} takes no {about_files[0]}: fit() is given the interactions as a frame; "
            "files are read by `submit.py pipeline`"
        )
    if any(key.startswith("data.item_features") for key in found):
        found["data.item_table"] = ITEMS
    return from_settings(found, ORIGIN)


def _resolve(name: str, value: Any) -> Iterator[tuple[str, object]]:
    """Dotted names and values of what one argument sets."""
    if f"data.{name}" in SECTIONS and isinstance(value, Mapping):
        name = f"data.{name}"
    if name in SECTIONS and isinstance(value, Mapping):
        for inner, given in value.items():
            yield from _resolve(f"{name}.{inner}", given)
        return
    if name in SECTIONS:
        raise ConfigError(
            f"{ORIGIN}: {name} is {value!r}; expected a dict of {', '.join(names_under(name))}"
        )
    if "." in name or name in LEAVES:
        yield ALIASES.get(name, name), _plain(name, value)
        return
    full = [f"{section}.{name}" for section in _USED]
    keys = list(dict.fromkeys(ALIASES.get(key, key) for key in full))
    # A last name means score.item_table: the other one is a frame here.
    known = [key for key in keys if key in LEAVES and key != "data.item_table"]
    if len(known) > 1:  # who says batch_size means that of training, which decides the result
        without = {Mark.NO_EFFECT, Mark.AT_ONCE}
        known = [key for key in known if not without & _MARKS[key]] or known
    if len(known) > 1:
        section, _, leaf = known[0].rpartition(".")
        raise ConfigError(
            f"{ORIGIN}: {name} is a setting of several sections, {' and '.join(known)}; say which: "
            f"{section}={{{leaf!r}: {value!r}}}"
        )
    yield (known[0] if known else name), _plain(name, value)


def _plain(name: str, value: Any) -> object:
    """The value as JSON can hold it: numbers of NumPy are Python's.

    Raises:
        ConfigError: It is something else, such as a series, which would be taken for its text.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(name, each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(name, each) for key, each in value.items()}
    if not isinstance(value, str | int | float | date | os.PathLike | None):
        kind = type(value)
        raise ConfigError(
            f"{ORIGIN}: {name} is a {kind.__module__}.{kind.__name__}; expected text, a number, "
            "True, False or None, or a list or dict of them; ids are given as the path of a file"
        )
    return value
