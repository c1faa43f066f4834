"""Takes users out of everything below a root, and proves it.

    erased/users.parquet     keyed hashes of the erased: every later dataset leaves them out
    erased/erasures.json     what was replaced by what, and models that learnt from them

Finished directories do not change: those with rows of erased users are made again without them,
under new ids; then LATEST, its history and reports name the new ones; the old ones go last.
Killed at any moment, the same command goes on; once it is done it finds nothing to do.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pyarrow as pa

from lightsans.columns.erased import ErasedUsers
from lightsans.config import RunConfig
from lightsans.errors import ConfigError, LeaseError, LightSANsError
from lightsans.lists.erased_users import (
    Erasures,
    nobody_erased,
    read_erased,
    read_erasures,
    write_erased,
    write_erasures,
)
from lightsans.lists.id_lists import IdList, as_integers, read_id_list, require_some
from lightsans.lists.id_search import IdSearch
from lightsans.lists.tables import list_table
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest
from lightsans.storage.manifests import read_manifest, remove_result, require_manifest
from pipelines.console.progress import say
from pipelines.erasure.datasets import replace_dataset
from pipelines.erasure.models import models_that_learnt
from pipelines.erasure.plan import (
    RootPlan,
    Step,
    backtest_roots,
    logs_below,
    plan_root,
    search_root,
)
from pipelines.erasure.references import (
    pages_with,
    publish_replacements,
    rename_in_backtests,
    rename_in_reports,
    take_out_of_pages,
)
from pipelines.erasure.tables import replace_audience, replace_evaluation, replace_run
from pipelines.evaluate.stage import EvaluationManifest
from pipelines.operations.listing import list_root
from pipelines.score.audience import AudienceManifest
from pipelines.session.lease import hold
from pipelines.session.stage import LEASE_S, active_holders, wait_setting

SETTING = "--users"
GONE = b"[erased]"
"""Text in the place of an id in reports."""
_LEASES = ("nightly", "clean")
_NOT_HERE = "its manifest was there a moment ago; run the same command again"


@dataclass(frozen=True, slots=True)
class ErasedRoot:
    """Steps that were done, or would be, in one root."""

    root: str
    steps: tuple[Step, ...]
    replaced: Mapping[str, str]
    """Ids of the new results by those of the old; empty where nothing was left."""
    models: Mapping[str, str]
    """Models of the root that have learnt from erased users, or may have, with the reason."""


@dataclass(frozen=True, slots=True)
class EraseResult:
    """An erasure."""

    listed: int
    found: int
    """Listed users who were found somewhere, or had been erased before."""
    only_in_tables: int
    """Ids too short to be told from other words: looked for in columns of users alone."""
    roots: tuple[ErasedRoot, ...]
    """The root, and those of its backtests."""


def run_erase(
    config: RunConfig, users: str, *, dry_run: bool = False, allow_unmatched: bool = False
) -> EraseResult:
    """Take users out of everything below a root.

    Args:
        config: The root and the machine; ``data.columns.user`` where the list is a table.
        users: A list of ids.
        dry_run: Say what would be done; nothing is changed.
        allow_unmatched: Whether a list of which nobody is found is no error: their hashes are
            kept, so that no log brings them.

    Raises:
        InputError: The list is unreadable, or nobody of it was found.
        ConfigError: The list lies below the root.
        LeaseError: Another process is at work below the root.
        LightSANsError: Ids are still found at the end; the message names the files.
    """
    root = locate(config.root, config.storage)
    _require_outside(config, root, users)
    listed = read_id_list(SETTING, users, config, "user")
    search, spared = IdSearch(listed), logs_below(config, root)
    roots = [root, *(root / path for path in backtest_roots(list_root(root)))]
    if spared:
        say(f"erase: {len(spared)} files of data.input below {root} keep what they have")
    if dry_run:
        plans = [plan_root(each, search, spared) for each in roots]
        found = _require_found(listed, root, plans, allow_unmatched)
        made = [
            ErasedRoot(each.uri, _with_pages(each, plan, search), {}, {})
            for each, plan in zip(roots, plans, strict=True)
        ]
        return EraseResult(len(listed), found, search.num_short, tuple(made))
    with _alone(roots):
        plans = [plan_root(each, search, spared) for each in roots]
        found = _require_found(listed, root, plans, allow_unmatched)
        users_now = _remember(roots, listed)
        made = [
            _erase(config, each, plan, users_now, search)
            for each, plan in zip(roots, plans, strict=True)
        ]
        renamed = {old: new for each in roots for old, new in _names_now(each).items()}
        rename_in_backtests(root, renamed)
        _prove(root, search, spared)
    return EraseResult(len(listed), found, search.num_short, tuple(made))


def _require_outside(config: RunConfig, root: Location, users: str) -> None:
    """Refuse a list that would be found by the search of the root.

    Raises:
        ConfigError: It lies below the root.
    """
    for file in list_table(SETTING, users, config):
        if file.location.uri.startswith(root.uri.rstrip("/") + "/"):
            raise ConfigError(
                f"{SETTING}: {file.location} lies below root={root}, which is to hold no id of "
                "erased users; move the list elsewhere"
            )


def _require_found(
    listed: IdList, root: Location, plans: Sequence[RootPlan], allow_unmatched: bool
) -> int:
    """Number of the listed users who are in the root, or were erased from it before."""
    ids = frozenset[str]().union(*(plan.ids for plan in plans))
    erased = read_erased(root)
    is_known = [
        text in ids
        or text.strip() in ids
        or _as_number(text) in ids
        or (erased is not None and erased.knows(text))
        for text in listed.raw.to_pylist()
    ]
    found = sum(is_known)
    where = f"below {root}"
    warning = require_some(listed, found, where, "--allow-unmatched", allow_unmatched)
    if warning:
        say(f"erase: WARNING: {warning}")
    return found


def _as_number(text: str) -> str | None:
    [number] = as_integers(pa.array([text], pa.string())).to_pylist()
    return None if number is None else str(number)


@contextmanager
def _alone(roots: Sequence[Location]) -> Iterator[None]:
    """Be the only process at work below some roots for the time of the block.

    Raises:
        LeaseError: Another one is.
    """
    with ExitStack() as stack:
        for root in roots:
            (root / "locks").require_directory()
            for name in _LEASES:
                lock, wait_s = root / "locks" / f"{name}.json", wait_setting(0)
                stack.enter_context(hold(lock, "erase", LEASE_S, wait_s))
            others = {n: h for n, h in active_holders(root).items() if n not in _LEASES}
            if others:
                name, holder = next(iter(others.items()))
                raise LeaseError(
                    f"{root / 'locks' / name}.json: held by {holder}; erasing changes what it may "
                    "read: wait for that run, or stop it"
                )
        yield


def _remember(roots: Sequence[Location], listed: IdList) -> ErasedUsers:
    """Write hashes of the users, so that every dataset from now on leaves them out."""
    before = read_erased(roots[0]) or nobody_erased()
    users = before.with_ids([listed.ids, listed.of_type(pa.int64())])
    for root in roots:
        theirs = read_erased(root)
        if theirs is None or theirs.fingerprint != users.fingerprint:
            write_erased(root, users)
    return users


def _erase(
    config: RunConfig, root: Location, plan: RootPlan, users: ErasedUsers, search: IdSearch
) -> ErasedRoot:
    """Do everything about one root but the proof."""
    before = read_erasures(root)
    replaced = dict[str, str]()
    for path in plan.paths("replaced"):
        result = plan.results[path]
        left = {old: new for old, new in {**before.replaced, **replaced}.items() if new}
        made = _replace(config, root, result.kind, result.id, users, left)
        replaced[result.id.removeprefix("evaluate-")] = made
    models = models_that_learnt(root, {*before.replaced, *replaced}, before.models)
    told = Erasures(replaced={**before.replaced, **replaced}, models=models)
    if told != before:
        write_erasures(root, told)  # before anything that it tells of is gone
    names = _names_now(root)
    if publish_replacements(root, names):
        say(f"erase: published is a run without the erased users now ({root})")
    rename_in_reports(root, names)
    for path in [*plan.results][::-1]:  # who needs a dataset goes before it
        remove_result(root / path)
    steps = _with_pages(root, plan, search)
    take_out_of_pages(root, _texts(search))
    for path in plan.paths("rewritten"):
        file = root / path
        content = file.read_bytes()
        file.write_bytes(search.without(content, GONE))
    for path in plan.paths("removed"):
        (root / path).delete()
    return ErasedRoot(root.uri, steps, replaced, models)


def _names_now(root: Location) -> dict[str, str]:
    """Ids of all that was ever replaced in a root, with those of what stands there now."""
    told = read_erasures(root)
    return {old: told.current(old) for old in told.replaced}


def _replace(
    config: RunConfig,
    root: Location,
    kind: str,
    name: str,
    users: ErasedUsers,
    renamed: Mapping[str, str],
) -> str:
    """Make the replacement of a result; its id, empty where nothing was left of a dataset."""
    if kind == "dataset":
        old = require_manifest(DatasetManifest, root / "datasets" / name, _NOT_HERE)
        made = replace_dataset(config, root, old, renamed)
        return "" if made is None else made.id
    if kind == "run":
        run = require_manifest(RunManifest, root / "recommendations" / name, _NOT_HERE)
        now = renamed.get(run.dataset_id)
        dataset = read_manifest(DatasetManifest, root / "datasets" / now) if now else None
        return replace_run(root, run, users, renamed, dataset)
    if kind == "evaluation":
        evaluation = require_manifest(EvaluationManifest, root / "reports" / name, _NOT_HERE)
        return replace_evaluation(root, name, evaluation, users, renamed)
    audience = require_manifest(AudienceManifest, root / "audience" / name, _NOT_HERE)
    return replace_audience(root, audience, users, renamed)


def _with_pages(root: Location, plan: RootPlan, search: IdSearch) -> tuple[Step, ...]:
    """The steps, with the pages that show users by ids which are too short for the search."""
    known = {step.path for step in plan.steps}
    prefix = root.uri.rstrip("/") + "/"
    pages = [page.uri.removeprefix(prefix) for page in pages_with(root, _texts(search))]
    more = [Step("report", page, "rewritten", 0) for page in pages if page not in known]
    return (*plan.steps, *more)


def _texts(search: IdSearch) -> set[str]:
    """The ids as pages show them."""
    return {*search.texts.to_pylist(), *map(str, search.integers.to_pylist())}


def _prove(root: Location, search: IdSearch, spared: frozenset[str]) -> None:
    """Search everything below a root once more.

    Raises:
        LightSANsError: Ids are still there.
    """
    listing = list_root(root)
    found = search_root(root, search, listing, spared)
    left = [each.path for each in found if each.ids]
    if left:
        raise LightSANsError(
            f"erase: ids of erased users are still in {len(left)} files below {root}: "
            f"{', '.join(left[:10])}; nothing there knows them: take them out by hand, and run "
            "the same command again, which searches once more"
        )
    unread = [each.path for each in found if not each.is_readable]
    if unread:
        say(f"WARNING: erase: {len(unread)} files could not be read: {', '.join(unread[:10])}")
    say(f"erase: searched {len(listing.files):,} files below {root}: no erased user is left")
