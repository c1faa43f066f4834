"""The published recommendation run, and the history of those before.

    recommendations/LATEST          the run id as plain text: all that readers need
    recommendations/history.json    every publication, each with the one that it came upon

LATEST is moved last and is the truth: an entry of the history that it never reached, because of a
crash in between, counts for nothing. Both are written only if they are what was read before, so
of two who publish at once one is refused.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from lightsans.columns.times import require_moment, to_datetime
from lightsans.errors import ConfigError, NotFoundError, PublishError
from lightsans.reading.times import parse_moment
from lightsans.storage.conditional_writes import Versioned, read_versioned, write_if_unchanged
from lightsans.storage.listing import list_files
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest, RunManifest
from lightsans.storage.manifests import (
    is_finished,
    read_manifest,
    require_manifest,
)
from lightsans.storage.records import from_json, parse_object, to_json

LATEST, HISTORY = "LATEST", "history.json"

Action = Literal["nightly", "publish", "rollback", "resume"]


@dataclass(frozen=True, slots=True)
class Publication:
    """One move of LATEST."""

    number: int
    """Number of the publication, from 1, rising."""
    run_id: str
    action: Action
    published_at: str
    as_of: str | None
    """Moment, in UTC, up to which the log was read; None when it was read to its end."""
    instead_of: str | None
    """The run that was published before."""
    previous: int | None
    """Number of the publication that rollbacks go back to from here."""

    def __post_init__(self) -> None:
        require_moment("published_at", self.published_at)
        if self.as_of is not None:
            require_moment("as_of", self.as_of)


@dataclass(frozen=True, slots=True)
class History:
    """Content of ``history.json``."""

    publications: tuple[Publication, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """State of publishing when it was read; hand it to `publish_run` or `roll_back`."""

    runs: Location
    latest: Versioned | None
    history: tuple[Publication, ...]
    history_version: str | None

    @property
    def run_id(self) -> str | None:
        """The published run."""
        return _to_run_id(self.latest.content) if self.latest else None

    @property
    def current(self) -> Publication | None:
        """Publication of the current run; None for a LATEST that was written by other means."""
        return self._newest(lambda entry: entry.run_id == self.run_id)

    @property
    def waiting(self) -> Publication | None:
        """The rollback after which nights wait, until `resume` or another publication."""
        current = self.current
        return current if current is not None and current.action == "rollback" else None

    def withdrawn(self, run_id: str) -> Publication | None:
        """The rollback that took a run out of use, if no later publication brought it back."""
        about = [entry for entry in self.reached if run_id in (entry.run_id, entry.instead_of)]
        newest = about[-1] if about else None
        if newest is None or newest.action != "rollback" or newest.instead_of != run_id:
            return None
        return newest

    @property
    def going_back(self) -> list[Publication]:
        """The publications that rollbacks bring back, one after the other: each of another run.

        A run that a rollback withdrew is not brought back by the next one. The chain of
        ``previous`` holds only what LATEST has reached.
        """
        runs, found = {self.run_id}, []
        entry = self.current
        while entry is not None:
            if entry.run_id not in runs and self.withdrawn(entry.run_id) is None:
                runs.add(entry.run_id)
                found.append(entry)
            entry = self._number(entry.previous)
        return found

    def before(self, moment: datetime) -> Publication | None:
        """The newest publication of a date before a moment, among those that LATEST has reached."""
        entry = self.current
        while entry is not None:
            if entry.as_of is not None and datetime.fromisoformat(entry.as_of) < moment:
                return entry
            entry = self._number(entry.previous)
        return None

    def date_of(self, run_id: str) -> str | None:
        """Moment up to which a run read the log, by its earlier publications."""
        entry = self._newest(lambda entry: entry.run_id == run_id and entry.as_of is not None)
        return None if entry is None else entry.as_of

    @property
    def reached(self) -> list[Publication]:
        """Publications that LATEST came to, oldest first: none that died before, or was undone.

        Each names the run that it came upon, which is what LATEST said after the one before it.
        """
        after = [*(entry.instead_of for entry in self.history[1:]), self.run_id]
        both = zip(self.history, after[: len(self.history)], strict=True)
        return [entry for entry, run_id in both if entry.run_id == run_id]

    def _number(self, number: int | None) -> Publication | None:
        return self._newest(lambda entry: entry.number == number)

    def _newest(self, wanted: Callable[[Publication], bool]) -> Publication | None:
        return next((entry for entry in reversed(self.history) if wanted(entry)), None)


def read_published(root: Location) -> Published:
    """Read the state of publishing under ``root``.

    Raises:
        ConfigError: The storage has no conditional writes.
        InputError: The history is damaged.
    """
    runs = root / "recommendations"
    file = runs / HISTORY
    latest, history = read_versioned(runs / LATEST), read_versioned(file)
    if history is None:
        return Published(runs, latest, (), None)
    entries = from_json(History, parse_object(history.content, f"{file}"), f"{file}").publications
    return Published(runs, latest, entries, history.version)


def latest_run_id(root: Location) -> str | None:
    """The published run; reads LATEST alone, from any storage."""
    try:
        return _to_run_id((root / "recommendations" / LATEST).read_bytes())
    except FileNotFoundError:
        return None


def publish_run(before: Published, run_id: str, action: Action = "publish") -> Publication:
    """Make a finished run the published one; nothing changes when it is already.

    Who publishes what a rollback has brought back lets nights publish again, as `resume` does.

    Args:
        before: The state of publishing; it must still hold when LATEST is moved.
        run_id: The run.
        action: Name of the action, for the history.

    Raises:
        NotFoundError: The run is not finished, or files of it are gone.
        PublishError: Somebody else published meanwhile.
    """
    manifest = require_complete(before.runs / run_id)
    current = before.current
    if current is not None and current.run_id == run_id:
        return resume(before) or current if action == "publish" else current
    as_of = read_as_of(before.runs.parent / "datasets" / manifest.dataset_id)
    if as_of is None:  # also where the dataset was removed since it was published first
        as_of = before.date_of(run_id)
    return _move(before, run_id, action, as_of, current.number if current else None)


def roll_back(before: Published) -> Publication:
    """Publish again the run before; a second rollback goes back one further.

    Raises:
        NotFoundError: There is no run before, or it is not there any more.
        PublishError: Somebody else published meanwhile.
    """
    target = next(iter(before.going_back), None)
    if target is None:
        raise NotFoundError(
            f"{before.runs / LATEST}: nothing was published before {before.run_id or 'anything'}; "
            "`submit.py publish RUN_ID` takes any run of `submit.py recommendations`"
        )
    require_complete(before.runs / target.run_id)
    return _move(before, target.run_id, "rollback", target.as_of, target.previous)


def resume(before: Published) -> Publication | None:
    """Let nights publish again after a rollback; None where they do already.

    The run that was rolled back stays withdrawn.

    Raises:
        PublishError: Somebody else published meanwhile.
    """
    waiting = before.waiting
    if waiting is None:
        return None
    return _move(before, waiting.run_id, "resume", waiting.as_of, waiting.previous)


def require_complete(run: Location) -> RunManifest:
    """The manifest of a run all of whose files are there, as large as they were written.

    Raises:
        NotFoundError: It has no manifest, or files are missing or cut off.
    """
    manifest = require_manifest(
        RunManifest, run, "`submit.py recommendations` lists the finished runs"
    )
    listed = [file for part in manifest.parts for file in part.files]
    there = {file.location.uri: file.size for file in list_files(run.uri, run.storage)}
    missing = sorted(file.path for file in listed if (run / file.path).uri not in there)
    wrong = sorted(f.path for f in listed if there.get((run / f.path).uri, f.bytes) != f.bytes)
    for paths, what in ((missing, "gone"), (wrong, "not as large as they were written")):
        if paths:
            raise NotFoundError(
                f"{run}: {len(paths)} of {len(listed)} files are {what}, such as {paths[0]}; write "
                "the run anew with `submit.py score --force`"
            )
    return manifest


def require_unpublished(root: Location, directory: Location) -> None:
    """Refuse to replace what the published run is, or was made from.

    Args:
        root: Where all results lie.
        directory: A run, a dataset or a model that ``--force`` would remove.

    Raises:
        ConfigError: The published run needs it.
    """
    run_id = latest_run_id(root)
    if run_id is None:
        return
    run = root / "recommendations" / run_id
    needed = {run}
    manifest = read_manifest(RunManifest, run)
    if manifest is not None:
        model = root / "models" / manifest.model_id
        needed |= {model, root / "datasets" / manifest.dataset_id}
        # Made anew with its dataset, a model would be made anew too.
        trained = read_manifest(ModelManifest, model)
        if trained is not None:
            needed.add(root / "datasets" / trained.dataset_id)
        if manifest.judged is not None:
            needed.add(root / "models" / manifest.judged.model_id)
            needed.add(root / "datasets" / manifest.judged.dataset_id)
    if directory not in needed:
        return
    if directory == run:
        what, cost = f"run {run_id} is published", "take it away from its readers"
    else:
        kind = directory.parent.name.removesuffix("s")
        what = f"the published run {run_id} was made from {kind} {directory.name}"
        cost = "remove what it is compared with and brought back by"
    raise ConfigError(
        f"{what} ({root}/recommendations/LATEST): --force would {cost}; publish another run "
        "first, or `submit.py rollback`"
    )


def judged_model_id(run: RunManifest) -> str:
    """The model that a run is judged by: the one with held-out items where it is of a refit."""
    return run.model_id if run.judged is None else run.judged.model_id


def moment_of_dataset(dataset: DatasetManifest) -> datetime | None:
    """The moment up to which a dataset has read the log; None where it was read to its end."""
    if dataset.data["as_of"] is None:
        return None
    micros = parse_moment(dataset.data["as_of"], dataset.data["timezone"])
    return None if micros is None else to_datetime(micros)


def read_as_of(dataset: Location) -> str | None:
    """Moment up to which a dataset reads the log; None also when the dataset was removed."""
    manifest = read_manifest(DatasetManifest, dataset)
    moment = None if manifest is None else moment_of_dataset(manifest)
    return None if moment is None else moment.isoformat()


def _move(
    before: Published, run_id: str, action: Action, as_of: str | None, previous: int | None
) -> Publication:
    number = before.history[-1].number + 1 if before.history else 1
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = Publication(number, run_id, action, now, as_of, before.run_id, previous)
    history = json.dumps(to_json(History((*before.history, made))), indent=2).encode() + b"\n"
    latest_version = before.latest.version if before.latest else None
    # The history first: a LATEST that it does not know could not be rolled back.
    if (
        write_if_unchanged(before.runs / HISTORY, history, before.history_version) is None
        or write_if_unchanged(before.runs / LATEST, run_id.encode(), latest_version) is None
    ):
        found = read_versioned(before.runs / LATEST)
        raise PublishError(
            f"{before.runs / LATEST}: somebody else is publishing; it was "
            f"{before.run_id or 'not there'} and is "
            f"{found.content.decode() if found else 'not there'} now. Run {run_id} was not "
            "published; the same command tries again"
        )
    _require_still_there(before, made)
    return made


def _require_still_there(before: Published, made: Publication) -> None:
    """Undo a publication whose run was removed since it was looked at.

    Who removes a run deletes its manifest first, and then looks whether LATEST names it; so either
    that one gives it back, or this one finds it gone.

    Raises:
        NotFoundError: It was removed.
    """
    run = before.runs / made.run_id
    if is_finished(run):
        return
    latest = read_versioned(before.runs / LATEST)
    if latest is not None and _to_run_id(latest.content) == made.run_id:
        if before.latest is None:
            (before.runs / LATEST).delete()
        else:
            write_if_unchanged(before.runs / LATEST, before.latest.content, latest.version)
    raise NotFoundError(
        f"{run}: it was removed while it was published; {before.run_id or 'nothing'} is published "
        "as before. Write the run anew with `submit.py score`"
    )


def _to_run_id(content: bytes) -> str:
    """The id in LATEST; what is no text is the id of no run, and can be replaced like one."""
    return content.decode(errors="replace").strip()
