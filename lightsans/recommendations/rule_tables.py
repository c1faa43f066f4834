"""Rules of the configuration with the lists and columns that they name, as arrays over items."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Float32, Int32, Int64
from lightsans.columns.hashing import hash_ids, mix
from lightsans.columns.segments import expand
from lightsans.config import ItemGroup, RulesConfig, RunConfig, to_dict
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.lists.id_lists import IdList, as_integers, read_id_list, require_some
from lightsans.lists.item_table import ItemTable
from lightsans.rules.item_rules import NO_LIMIT, ItemRules, PinRule, QuotaRule

RecentCounts = Mapping[int, Int64]
"""(V,) interactions of each item in the newest days, by the number of days."""
_FALLBACK = ("segments", "quotas", "caps", "pins")
"""Kinds of rules that lists of popular items keep: the others are about the model's scores."""


_ONE_ROW = "score.rules need one row an item, with several values of a column joined by a separator"


class _Values(NamedTuple):
    """Values of a column, each with the row that it stands in."""

    rows: Int64
    values: pa.Array


@dataclass(frozen=True, slots=True)
class RuleTables:
    """Rules and what they refer to, as read."""

    config: RulesConfig
    item_ids: pa.Array
    """Raw ids of the item table's rows, as text."""
    columns: dict[str, pa.Array]
    """The table's columns that rules name, as text."""
    lists: dict[str, IdList]
    """Lists of items by their path."""
    users: tuple[IdList, ...]
    """The users of each rule of the segments."""

    @property
    def fingerprint(self) -> str:
        """Differs when a rule does, or what it refers to; the order of a list does not count."""
        sums = {path: _sum(listed.ids) for path, listed in self.lists.items()}
        content: dict[str, Any] = to_dict(self.config)
        for boost in content["boosts"]:
            if boost["recent_days"] is None:  # the rules of before there were any have their sum
                del boost["recent_days"]
        for rule, listed in zip(content["segments"], self.users, strict=True):
            rule["users"] = _sum(listed.ids)
        for group in _groups_of(content):
            group["items"] = sums.get(group["items"])
        ids = hash_ids(self.item_ids)
        for name, column in self.columns.items():
            values = hash_ids(column.fill_null("\0"))
            content[f"column {name}"] = [len(ids), int(mix(mix(ids) + values).sum())]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def item_rules(self, items: Vocabulary, recent: RecentCounts | None = None) -> ItemRules:
        """The rules about the items of a vocabulary.

        Args:
            items: The vocabulary.
            recent: (V,) interactions of each of its items in the newest days, by the number of
                days. None leaves boosts by them out.
        """
        import torch  # most configurations have no rules

        places = self._places(items)
        denied, groups = (np.zeros(items.num_items + 1, np.int64) for _ in range(2))
        for number, rule in enumerate(self.config.segments):
            if rule.deny is not None:
                is_denied = self._is_in(rule.deny, items, places)
            else:
                assert rule.allow is not None
                is_denied = ~self._is_in(rule.allow, items, places)
                is_denied[0] = False
            denied |= is_denied.astype(np.int64) << number
        quotas = sorted(self.config.quotas, key=lambda quota: quota.first)
        for number, quota in enumerate(quotas):
            groups |= self._is_in(quota.group, items, places).astype(np.int64) << number
        codes_VG, at_most, first = self._categories(items, places)
        boosts = self._boosts(items, places, recent)
        # Of two pins of one item, as "3" and " 3", the first.
        pinned = {number: pin.position for pin, number in reversed([*self._pins(items)]) if number}
        pins = [PinRule(number, position) for number, position in reversed(pinned.items())]
        return ItemRules(
            denied=torch.from_numpy(denied),
            groups=torch.from_numpy(groups),
            quotas=tuple(QuotaRule(quota.at_least, quota.first) for quota in quotas),
            codes=torch.from_numpy(codes_VG),
            at_most=torch.from_numpy(at_most),
            first=torch.from_numpy(first),
            boosts=None if boosts is None else torch.from_numpy(boosts),
            weight=self.config.diversity.weight,
            candidates=self.config.diversity.candidates,
            pins=tuple(pins),
        )

    def fallback_rules(self, items: Vocabulary) -> ItemRules:
        """The rules that hold for lists of popular items too."""
        return self.item_rules(items).only(_FALLBACK)

    def describe(self, items: Vocabulary) -> list[str]:
        """Sentences about names and ranges that nothing answers to: a slip of the pen, perhaps."""
        said, places = [], self._places(items)
        for pin, number in self._pins(items):
            if not number:
                said.append(f"score.rules.pins: item {pin.item!r} is unknown to the model")
        for boost in self.config.boosts:
            if boost.column is not None:
                found = self._values(boost.column, boost.separator).values
                said += _unknown("boosts", boost.column, boost.values, found)
        groups = [group for rule in self.config.segments for group in (rule.allow, rule.deny)]
        for group in [*groups, *(quota.group for quota in self.config.quotas)]:
            if group is not None and group.column is not None:
                found = self._values(group.column, group.separator).values
                said += _unknown("groups", group.column, group.values, found)
                if not group.values and not self._is_in(group, items, places).any():
                    said.append(
                        f"score.rules: no item of the model has {group.column} within "
                        f"min={group.min}, max={group.max}, which groups name"
                    )
        return said

    def check(self, items: Vocabulary, allow_unmatched: bool) -> list[str]:
        """Refuse lists none of whose items the model knows; warnings about such lists otherwise.

        Raises:
            InputError: There is one, and ``allow_unmatched`` is false.
        """
        warnings = []
        for path, listed in self.lists.items():
            found, where = listed.num_found(items.raw_item_ids), "among the items of the model"
            warning = require_some(listed, found, where, "score.allow_unmatched", allow_unmatched)
            missing = len(listed) - found
            if found and missing:
                warning = (
                    f"score.rules: {missing:,} of {len(listed):,} ids of {path} are unknown to the "
                    "model"
                )
            warnings += [warning] if warning else []
        return warnings

    def _places(self, items: Vocabulary) -> Int64:
        """Item id of each row of the table; 0 where the vocabulary lacks it.

        Raises:
            InputError: Two rows are about one item, as ``7`` and ``7.0`` are in a log of integers.
        """
        places = _numbers_of(self.item_ids, items)
        often = np.flatnonzero(np.bincount(places[places > 0]) > 1)
        if len(often):
            written = self.item_ids.filter(pa.array(places == often[0])).to_pylist()
            raise InputError(
                f"score.item_table: {' and '.join(map(repr, written))} are one item, "
                f"{items.raw_item_ids[int(often[0]) - 1].as_py()!r}; {_ONE_ROW}"
            )
        return places

    def _values(self, column: str, separator: str | None) -> _Values:
        """All values of a column, blank ones left out."""
        texts = self.columns[column]
        if separator is None:
            rows, values = np.arange(len(texts)), texts
        else:
            parts = pc.split_pattern(texts, separator)
            rows, values = pc.list_parent_indices(parts).to_numpy(), pc.list_flatten(parts)
        values = pc.utf8_trim_whitespace(values)
        is_value = pc.fill_null(pc.not_equal(values, ""), False)
        return _Values(rows[is_value.to_numpy(zero_copy_only=False)], values.filter(is_value))

    def _numbers(self, column: str, found: pa.Array) -> Any:
        try:
            numbers = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"score.item_table: column {column!r} is compared with numbers by score.rules: "
                f"{error}"
            ) from None
        if not np.isfinite(numbers).all():
            raise InputError(
                f"score.item_table: column {column!r} has a number that is not finite, which "
                "score.rules cannot use"
            )
        return numbers

    def _is_in(self, group: ItemGroup, items: Vocabulary, places: Int64) -> Bool:
        """(V,) whether an item is in a group."""
        is_in = np.zeros(items.num_items + 1, bool)
        if group.items is not None:
            raw = items.raw_item_ids.cast(pa.string())
            listed = self.lists[group.items].of_type(items.raw_item_ids.type).cast(pa.string())
            is_in[1:] = pc.is_in(raw, value_set=listed).to_numpy(zero_copy_only=False)
            return is_in
        assert group.column is not None
        rows, values = self._values(group.column, group.separator)
        if group.values:
            wanted = pa.array([value.strip() for value in group.values], pa.string())
            chosen = pc.is_in(values, value_set=wanted).to_numpy(zero_copy_only=False)
        else:
            is_text = isinstance(group.min if group.min is not None else group.max, str)
            known: Any = values.to_numpy(zero_copy_only=False)
            if not is_text:
                known = self._numbers(group.column, values)
            chosen = np.ones(len(values), bool)
            if group.min is not None:
                chosen &= known >= group.min
            if group.max is not None:
                chosen &= known <= group.max
        is_in[places[rows[chosen]]] = True
        is_in[0] = False
        return is_in

    def _categories(self, items: Vocabulary, places: Int64) -> tuple[Int32, Int32, Int32]:
        """Categories of each item, numbered over all caps, and their limits."""
        found: list[Int64] = []
        at_most: list[int] = []
        first: list[int] = []
        for cap in self.config.caps:
            rows, values = self._values(cap.column, cap.separator)
            encoded = values.dictionary_encode()
            codes = encoded.indices.to_numpy().astype(np.int64) + len(at_most)
            pairs = np.stack([places[rows], codes], axis=1)
            found.append(np.unique(pairs[pairs[:, 0] > 0], axis=0))
            at_most += [cap.at_most] * len(encoded.dictionary)
            first += [cap.first] * len(encoded.dictionary)
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *found])
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        counts = np.bincount(pairs[:, 0], minlength=items.num_items + 1)
        _, column = expand(counts)
        codes_VG = np.full((items.num_items + 1, counts.max(initial=0)), len(at_most), np.int32)
        codes_VG[pairs[:, 0], column] = pairs[:, 1]
        return codes_VG, np.array([*at_most, NO_LIMIT], np.int32), np.array([*first, 0], np.int32)

    def _boosts(
        self, items: Vocabulary, places: Int64, recent: RecentCounts | None
    ) -> Float32 | None:
        if not self.config.boosts:
            return None
        added = np.zeros(items.num_items + 1)
        for boost in self.config.boosts:
            if boost.column is None:
                assert boost.weight is not None
                assert boost.recent_days is not None
                if recent is not None:
                    added += boost.weight * np.log1p(recent[boost.recent_days])
                continue
            rows, values = self._values(boost.column, boost.separator)
            if boost.weight is not None:
                numbers = boost.weight * self._numbers(boost.column, values)
            else:
                wanted = pa.array([value.strip() for value in boost.values], pa.string())
                place = pc.fill_null(pc.index_in(values, value_set=wanted), -1).to_numpy()
                numbers = np.array([*boost.values.values(), 0.0])[place]
            np.add.at(added, places[rows], numbers)
        added[0] = 0.0
        boosts: Float32 = added.astype(np.float32)
        if not np.isfinite(boosts).all():
            raise InputError("score.rules.boosts add more to a score than a number can hold")
        return boosts

    def _pins(self, items: Vocabulary) -> Iterator[tuple[Any, int]]:
        """Each pin, and its item's id; 0 for an item that the vocabulary lacks."""
        pins = self.config.pins
        numbers = _numbers_of(pa.array([pin.item for pin in pins], pa.string()), items)
        yield from zip(pins, numbers.tolist(), strict=True)


