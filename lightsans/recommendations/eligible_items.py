"""Items that may be recommended: allow and deny lists, and a boolean column of an item table."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Int64
from lightsans.columns.hashing import hash_ids, mix
from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.lists.id_lists import IdList, id_list_of, read_id_list, require_some
from lightsans.lists.item_table import SETTING, ItemTable

_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")


@dataclass(frozen=True, slots=True)
class EligibleItems:
    """Lists of raw item ids by the setting that names them."""

    allowed: dict[str, IdList]
    """An item must be on every one of these."""
    denied: dict[str, IdList]
    """An item must be on none of these."""

    @property
    def fingerprint(self) -> str:
        """Differs when any list does; the order of a list does not count."""
        lists = [(name, *entry) for name, entry in sorted(self._lists.items())]
        sums = [
            (name, is_allowed, len(listed.ids), int(mix(hash_ids(listed.ids)).sum()))
            for name, is_allowed, listed in lists
        ]
        return hashlib.sha256(repr(sums).encode()).hexdigest()[:16]

    @property
    def _lists(self) -> dict[str, tuple[bool, IdList]]:
        allowed = {name: (True, ids) for name, ids in self.allowed.items()}
        return allowed | {name: (False, ids) for name, ids in self.denied.items()}

    def item_ids(self, items: Vocabulary) -> Int64:
        """Ids of the vocabulary's items that may be recommended, ascending."""
        raw = items.raw_item_ids.cast(pa.string())
        is_eligible = np.ones(len(raw), bool)
        for is_allowed, listed in self._lists.values():
            ids = pc.unique(listed.of_type(items.raw_item_ids.type).cast(pa.string()))
            is_eligible &= pc.is_in(raw, ids).to_numpy(zero_copy_only=False) == is_allowed
        return is_eligible.nonzero()[0] + 1

    def describe(self, items: Vocabulary) -> str:
        """Text: number of items left, and of the ids of each list that the vocabulary lacks."""
        said = [f"{len(self.item_ids(items)):,} of {items.num_items:,} items are eligible"]
        for name, (_, listed) in self._lists.items():
            unknown = len(listed) - listed.num_found(items.raw_item_ids)
            if unknown:
                said.append(
                    f"{unknown:,} of {len(listed):,} ids of {name} are unknown to the model"
                )
        return "; ".join(said)

    def check(self, items: Vocabulary, allow_unmatched: bool) -> list[str]:
        """Refuse lists none of whose ids the model knows; warnings about such lists otherwise.

        Raises:
            InputError: There is one, and ``allow_unmatched`` is false.
        """
        found = (
            require_some(
                listed,
                listed.num_found(items.raw_item_ids),
                "among the items of the model",
                "score.allow_unmatched",
                allow_unmatched,
            )
            for _, listed in self._lists.values()
        )
        return [warning for warning in found if warning]


def read_eligible_items(config: RunConfig, table: ItemTable | None) -> EligibleItems | None:
    """The lists that ``score`` names; None when it names none.

    Args:
        config: The run.
        table: The item table that it names.

    Raises:
        InputError: A file is missing or unreadable, or a column is not boolean.
    """
    score = config.score
    allowed, denied = {}, {}
    if score.allow_items is not None:
        allowed["score.allow_items"] = _read_ids(config, "score.allow_items", score.allow_items)
    if table is not None and table.eligible is not None:
        allowed[SETTING] = _eligible_items(config, table, table.eligible)
    if score.deny_items is not None:
        denied["score.deny_items"] = _read_ids(config, "score.deny_items", score.deny_items)
    return EligibleItems(allowed, denied) if allowed or denied else None


def _read_ids(config: RunConfig, setting: str, uri: str) -> IdList:
    return read_id_list(setting, uri, config, "item")


def _eligible_items(config: RunConfig, table: ItemTable, words: pa.Array) -> IdList:
    """The items of a table whose column, in words, says yes."""
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(words))
    lower = pc.replace_substring_regex(lower, r"^([01])\.0+$", r"\1")  # pandas, beside gaps
    is_yes = pc.is_in(lower, pa.array(_YES))
    is_no = pc.is_in(lower, pa.array([*_NO, "", None]))
    odd = words.filter(pc.invert(pc.or_(is_yes, is_no)))
    if len(odd):
        score = config.score
        raise InputError(
            f"{score.item_table}: column {score.eligible_column!r} (score.eligible_column) holds "
            f"{odd[0].as_py()!r}; expected booleans, or one of {', '.join(_YES + _NO)}"
        )
    return id_list_of(SETTING, table.location, table.item_ids.filter(is_yes))
