"""Names of replaced results in what stays: LATEST, its history, reports and pages of nights."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from lightsans.errors import PublishError
from lightsans.reports.night_page import remove_users
from lightsans.storage.conditional_writes import read_versioned, write_if_unchanged
from lightsans.storage.location import Location
from lightsans.storage.records import to_json
from pipelines.operations.attempts import NIGHTS
from pipelines.publish import HISTORY, LATEST, History, read_published

_ID = re.compile(rb"\b[0-9a-f]{12}\b")


def publish_replacements(root: Location, renamed: Mapping[str, str]) -> bool:
    """Publish the replacement of the published run, and let rollbacks find those of earlier ones.

    Whether a rollback waits for `resume`, and which runs are withdrawn, stays as it was.

    Args:
        root: Where all results lie.
        renamed: Ids of replacements by those of the runs.

    Returns:
        Whether LATEST moved.

    Raises:
        PublishError: Somebody else publishes at the same time.
    """
    before = read_published(root)
    told = tuple(
        replace(
            entry,
            run_id=renamed.get(entry.run_id, entry.run_id),
            instead_of=entry.instead_of and renamed.get(entry.instead_of, entry.instead_of),
        )
        for entry in before.history
    )
    if told != before.history:
        content = json.dumps(to_json(History(told)), indent=2).encode() + b"\n"
        _write(before.runs / HISTORY, content, before.history_version)
    # The history first: a LATEST that it does not know could not be rolled back.
    run_id = before.run_id and renamed.get(before.run_id)
    if not run_id or before.latest is None:
        return False
    _write(before.runs / LATEST, run_id.encode(), before.latest.version)
    return True


def _write(file: Location, content: bytes, version: str | None) -> None:
    if write_if_unchanged(file, content, version) is None:
        found = read_versioned(file)
        raise PublishError(
            f"{file}: somebody else is publishing; it is "
            f"{found.content.decode(errors='replace')[:60] if found else 'not there'} now; the "
            "same command tries again"
        )


def rename_in_reports(root: Location, renamed: Mapping[str, str]) -> int:
    """Write the names of replacements into reports of nights; number of files changed."""
    return _rename_in(_files_of_nights(root), renamed)


def rename_in_backtests(root: Location, renamed: Mapping[str, str]) -> int:
    """Write the names of replacements into reports of whole backtests; number of files changed."""
    backtests = root / "backtests"
    directories = [backtests / name for name in backtests.children()]
    files = [each / name for each in directories for name in ("report.json", "nights.csv")]
    return _rename_in(filter(Location.exists, files), renamed)


def _rename_in(files: Iterable[Location], renamed: Mapping[str, str]) -> int:
    names = {old.encode(): new.encode() for old, new in renamed.items()}
    changed = 0
    for file in files:
        before = file.read_bytes()
        after = _ID.sub(lambda found: names.get(found[0], found[0]), before)
        if after != before:
            file.write_bytes(after)
            changed += 1
    return changed


def pages_with(root: Location, users: set[str]) -> list[Location]:
    """Pages of nights that show lists of some users."""
    return [page for page in _pages(root) if remove_users(page.read_bytes().decode(), users)[1]]


def take_out_of_pages(root: Location, users: set[str]) -> None:
    """Remove users and their lists from the pages of nights."""
    for page in _pages(root):
        html, removed = remove_users(page.read_bytes().decode(), users)
        if removed:
            page.write_bytes(html.encode())


def _pages(root: Location) -> list[Location]:
    reports = root / "reports"
    return [reports / name for name in reports.children() if name.endswith(".html")]


def _files_of_nights(root: Location) -> Iterator[Location]:
    reports, backtest = root / "reports", root / "backtest"
    for name in reports.children():
        if name.startswith("nightly-") or name == "index.html":
            yield reports / name
    nights = reports / NIGHTS
    for date in nights.children():
        yield from (nights / date / name for name in (nights / date).children())
    yield from (backtest / name for name in backtest.children())
