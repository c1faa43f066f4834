"""The plan of the house: who may import whom, without circles, in rooms of a size to overlook.

Rooms are the folders of `lightsans` and `pipelines`; a file beside the folders is a room of its
own. docs/architecture.md says what each is for.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.commands import ROOT

LARGEST_ROOM, LONGEST_FILE = 15, 400

# From left to right: a room may import what stands in a group to the left of its own.
LIGHTSANS = [
    ["errors", "arrays", "compiling", "scratch"],
    ["conditions"],
    ["config", "columns"],
    ["storage"],
    ["text", "warehouse"],
    ["reading", "dataset"],
    ["preparation", "ranking", "inspection", "lists"],
    ["model", "rules", "probability"],
    ["losses", "recommendations", "recbole", "synthetic"],
    ["training", "reports"],
    ["stages"],
    ["in_process"],
]
PIPELINES = [
    ["early"],
    ["console", "embedded"],
    ["session"],
    ["publish"],
    ["preprocess", "train", "evaluate", "score", "export", "tune"],
    ["operations", "refit"],
    ["erasure"],
    ["nightly", "run_pipeline", "engine"],
    ["backtest"],
    ["fetch", "jobs"],
    ["commands"],
    ["program"],
]
# What the order alone would allow, or would not.
NEVER = {("preparation", "reading")}  # tables cross
ALSO = {("tune", "preprocess"), ("tune", "train"), ("tune", "evaluate"), ("tune", "score")}
SEES = {"search": {"errors", "config"}}
"""Rooms outside the order, and all that they may import."""


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """``lightsans.model.network`` is in model, ``pipelines.evaluate`` in evaluate."""
    return [*module.split("."), ""][1]


MODULES = {
    module_of(path): path for name in ("lightsans", "pipelines") for path in python_files(name)
}


def imports_of(path: Path, modules: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Line and module of every import of our own, those inside functions included."""
    known = set(modules)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: a relative import"
            base = node.module or ""
            within = [f"{base}.{alias.name}" for alias in node.names]
            named = [name if name in known else base for name in within]
        else:
            continue
        yield from ((node.lineno, name) for name in named if name in known)


def may_import(package: str) -> dict[str, set[str]]:
    """The rooms that each room of a package may import, itself aside."""
    groups = {"lightsans": LIGHTSANS, "pipelines": PIPELINES}[package]
    allowed, left = {}, set[str]()
    for group in groups:
        for room in group:
            allowed[room] = {other for other in left if (room, other) not in NEVER}
            allowed[room] |= {other for one, other in ALSO if one == room}
        left |= set(group)
    if package == "lightsans":
        allowed |= SEES
    return allowed


def wrong_imports(package: str, modules: Mapping[str, Path]) -> list[str]:
    """A sentence for every import that goes from left to right, or to a room never to be met."""
    allowed, found = may_import(package), []
    for module, path in modules.items():
        here = room_of(module)
        if not module.startswith(f"{package}."):
            continue  # the package itself: its public names
        if here not in allowed:
            found.append(f"{path.relative_to(ROOT)}: room {here} has no place in the order")
            continue
        for line, name in imports_of(path, modules):
            if name == package:
                found.append(f"{path.relative_to(ROOT)}, line {line}: imports {package} itself")
            elif name.startswith(f"{package}.") and room_of(name) not in {here, *allowed[here]}:
                found.append(
                    f"{path.relative_to(ROOT)}, line {line}: {here} may not import {name}; "
                    f"it may import {', '.join(sorted(allowed[here])) or 'nothing'}"
                )
            elif package == "lightsans" and name.startswith("pipelines"):
                found.append(f"{path.relative_to(ROOT)}, line {line}: imports {name}")
    return found


