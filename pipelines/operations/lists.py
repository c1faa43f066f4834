"""Lists of a few users in two runs, side by side, for people to look at."""

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.hashing import bucket_range, user_buckets
from lightsans.config import RunConfig
from lightsans.recommendations.reader import RunRows, wide_schema
from lightsans.reports.night_page import UserLists
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import RunManifest
from lightsans.storage.manifests import read_manifest
from lightsans.storage.parts import part_index
from pipelines.score.one_user import load_titles

LONGEST_LIST = 10
_AT_ONCE = 1024
_BUCKETS = 64
"""Buckets that are looked at together."""


def compare_lists(
    root: Location, run_id: str, before_id: str | None, num_users: int, titles: dict[str, str]
) -> list[UserLists]:
    """Lists of the first users of a run, by the hash of their id, in it and in the run before.

    Args:
        root: Where all results lie.
        run_id: The run.
        before_id: The run before; None where there was none.
        num_users: How many users to show.
        titles: Titles by item id, as text.
    """
    runs = root / "recommendations"
    manifest = read_manifest(RunManifest, runs / run_id)
    if manifest is None or num_users == 0:
        return []
    rows = _first_rows(runs / run_id, manifest, num_users)
    before = _rows_of(runs, before_id, rows["user_id"])
    return [
        UserLists(
            user=str(row["user_id"]),
            source=str(row["source"]),
            before=_with_titles(before.get(row["user_id"], []), titles),
            after=_with_titles(row["item_ids"], titles),
        )
        for row in rows.to_pylist()
    ]


def titles_of(config: RunConfig, dataset_id: str) -> dict[str, str]:
    """Titles by item id from ``nightly.titles``, or else from ``score.item_table``.

    Raises:
        InputError: The table cannot be read, or has no column of titles.
    """
    nightly = config.nightly
    table = nightly.titles or config.score.item_table
    if table is None:
        return {}
    setting = "score.item_table" if nightly.titles is None else "nightly.titles"
    settings = (setting, "nightly.title_column")
    return load_titles(config, dataset_id, table, nightly.title_column, settings=settings)


def _first_rows(run: Location, manifest: RunManifest, num_users: int) -> pa.Table:
    found = [wide_schema(manifest).empty_table()]
    for part in manifest.parts:
        rows = RunRows(run, manifest, [part.name], _AT_ONCE)
        begin, end = bucket_range(part_index(part.name), manifest.num_parts)
        for first in range(begin, end, _BUCKETS):
            found.append(rows.between(first, min(first + _BUCKETS, end) - 1))
            if sum(table.num_rows for table in found) >= num_users:
                return pa.concat_tables(found).slice(0, num_users)
    return pa.concat_tables(found).slice(0, num_users)


def _rows_of(
    runs: Location, before_id: str | None, users: pa.ChunkedArray
) -> dict[str | int, list[str | int]]:
    """Lists of some users, who are in order of their bucket, in a run; empty where it is gone."""
    manifest = None if before_id is None else read_manifest(RunManifest, runs / before_id)
    if manifest is None or before_id is None or not len(users):
        return {}
    buckets = user_buckets(users)
    names = [part.name for part in manifest.parts]
    wanted = [name for name in names if _holds(name, manifest.num_parts, buckets.tolist())]
    rows = RunRows(runs / before_id, manifest, wanted, _AT_ONCE)
    between = rows.between(int(buckets.min()), int(buckets.max()))
    if between.schema.field("user_id").type != users.type:  # ids of another type: other users
        return {}
    chosen = between.filter(pc.is_in(between["user_id"], value_set=users.combine_chunks()))
    return {row["user_id"]: row["item_ids"] for row in chosen.to_pylist()}


def _holds(part: str, num_parts: int, buckets: list[int]) -> bool:
    begin, end = bucket_range(part_index(part), num_parts)
    return any(begin <= bucket < end for bucket in buckets)


def _with_titles(items: list[str | int], titles: dict[str, str]) -> list[tuple[str, str]]:
    return [(str(item), titles.get(str(item), "")) for item in items[:LONGEST_LIST]]