def read_rules(config: RunConfig, table: ItemTable | None) -> RuleTables | None:
    """The rules of ``score.rules`` with all that they refer to; None without any.

    Args:
        config: The run.
        table: The item table that it names.

    Raises:
        InputError: A file is missing or unreadable, or an item has several rows in the table.
    """
    rules = config.score.rules
    if rules.is_empty:
        return None
    groups = [group for rule in rules.segments for group in (rule.allow, rule.deny)]
    groups += [quota.group for quota in rules.quotas]
    paths = sorted({group.items for group in groups if group is not None and group.items})

    ids, columns = pa.array([], pa.string()), dict[str, pa.Array]()
    if table is not None and rules.columns:
        ids, columns = _rows_of_items(config, table)
    return RuleTables(
        rules,
        ids,
        columns,
        {path: read_id_list("score.rules", path, config, "item") for path in paths},
        tuple(read_id_list("score.rules", rule.users, config, "user") for rule in rules.segments),
    )


def _rows_of_items(config: RunConfig, table: ItemTable) -> tuple[pa.Array, dict[str, pa.Array]]:
    """Ids of the item table's rows, and columns beside them."""
    is_there = pc.is_valid(table.item_ids)
    ids = table.item_ids.filter(is_there)
    if pc.count_distinct(ids).as_py() < len(ids):
        counted = pc.value_counts(ids)
        often = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
        raise InputError(
            f"score.item_table: {config.score.item_table}: item {often[0].as_py()!r} has more than "
            f"one row; {_ONE_ROW}"
        )
    return ids, {name: column.filter(is_there) for name, column in table.columns.items()}