def find_circle(edges: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", ["lightsans", "pipelines"])
def test_rooms_import_from_the_left_only(package):
    assert wrong_imports(package, MODULES) == []


@pytest.mark.parametrize("package", ["lightsans", "pipelines"])
def test_every_room_is_on_the_plan_and_every_room_of_the_plan_is_there(package):
    rooms = {room_of(module) for module in MODULES if module.startswith(f"{package}.")}
    assert rooms == set(may_import(package))


def test_no_files_import_each_other_in_a_circle():
    edges = {
        module: {name for _, name in imports_of(path, MODULES)} - {module}
        for module, path in MODULES.items()
    }
    assert find_circle(edges) == []


def test_no_rooms_import_each_other_in_a_circle():
    edges: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        here = ".".join(module.split(".")[:2])
        named = {".".join(name.split(".")[:2]) for _, name in imports_of(path, MODULES)}
        edges.setdefault(here, set()).update(named - {here})
    edges.pop("lightsans")  # the public names of all rooms
    assert find_circle(edges) == []


def test_a_circle_and_a_wrong_import_are_found(tmp_path, monkeypatch):
    """The tests above can fail: a network that reads, and a reader that knows the network."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    files = {
        "lightsans/model/network.py": "from lightsans.reading import rows",
        "lightsans/reading/rows.py": "def read():\n    import lightsans.model.network",
        "lightsans/preparation/sorting.py": "from lightsans.reading.rows import read",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    modules = {module_of(tmp_path / name): tmp_path / name for name in files}
    first, second = wrong_imports("lightsans", modules)
    assert first.startswith(
        "lightsans/reading/rows.py, line 2: reading may not import lightsans.model.network; "
    )
    assert second.startswith(
        "lightsans/preparation/sorting.py, line 1: preparation may not import "
        "lightsans.reading.rows; "
    )
    edges = {m: {name for _, name in imports_of(path, modules)} for m, path in modules.items()}
    assert set(find_circle(edges)) == {"lightsans.model.network", "lightsans.reading.rows"}


def test_no_room_has_more_files_than_one_can_overlook():
    rooms: dict[Path, list[str]] = {}
    for path in MODULES.values():
        rooms.setdefault(path.parent.relative_to(ROOT), []).append(path.name)
    assert {str(room): names for room, names in rooms.items() if len(names) > LARGEST_ROOM} == {}


def test_no_file_is_longer_than_one_reads_at_once():
    """Code and tests; a longer file is two."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for package in ("lightsans", "pipelines", "benchmarks", "tests", "tools", "cluster")
        for path in python_files(package)
    }
    lengths["submit.py"] = len((ROOT / "submit.py").read_text(encoding="utf-8").splitlines())
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_rooms_of_the_pipelines_import_nothing_by_themselves():
    """Workers import by path: an ``__init__`` that imports would make all of them wait for it."""
    for path in (ROOT / "pipelines").rglob("__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


# Ray Train, Ray Tune and Ray Data's own workers import ray.data by themselves.
TASKS = [
    "pipelines.session.tasks",
    "pipelines.session.cpus",
    "pipelines.preprocess.base",
    "pipelines.preprocess.cutoffs",
    "pipelines.preprocess.derive",
    "pipelines.preprocess.exchange",
    "pipelines.preprocess.k_core",
    "pipelines.preprocess.parts",
    "pipelines.preprocess.read",
    "pipelines.preprocess.stage",
    "pipelines.train.board",
    "pipelines.train.task_group",
    "pipelines.evaluate.stage",
    "pipelines.evaluate.counts",
    "pipelines.evaluate.ranks",
    "pipelines.score.shared_model",
    "pipelines.score.report",
    "pipelines.score.stage",
]


DRIVER = ["pipelines.run_pipeline", "pipelines.commands.stages"]
"""Modules of the process that a command starts; tasks train, rank and score."""
LOOKS = ["pipelines.preprocess.identity", "pipelines.train.identity", "pipelines.score.one_user"]
"""Modules that `recommend` for one user imports."""


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        (TASKS, "ray.data matplotlib"),
        ([name for name in TASKS if "preprocess" in name], "torch pandas botocore.session"),
        (DRIVER, "torch pandas matplotlib ray.data"),
        (LOOKS, "ray pandas matplotlib"),
    ],
    ids=["tasks", "tasks of preprocessing", "driver", "looking at one user"],
)
def test_nobody_waits_for_imports_that_are_not_needed(modules, unwanted):
    """Ray Data, and torch too, take as long as all the rest of a task of the preprocessing."""
    script = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    for unwanted in sys.argv[1].split():
        assert unwanted not in sys.modules, f"{name} imports {unwanted}"
"""
    done = subprocess.run(
        [sys.executable, "-c", script, unwanted, *modules],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    for package in ("lightsans", "pipelines"):
        print(*wrong_imports(package, MODULES), sep="\n")
