"""Parts and rejects of a base that a new dataset takes over: linked, added to, or without users."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from lightsans.columns.erased import ErasedUsers
from lightsans.preparation.erasure import (
    forget_users,
    parts_of_users,
    places_of_users,
    without_users,
)
from lightsans.preparation.layers import insert_rows
from lightsans.preparation.part_files import load_interactions, save_interactions
from lightsans.storage.location import Location
from lightsans.storage.parts import layer_name
from pipelines.preprocess.base import Base
from pipelines.preprocess.parts import Draft, Part, largest, time_range
from pipelines.preprocess.records import PartNote
from pipelines.session.tasks import remote, run_tasks

_MAX_LAYERS = 8
_ROWS_PER_LAYER_ROW = 4


def take_over_parts(
    base: Base,
    draft: Draft,
    written: set[int],
    excluded_users: pa.Array | None,
    erased: ErasedUsers | None = None,
) -> list[PartNote]:
    """Link the parts of a base that have no new rows, or write them without excluded users."""
    left = [part for part in base.interactions.parts if part.number not in written]
    take = remote(take_over_part, size=largest(map(Part.of, left)))

    def submit(part: PartNote) -> Any:
        return take.remote(base, draft, part, None, excluded_users, erased)

    return list(run_tasks(submit, left, "preprocess: base"))


def take_over_part(
    base: Base,
    draft: Draft,
    part: PartNote,
    rows: pa.Table | None,
    excluded_users: pa.Array | None,
    erased: ErasedUsers | None = None,
) -> PartNote:
    """Give a dataset a part of its base, without excluded users and with new rows.

    Args:
        base: The base.
        draft: The dataset made from it.
        part: The part in the base.
        rows: New ones, sorted; None if there are none.
        excluded_users: Users whose rows do not stay.
        erased: Erased users, whose rows do not stay either.

    Returns:
        The part in the dataset.
    """
    is_same = not _has_any(base, part, excluded_users, erased)
    if is_same and (rows is None or _is_layer(part, rows)):
        return _take_over_files(base, draft, part, rows)
    before = Part.of(part).load(base.location)
    kept = without_users(before, excluded_users, erased)
    whole = kept if rows is None else insert_rows(kept, rows)
    num_erased = before.num_rows - kept.num_rows
    found = places_of_users(before, excluded_users) if num_erased else ()
    return draft.write_part(part.number, whole, num_erased, found)


def _has_any(
    base: Base, part: PartNote, users: pa.Array | None, erased: ErasedUsers | None
) -> bool:
    """Whether a part of the base has rows of one of some users."""
    num_parts = base.manifest.num_parts
    if users is not None and part.number not in parts_of_users(users, num_parts):
        users = None
    if erased is not None and part.number not in erased.parts(num_parts):
        erased = None
    if users is None and erased is None:
        return False
    for file in Part.of(part).files(base.location):
        table = load_interactions(file, ["user_id"])
        if without_users(table, users, erased).num_rows < table.num_rows:
            return True
    return False


def _is_layer(part: PartNote, rows: pa.Table) -> bool:
    """Whether rows are to be a layer: there are few, and few layers to put together in reading."""
    is_few = bool(rows.num_rows * _ROWS_PER_LAYER_ROW <= part.rows)
    return is_few and part.layers < _MAX_LAYERS


def _take_over_files(base: Base, draft: Draft, part: PartNote, rows: pa.Table | None) -> PartNote:
    directory = draft.dataset / "interactions"
    for file in Part.of(part).files(base.location):
        file.copy_to(directory / file.name)
    taken = replace(part, erased=0, is_linked=True, erased_users=())
    if rows is not None:
        save_interactions(directory / layer_name(part.number, part.layers), rows)
        taken = taken.with_layer(rows.num_rows, *time_range(rows))
    draft.note_part(taken)
    return taken


def take_over_rejects(
    base: Base,
    dataset: Location,
    excluded_users: Sequence[str],
    erased: ErasedUsers | None = None,
) -> set[str]:
    """Link the lists of refused rows of a base, or write them without users' values.

    Returns:
        The excluded users who had such values.
    """
    names = (base.location / "rejects").children()
    take = remote(take_over_rejects_file)

    def submit(name: str) -> Any:
        return take.remote(base.location, dataset, name, excluded_users, erased)

    return set().union(*run_tasks(submit, names, "preprocess: rejects of the base"))


def take_over_rejects_file(
    base: Location,
    dataset: Location,
    name: str,
    excluded_users: Sequence[str],
    erased: ErasedUsers | None = None,
) -> set[str]:
    """`take_over_rejects` for one file."""
    source = base / "rejects" / name
    # A base of a base has given its name already.
    target = dataset / "rejects" / (name if not name.startswith("unit-") else f"{base.name}-{name}")
    if excluded_users or erased is not None:
        table = source.read_table()
        left, found = forget_users(table, excluded_users, erased)
        if found:
            target.write_table(left)
            return found
    source.copy_to(target)
    return set()
