"""The configuration file described for editors."""

import ast
import inspect
import itertools
import sys
from typing import Any

from pydantic import TypeAdapter

from lightsans.config.run import ALIASES, SECTIONS, TYPES, RunConfig


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the configuration file, with the field docstrings, for editors."""
    schema = TypeAdapter(RunConfig).json_schema()
    docstrings = _field_docstrings()
    for name, part in [("RunConfig", schema), *schema["$defs"].items()]:
        part["additionalProperties"] = False
        for field, definition in part["properties"].items():
            definition.pop("title", None)
            if (name, field) in docstrings:
                definition["description"] = docstrings[name, field]
            if definition.get("type") == "array":  # a single value is taken as a list of one
                items = definition.pop("items")
                del definition["type"]
                definition["anyOf"] = [{"type": "array", "items": items}, items]
    for alias, setting in ALIASES.items():
        section, _, written = alias.rpartition(".")
        properties = schema["$defs"][TYPES[section].__name__]["properties"]
        meant = properties[setting.rpartition(".")[2]]
        same = {key: value for key, value in meant.items() if key != "default"}
        properties[written] = {**same, "description": f"The same as {setting}."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _field_docstrings() -> dict[tuple[str, str], str]:
    """(class, field) to the string under the field, which Python itself does not keep."""
    classes = [RunConfig, *(TYPES[section] for section in SECTIONS)]
    sources = sorted({config_class.__module__ for config_class in classes})
    found = {}
    for class_node in itertools.chain.from_iterable(
        ast.parse(inspect.getsource(sys.modules[name])).body for name in sources
    ):
        if not isinstance(class_node, ast.ClassDef):
            continue
        for field_node, next_node in itertools.pairwise(class_node.body):
            match field_node, next_node:
                case (
                    ast.AnnAssign(target=ast.Name(id=field)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[class_node.name, field] = inspect.cleandoc(text).replace("\n", " ")
    return found