def _groups_of(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The groups of items in rules that were made plain dicts."""
    for rule in content["segments"]:
        yield from (rule[side] for side in ("allow", "deny") if rule[side] is not None)
    yield from (quota["group"] for quota in content["quotas"])


def _numbers_of(ids: pa.Array, items: Vocabulary) -> Int64:
    """Numbers of raw ids that are text, without blanks around them if need be; 0 if unknown."""
    raw = items.raw_item_ids
    if pa.types.is_integer(raw.type):  # 7.0 is the same item as 7
        found = pc.index_in(as_integers(ids), value_set=raw.cast(pa.int64()), skip_nulls=True)
    else:
        raw = raw.cast(pa.string())
        exact = pc.index_in(ids, value_set=raw)
        stripped = pc.index_in(pc.utf8_trim_whitespace(ids), value_set=raw)
        found = pc.coalesce(exact, stripped)
    numbers: Int64 = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers + 1


def _sum(ids: pa.Array) -> str:
    return f"{len(ids)} {int(mix(hash_ids(ids)).sum())}"


def _unknown(kind: str, column: str, wanted: Any, found: pa.Array) -> list[str]:
    known = set(pc.unique(found).to_pylist())
    missing = [value for value in wanted if value.strip() not in known]
    return [
        f"score.rules: no item of score.item_table has {column}={value!r}, which {kind} name"
        for value in missing
    ]
