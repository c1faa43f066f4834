"""Rules about the code base that nobody should have to remember."""

import ast
import json
import subprocess
import sys

import jsonschema
import pytest
import yaml

from lightsans.config.file import load_config
from lightsans.config.yaml_text import Loader
from tests.commands import ROOT

CORE = sorted((ROOT / "lightsans").rglob("*.py"))
CONFIGS = sorted((ROOT / "pipelines/configs").glob("*.yaml"))

# What runs on machines that have torch and numpy and nothing else: every file of these rooms, and
# these modules.
TORCH_ONLY_ROOMS = ["config", "losses", "model", "ranking", "rules"]
TORCH_ONLY_MODULES = ["lightsans.arrays", "lightsans.errors", "lightsans.recbole.weights"]
NEED_MORE = {
    "lightsans.config.file": "pydantic, for YAML files",
    "lightsans.config.json_schema": "pydantic, for YAML files",
    "lightsans.config.yaml_text": "PyYAML",
    "lightsans.ranking.kernels": "Numba; top-K does without",
    "lightsans.rules.kernels": "Numba; the walk does without",
}


def torch_only_modules() -> list[str]:
    modules = list(TORCH_ONLY_MODULES)
    for room in TORCH_ONLY_ROOMS:
        found = [
            f"lightsans.{room}.{path.stem}" for path in (ROOT / "lightsans" / room).glob("[!_]*.py")
        ]
        assert found, f"the room lightsans/{room} is missing or empty"
        modules += [f"lightsans.{room}", *sorted(found)]
    assert set(modules) >= set(NEED_MORE), "a module that needs more has moved away"
    return [module for module in modules if module not in NEED_MORE]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_knows_neither_ray_nor_the_layers_above(path):
    packages = {name.partition(".")[0] for name in imported_modules(path)}
    assert not packages & {"ray", "pipelines", "cluster", "submit"}


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_reads_no_environment_variables(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            assert name not in {"environ", "environb", "getenv"}, f"line {node.lineno}"


def test_the_model_and_its_arithmetic_import_with_torch_and_numpy_alone():
    """A fresh process refuses every other package that is installed here.

    torch itself uses what it depends on, and takes some others along when they are there; so it is
    imported first, and only what comes after counts.
    """
    script = """
import importlib, sys
import numpy, torch
before = {name.partition(".")[0] for name in sys.modules}
allowed = before | set(sys.stdlib_module_names) | {"torch", "numpy", "lightsans"}
refused = {"pyarrow", "pydantic", "yaml", "ray", "s3fs", "fsspec", "pandas", "safetensors"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in refused or (top not in allowed and path is None):
            raise ImportError(f"{name} is not there on a machine with torch and numpy alone")

sys.meta_path.insert(0, Refuse())
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"{name}: {error}")
used = {name.partition(".")[0] for name in sys.modules}
assert not used & refused, used & refused
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *torch_only_modules()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_example_configurations():
    names = {"quickstart", "debug", "ml-1m", "ml-1m-sasrec", "production-s3"}
    assert names <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_configuration_is_valid(path):
    loaded = load_config(str(path))
    assert loaded.config.data.input, "an example names its input"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_configuration_names_the_schema_for_editors(path):
    first_line = path.read_text(encoding="utf-8").splitlines()[0]
    assert first_line == "# yaml-language-server: $schema=schema.json"


def test_the_schema_accepts_every_example_configuration():
    schema = json.loads((ROOT / "pipelines/configs/schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    for path in CONFIGS:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
        errors = [error.message for error in validator.iter_errors(settings)]
        assert errors == [], path.name


def text_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("needs a git checkout")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if name.startswith("tests/golden/"):  # recorded elsewhere, kept byte for byte
            continue
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            yield name, data.decode("utf-8")


def test_text_files_have_no_trailing_whitespace_and_end_with_one_newline():
    for name, text in text_files():
        for number, line in enumerate(text.split("\n"), start=1):
            assert line == line.rstrip(), f"{name}, line {number}: trailing whitespace"
        assert text == "" or text.endswith("\n"), f"{name} does not end with a newline"
        assert not text.endswith("\n\n"), f"{name} ends with an empty line"
