"""Runs, evaluations and audiences without erased users, under new ids.

Rows of all others stay as they are, and files without erased users are linked.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.erased import ErasedUsers
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, RunFile, RunManifest, RunPart
from lightsans.storage.manifests import MANIFEST, Manifest, content_id, remove_result
from lightsans.storage.schemas import MODEL
from pipelines.evaluate.ranks import RankFile
from pipelines.evaluate.stage import EvaluationManifest
from pipelines.operations.listing import list_root
from pipelines.score.audience import AUDIENCE, AudienceManifest
from pipelines.score.job import COMMITS
from pipelines.session.lease import Owner
from pipelines.session.ray_session import ensure_ray
from pipelines.session.stage import find_or_make
from pipelines.session.tasks import remote, run_tasks

FORMAT_VERSION = 1
M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True, slots=True)
class LeftRows:
    """A table without erased users."""

    file: RunFile
    users: int
    """Users who were taken out."""
    popular: int
    """Users among them whose list was not the model's."""


def replaced_id(kind: str, old_id: str, erased: ErasedUsers) -> str:
    """Id of the result that takes the place of an old one."""
    question = {"replaces": old_id, "erased": erased.fingerprint}
    return content_id(f"{kind} without users", FORMAT_VERSION, question)


def take_out(directory: Location, target: Location, path: str, erased: ErasedUsers) -> LeftRows:
    """Write a table again without erased users, or link it where it has none.

    Args:
        directory: Directory of the result.
        target: Directory of the new one.
        path: Path of the table in both.
        erased: The erased users.
    """
    table = (directory / path).read_table()
    goes = erased.is_among(table["user_id"])
    users = popular = 0
    if goes.any():
        gone = table.filter(pa.array(goes))
        users = len(pc.unique(gone["user_id"]))
        popular = _popular_users(gone, path)
        kept = table.filter(pa.array(~goes))
        (target / path).write_table(kept)
        table = kept
    else:
        (directory / path).copy_to(target / path)
    size = (target / path).info().size
    return LeftRows(
        RunFile(path=path, rows=table.num_rows, bytes=size, sha256=_sha256(target / path)),
        users,
        popular,
    )


def replace_run(
    root: Location,
    old: RunManifest,
    erased: ErasedUsers,
    renamed: Mapping[str, str],
    dataset: DatasetManifest | None,
) -> str:
    """Make the run that takes the place of an old one; its id.

    Args:
        root: Where all results lie.
        old: Manifest of the old run.
        erased: The erased users.
        renamed: Ids of the replacements of datasets and runs.
        dataset: Manifest of its dataset's replacement; None where that has none.
    """
    new_id = replaced_id("recommendations", old.id, erased)

    def make(directory: Location, target: Location) -> RunManifest:
        paths = [file.path for part in old.parts for file in part.files]
        left = _take_out_all(directory, target, paths, erased)
        parts = tuple(
            run_part_without(part, [left[file.path] for file in part.files]) for part in old.parts
        )
        told = (
            old
            if dataset is None
            else replace(old, dataset_fingerprint=dataset.fingerprint, dataset_users=dataset.users)
        )
        judged = old.judged and replace(
            old.judged, dataset_id=renamed.get(old.judged.dataset_id, old.judged.dataset_id)
        )
        return replace(
            told,
            id=new_id,
            dataset_id=renamed.get(old.dataset_id, old.dataset_id),
            judged=judged,
            since=old.since and renamed.get(old.since, old.since),
            parts=parts,
            users=sum(part.users for part in parts),
            popular_users=sum(part.popular_users for part in parts),
            carried_users=sum(part.carried_users for part in parts),
        )

    _replace(root, "recommendations", "run", old.id, new_id, RunManifest, make, (COMMITS,))
    return new_id


