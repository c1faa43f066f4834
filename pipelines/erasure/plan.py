"""Plan of an erasure: places of erased users below a root, and what is done about each."""

import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa

from lightsans.config import RunConfig
from lightsans.errors import InputError
from lightsans.lists.id_search import IdSearch
from lightsans.storage.listing import list_files
from lightsans.storage.location import Location
from lightsans.warehouse.tables import table_directory
from pipelines.operations.listing import RootListing, is_aside, list_root
from pipelines.operations.results import Result, read_results

REPLACED = ("dataset", "run", "evaluation", "audience")
"""Kinds of results that are made again without the users."""
_READERS = 8
_DAMAGES = (pa.ArrowException, OSError, EOFError, zipfile.BadZipFile, InputError, ValueError)

Action = Literal["replaced", "removed", "rewritten", "left"]


@dataclass(frozen=True, slots=True)
class Found:
    """A file below the root that holds ids, or cannot be read."""

    path: str
    """Path below the root."""
    ids: frozenset[str]
    is_readable: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """Fate of one result or file."""

    kind: str
    path: str
    """Path below the root."""
    action: Action
    """left: nothing can be done; the file is named as what must be removed by hand."""
    users: int
    """Users of the list who are in it; 0 where only its dataset has them."""


@dataclass(frozen=True, slots=True)
class RootPlan:
    """Everything that is done about one root."""

    results: Mapping[str, Result]
    """Results that are replaced or removed, by path, in order: datasets first."""
    steps: tuple[Step, ...]
    ids: frozenset[str]
    """Ids that were found."""

    def paths(self, action: Action, kind: str | None = None) -> list[str]:
        """Paths of the steps of an action."""
        return [s.path for s in self.steps if s.action == action and kind in (None, s.kind)]


def search_root(
    root: Location, search: IdSearch, listing: RootListing, spared: frozenset[str]
) -> list[Found]:
    """The files below a root that hold ids of the list, or cannot be read.

    Args:
        root: Where all results lie.
        search: The ids.
        listing: The files.
        spared: Addresses of files that are not looked into: the logs.
    """

    def look(path: str) -> Found | None:
        try:
            with (root / path).open() as file:
                ids = search.in_file(file)
        except FileNotFoundError:  # it was written aside, and has its name now
            return None
        except _DAMAGES:
            return Found(path, frozenset(), is_readable=False)
        ids |= search.in_text(path.encode())
        return Found(path, frozenset(ids)) if ids else None

    paths = [f.path for f in listing.files if (root / f.path).uri not in spared]
    with ThreadPoolExecutor(_READERS) as pool:
        return [found for found in pool.map(look, paths) if found is not None]


def logs_below(config: RunConfig, root: Location) -> frozenset[str]:
    """Addresses of the files of ``data.input``, which keep what they have."""
    found: set[str] = set()
    for path in config.data.input:
        try:
            table = table_directory(path, config.storage)
            if table is None:
                found |= {file.location.uri for file in list_files(path, config.storage)}
            else:  # its log, and its earlier versions, are its own too
                found |= {(table / file.path).uri for file in list_root(table).files}
        except InputError:  # no log any more: nothing to be spared
            continue
    return frozenset(uri for uri in found if uri.startswith(root.uri.rstrip("/") + "/"))


def backtest_roots(listing: RootListing) -> list[str]:
    """Paths of the roots of a backtest's policies, which are roots of their own."""
    below = [file.path for file in listing.files if _is_of_backtest(file.path)]
    return sorted({"/".join(path.split("/")[:3]) for path in below})


def plan_root(root: Location, search: IdSearch, spared: frozenset[str]) -> RootPlan:
    """Decide what is done about one root, those of backtests below it aside."""
    listing = list_root(root)
    own = RootListing([f for f in listing.files if not _is_of_backtest(f.path)])
    found = search_root(root, search, own, spared)
    results = {result.path: result for result in read_results(root, own)}
    by_result: dict[str, set[str]] = {}
    steps: list[Step] = []
    for each in found:
        path = "/".join(each.path.split("/")[:2])
        result = results.get(path)
        if result is None or (result.kind not in REPLACED and result.is_finished):
            steps += _step_of_file(each)
        elif each.ids or (result.kind in REPLACED and not result.is_finished):
            by_result.setdefault(path, set()).update(each.ids)
    replaced = {path for path in by_result if results[path].kind == "dataset"}
    for result in results.values():  # their manifests name datasets that go
        if result.kind in REPLACED and result.is_finished and result.needs & replaced:
            by_result.setdefault(result.path, set())
    chosen = _in_order({path: results[path] for path in results if path in by_result})
    for result in chosen:
        action: Action = "replaced" if result.is_finished and result.kind in REPLACED else "removed"
        steps.append(Step(result.kind, result.path, action, len(by_result[result.path])))
    ids = frozenset[str]().union(*(each.ids for each in found))
    return RootPlan({result.path: result for result in chosen}, tuple(steps), ids)


def _in_order(results: Mapping[str, Result]) -> list[Result]:
    """Datasets first, and each result after its base, whose new id it is to name.

    Times of manifests do not tell: two within a second have the same, and clocks go back.
    """

    def order(result: Result) -> tuple[int, int, datetime]:
        kind = REPLACED.index(result.kind) if result.kind in REPLACED else len(REPLACED)
        made_at = result.created_at or datetime.max.replace(tzinfo=UTC)
        return kind, len(bases(result)), made_at

    def bases(result: Result) -> set[str]:
        found = set[str]()
        base = result.base
        while base is not None and base in results and base not in found:
            found.add(base)
            base = results[base].base
        return found

    return sorted(results.values(), key=order)


def _step_of_file(found: Found) -> Iterable[Step]:
    """The step about a file that is in no result with users."""
    room, *rest = found.path.split("/")
    if not found.ids:
        return [Step("unfinished file", found.path, "removed", 0)] if is_aside(found.path) else []
    count = len(found.ids)
    if room == "models" and rest[1:2] == ["checkpoints"]:
        return [Step("checkpoints", "/".join([room, *rest[:2]]), "removed", count)]
    if room in ("reports", "backtest", "backtests"):
        return [Step("report", found.path, "rewritten", count)]
    if is_aside(found.path):
        return [Step("unfinished file", found.path, "removed", count)]
    if room == "tune":
        return [Step("search", found.path, "removed", count)]
    return [Step("file", found.path, "left", count)]


def _is_of_backtest(path: str) -> bool:
    """Whether a file lies in the root of a backtest's policy."""
    parts = path.split("/")
    return parts[0] == "backtests" and len(parts) > 4
