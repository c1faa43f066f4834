"""One user's history and fresh recommendations, without Ray: for a look, a demo, a question."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.hashing import pieces_of, user_buckets
from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import InputError, NotFoundError
from lightsans.lists.id_lists import as_integers, id_list_of, require_some
from lightsans.lists.tables import open_table
from lightsans.reading.columns import Wanted
from lightsans.recommendations.item_choice import read_item_choice
from lightsans.recommendations.list_maker import ListMaker
from lightsans.recommendations.reader import wide_schema
from lightsans.recommendations.segment import ListRules
from lightsans.recommendations.tables import recommend_rows
from lightsans.rules.item_rules import STEPS
from lightsans.stages.calibration import calibrate
from lightsans.stages.computed_columns import ComputedColumns, recommend_with
from lightsans.stages.list_maker import load_list_maker
from lightsans.stages.seen_rows import SeenRows
from lightsans.stages.window import count_here
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest
from lightsans.storage.manifests import require_manifest
from lightsans.storage.parts import part_name, sequence_parts
from lightsans.storage.schemas import id_type
from pipelines.console.progress import say

RawId = str | int


@dataclass(frozen=True, slots=True)
class Move:
    """A change of one item's rank by one kind of rules, after the kinds before it."""

    rule: str
    item: RawId
    before: int | None
    """Rank, from 1; None where the item was not in the list."""
    after: int | None


@dataclass(frozen=True, slots=True)
class UserView:
    """A user's history and the model's recommendations; ids as received, newest or best first."""

    user_id: RawId
    history: list[RawId]
    recommendations: list[tuple[RawId, float]]
    source: str
    """``model``; ``popular`` or ``popular_recent`` when the model knows nothing of the user."""
    moves: list[Move]
    """Changes by rules, where they were asked for."""
    computed: list[dict[str, Any]]
    """Computed columns that settings ask for, by name, of each recommendation."""


def recommend_for_user(
    config: RunConfig,
    dataset_id: str,
    model_id: str,
    user: str,
    *,
    map_items: bool = False,
    explain: bool = False,
) -> UserView:
    """History and top-K of one user of a dataset.

    With ``explain`` the list is made step by step, with one kind of rules more each time, and told
    is what each step moved.

    Raises:
        NotFoundError: The dataset or model is not finished, or the user is not in the dataset.
        InputError: The dataset's user ids are integers and ``user`` is none.
    """
    root = locate(config.root, config.storage)
    dataset, model = root / "datasets" / dataset_id, root / "models" / model_id
    manifest = require_manifest(DatasetManifest, dataset, "run `submit.py preprocess` first")
    require_manifest(ModelManifest, model, "run `submit.py train` first")
    row = _find_user(dataset, manifest, user)
    recent = count_here(dataset, manifest, config.score.recent_days)
    choice = read_item_choice(config)
    list_maker = load_list_maker(config, dataset, model, map_items, choice, recent)
    times = list_maker.model.reads_times
    row = SeenRows.of(config.score.remove_seen, manifest, times).of_rows(row)
    temperature, score = None, config.score
    if score.probability:
        temperature = calibrate(config, model, choice).temperature
    asked = ComputedColumns.of(score, bool(manifest.data.get("events")), temperature)
    made = recommend_with(list_maker, row, wide_schema(manifest), asked)
    names = [field.name for field in asked.fields(wide_schema(manifest))]
    vocabulary = load_vocabulary(dataset)
    history = vocabulary.decode(row["item_ids"].combine_chunks().flatten().to_numpy())
    top = made.to_pylist()[0]
    return UserView(
        user_id=top["user_id"],
        history=history.to_pylist()[::-1],
        recommendations=list(zip(top["item_ids"], top["scores"], strict=True)),
        source=top["source"],
        moves=_explain(list_maker, row, wide_schema(manifest)) if explain else [],
        computed=[
            dict(zip(names, values, strict=True))
            for values in zip(*(top[name] for name in names), strict=True)
        ]
        if names
        else [{} for _ in top["item_ids"]],
    )