def replace_evaluation(
    root: Location,
    name: str,
    old: EvaluationManifest,
    erased: ErasedUsers,
    renamed: Mapping[str, str],
) -> str:
    """Make the evaluation that takes the place of an old one; its id.

    Its figures stay: they were measured with users who are erased now, and name nobody.
    """
    old_id = name.removeprefix("evaluate-")
    new_id = replaced_id("evaluation", old_id, erased)

    def make(directory: Location, target: Location) -> EvaluationManifest:
        paths = [f"ranks/{file.name}" for file in old.ranks]
        left = _take_out_all(directory, target, paths, erased)
        ranks = tuple(
            RankFile(name=file.name, rows=left[f"ranks/{file.name}"].file.rows)
            for file in old.ranks
        )
        dataset = renamed.get(old.dataset, old.dataset)
        return replace(old, dataset=dataset, ranks=ranks)

    new_name = f"evaluate-{new_id}"
    _replace(root, "reports", "evaluation", name, new_name, EvaluationManifest, make)
    return new_id


def replace_audience(
    root: Location, old: AudienceManifest, erased: ErasedUsers, renamed: Mapping[str, str]
) -> str:
    """Make the audiences that take the place of old ones; their id."""
    new_id = replaced_id("audience", old.id, erased)

    def make(directory: Location, target: Location) -> AudienceManifest:
        left = _take_out_all(directory, target, [AUDIENCE], erased)[AUDIENCE]
        dataset_id = renamed.get(old.dataset_id, old.dataset_id)
        return replace(old, id=new_id, dataset_id=dataset_id, rows=left.file.rows)

    _replace(root, "audience", "audience", old.id, new_id, AudienceManifest, make)
    return new_id


def _replace(
    root: Location,
    room: str,
    kind: str,
    old_name: str,
    new_name: str,
    manifest_kind: type[M],
    make: Callable[[Location, Location], M],
    left_out: tuple[str, ...] = (),
) -> None:
    """Make a result from an old one, or find it made; files that have no rows are linked."""
    directory, target = root / room / old_name, root / room / new_name

    def make_all(owner: Owner, anew: bool) -> M:
        if anew:
            remove_result(target)
        ensure_ray()
        manifest = make(directory, target)
        owner.require()
        _link_rest(directory, target, left_out)
        return manifest

    find_or_make(
        manifest_kind,
        target,
        root,
        stage="erase",
        kind=kind,
        make=make_all,
        hint="",
        uses=(directory,),
    )


def _take_out_all(
    directory: Location, target: Location, paths: list[str], erased: ErasedUsers
) -> dict[str, LeftRows]:
    """`take_out` for all tables of a result, on Ray."""
    task = remote(take_out)

    def submit(path: str) -> Any:
        return task.remote(directory, target, path, erased)

    found: Iterable[LeftRows] = run_tasks(submit, paths, f"erase: {directory.name}")
    return {left.file.path: left for left in found}


def _link_rest(directory: Location, target: Location, left_out: tuple[str, ...]) -> None:
    """Link the files that were not written, but for the manifest and what is below ``left_out``."""
    for file in list_root(directory).files:
        name = file.path
        is_work = name.split("/")[0] in left_out or name.endswith(".tmp")
        if name != MANIFEST and not is_work and not (target / name).exists():
            (directory / name).copy_to(target / name)


def run_part_without(old: RunPart, files: list[LeftRows]) -> RunPart:
    """A part of a run as its manifest lists it, without the erased users."""
    gone = sum(left.users for left in files)
    users = old.users - gone
    return replace(
        old,
        users=users,
        popular_users=max(0, old.popular_users - sum(left.popular for left in files)),
        carried_users=min(old.carried_users, users),
        files=tuple(left.file for left in files),
    )


def _popular_users(gone: pa.Table, path: str) -> int:
    """Number of the users of some rows whose list is not the model's."""
    if "source" in gone.column_names:
        return len(pc.unique(gone.filter(pc.not_equal(gone["source"], MODEL))["user_id"]))
    column, _, value = path.rpartition("/")[0].partition("=")
    is_popular = column == "source" and value != MODEL
    return len(pc.unique(gone["user_id"])) if is_popular else 0


def _sha256(file: Location) -> str:
    with file.open() as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]
