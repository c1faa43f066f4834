"""Names and types of all settings, read off the dataclasses."""

import dataclasses
from collections.abc import Iterator
from typing import Any, get_type_hints

from lightsans.config.run import RunConfig

ALIASES = {"model.num_layers": "model.n_layers"}  # RecBole uses both


def _walk_types(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, annotation in get_type_hints(config_class).items():
        yield prefix + name, annotation
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            yield from _walk_types(annotation, f"{prefix}{name}.")


TYPES = dict(_walk_types(RunConfig))
SECTIONS = {name for name, annotation in TYPES.items() if dataclasses.is_dataclass(annotation)}
LEAVES = TYPES.keys() - SECTIONS


def setting_names() -> list[str]:
    """Every setting by its dotted name."""
    return [name for name in TYPES if name in LEAVES]


def setting_type(name: str) -> Any:
    """The type of a setting's values."""
    return TYPES[name]


def names_under(section: str) -> list[str]:
    """Names of the settings and sections right under a section; "" is the top."""
    return [name for name in TYPES if name.rpartition(".")[0] == section]
