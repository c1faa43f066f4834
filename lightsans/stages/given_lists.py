"""Lists that ``evaluate.recommendations`` names, cut into the parts of a dataset.

lists/part-*.parquet    user_id and item_ids of the users of a part who have a list
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int64
from lightsans.columns.arrow import lists_of, one_chunk
from lightsans.config import RunConfig
from lightsans.dataset.loading import list_column
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.errors import InputError
from lightsans.lists.id_lists import as_integers, read_otherwise
from lightsans.lists.recommendations import GivenLists, open_lists
from lightsans.ranking.given_lists import ItemLists
from lightsans.reports.evaluation_figures import MatchedLists
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.parts import sequence_parts
from lightsans.storage.schemas import id_type

SETTING = "evaluate.recommendations"
LISTS = "lists"


def lists_identity(config: RunConfig, made_with: Mapping[str, Any]) -> dict[str, object] | None:
    """Identity of the files that ``evaluate.recommendations`` names; None without them.

    Args:
        config: The run.
        made_with: Section ``data`` of the dataset's manifest.

    Raises:
        InputError: There is no such file, or it lacks a column.
    """
    if config.evaluate.recommendations is None:
        return None
    files = open_lists(SETTING, config.evaluate.recommendations, config).table.files
    identity: dict[str, object] = {"files": [file.identity for file in files]}
    for role in ("user", "item"):
        otherwise = read_otherwise(config.data, made_with, role)
        if otherwise:
            identity[f"read_{role}"] = otherwise
    return identity


def cut_lists(
    config: RunConfig, dataset: Location, manifest: DatasetManifest, work: Location
) -> MatchedLists:
    """Read the lists, write them by part of the dataset, and count what was found.

    Raises:
        InputError: A file is unreadable, or none of its users or items is in the dataset.
    """
    given = open_lists(SETTING, str(config.evaluate.recommendations), config).read()
    items = load_vocabulary(dataset)
    item_ids = lists_of(_encode(given.items, items).astype(np.int32), given.offsets)
    # An id stands for itself, and for the same without blanks around it.
    keys, lists = _keys(given.user_ids, id_type(manifest.user_id_type))
    is_found = np.zeros(len(given.user_ids), bool)
    for part in sequence_parts(dataset, manifest):
        users = part.read_table(["user_id"])["user_id"]
        at = pc.index_in(users, value_set=keys.cast(users.type))
        chosen = lists[at.drop_null().to_numpy()]
        is_found[chosen] = True
        (work / LISTS / part.name).write_table(
            pa.table(
                {
                    "user_id": users.filter(at.is_valid()).combine_chunks(),
                    "item_ids": item_ids.take(pa.array(chosen)),
                }
            )
        )
    distinct = pc.unique(given.items)
    found = _encode(distinct, items) > 0
    matched = MatchedLists(
        users=len(given.user_ids),
        users_found=int(is_found.sum()),
        items=len(distinct),
        items_found=int(found.sum()),
    )
    _require_some(given, matched, dataset)
    return matched


def load_lists(work: Location, part: str) -> tuple[pa.Array, ItemLists]:
    """Users of a part who have a list, and their lists."""
    table = (work / LISTS / part).read_table()
    lists = list_column(table, "item_ids")
    return one_chunk(table["user_id"]), ItemLists(lists.item_ids.astype(np.int64), lists.offsets)


def describe_matched(matched: MatchedLists, users: int) -> str:
    """Text about what was found of the lists.

    Args:
        matched: Users and items found.
        users: All test users.
    """
    return (
        f"{SETTING}: {matched.users_found:,} of {matched.users:,} listed users and "
        f"{matched.items_found:,} of {matched.items:,} listed items are in the dataset; "
        f"{matched.with_list:,} of {users:,} test users have a list, the others count as misses"
    )


def _require_some(given: GivenLists, matched: MatchedLists, dataset: Location) -> None:
    for noun, listed, found, some in (
        ("users", matched.users, matched.users_found, given.user_ids),
        ("items", matched.items, matched.items_found, given.items),
    ):
        if not found:
            example = f", such as {some[0].as_py()!r}," if len(some) else ""
            raise InputError(
                f"{SETTING}: {given.location}: none of its {listed:,} {noun}{example} is in "
                f"dataset {dataset.name}; ids are compared as they are in the log"
            )


def _encode(raw: pa.Array, items: Vocabulary) -> Int64:
    """Item ids of raw ones; 0 for unknown items."""
    kind = items.raw_item_ids.type
    if pa.types.is_integer(kind):
        return items.encode(as_integers(raw).cast(kind)).astype(np.int64)
    found = items.encode(raw.cast(kind)).astype(np.int64)
    stripped = items.encode(pc.utf8_trim_whitespace(raw).cast(kind)).astype(np.int64)
    return np.where(found > 0, found, stripped)


def _keys(user_ids: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Int64]:
    """Ids of users as the log has them, each once, and whose list each stands for."""
    if pa.types.is_integer(kind):
        keys = as_integers(user_ids).cast(kind)
        numbers = np.flatnonzero(keys.is_valid().to_numpy(zero_copy_only=False))
        keys = keys.drop_null()
    else:
        keys = pa.concat_arrays([user_ids, pc.utf8_trim_whitespace(user_ids)]).cast(kind)
        numbers = np.tile(np.arange(len(user_ids)), 2)
    unique = pc.unique(keys)
    first = pc.index_in(unique, value_set=keys).to_numpy(zero_copy_only=False)
    lists: Int64 = numbers[first].astype(np.int64)
    return unique, lists