def _explain(list_maker: ListMaker, row: pa.Table, schema: pa.Schema) -> list[Move]:
    """Which kind of rules moved which items, in the order in which rules hold."""
    rules, moves = list_maker.rules, list[Move]()
    if rules is None:
        return moves

    def ranks(steps: Sequence[str]) -> dict[RawId, int]:
        some = ListRules(rules.model.only(steps), rules.popular.only(steps), rules.segments)
        made = recommend_rows(list_maker.with_rules(some), row, schema)
        return {item: rank for rank, item in enumerate(made["item_ids"][0].as_py(), 1)}

    before = ranks([])
    for number, step in enumerate(STEPS, 1):
        after = ranks(STEPS[:number])
        changed = [item for item in {**after, **before} if before.get(item) != after.get(item)]
        moves += [Move(step, item, before.get(item), after.get(item)) for item in changed]
        before = after
    return moves


def _find_user(dataset: Location, manifest: DatasetManifest, user: str) -> pa.Table:
    try:
        key = pa.array([user]).cast(id_type(manifest.user_id_type))
    except pa.ArrowInvalid:
        raise InputError(
            f"--user {user!r}: user ids of dataset {dataset.name} are integers"
        ) from None
    part = int(pieces_of(user_buckets(key), manifest.num_parts)[0])
    for location in sequence_parts(dataset, manifest):
        if location.name == part_name(part):
            try:
                found = location.read_table(filters=pc.field("user_id") == key[0])
            except FileNotFoundError:
                raise InputError(f"{location}: the file is gone; make the dataset again") from None
            if found.num_rows:
                return found
    raise NotFoundError(
        f"user {user!r} is not in dataset {dataset.name}; ids are compared as received"
    )


def load_titles(
    config: RunConfig,
    dataset_id: str,
    uri: str,
    title_column: str | None = None,
    *,
    settings: tuple[str, str] = ("--items", "--title-column"),
) -> dict[str, str]:
    """Titles by raw item id (as text) from an item table in any format that a log may have.

    Args:
        config: ``data.columns.item`` names the id column.
        dataset_id: The dataset whose items have the titles.
        uri: The table.
        title_column: Which column holds the title; by default the first whose name has "title" or
            "name" in it.
        settings: Names of what gave the table and the column, for errors.

    Raises:
        InputError: A column is missing, or no item has a title and ``score.allow_unmatched`` is
            false.
    """
    table = open_table(settings[0], uri, config)
    if title_column is None:
        likely = [name for name in table.names if re.search("title|name", name, re.IGNORECASE)]
        if not likely:
            raise InputError(
                f"{settings[0]} {uri}: no column looks like a title in {list(table.names)}; use "
                f"{settings[1]}"
            )
        title_column = likely[0]
    wanted = {
        "item": Wanted(config.data.columns.item, "data.columns.item"),
        "title": Wanted(title_column, settings[1]),
    }
    found = table.read(wanted)
    known = load_vocabulary(locate(config.root, config.storage) / "datasets" / dataset_id)
    known_ids = known.raw_item_ids
    listed, allow = (
        id_list_of(settings[0], table.location, found["item"]),
        config.score.allow_unmatched,
    )
    where = f"among the items of dataset {dataset_id}"
    num_found = listed.num_found(known_ids)
    warning = require_some(listed, num_found, where, "score.allow_unmatched", allow)
    if warning:
        say(f"recommend: WARNING: {warning}")
    ids = found["item"]
    if pa.types.is_integer(known_ids.type):
        ids = as_integers(ids).cast(pa.string())
    pairs = list(zip(ids.to_pylist(), found["title"].to_pylist(), strict=True))
    stripped = [(item.strip(), title) for item, title in pairs if item is not None]
    return {item: title for item, title in (*stripped, *pairs) if item is not None and title}
