"""Items that users are not to be recommended again: all that they have seen, or a rule's part."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lightsans.arrays import Bool, Int32, Int64
from lightsans.columns.segments import expand
from lightsans.config.score import SeenRule
from lightsans.dataset.bucket_cursor import read_batches
from lightsans.dataset.loading import TIMESTAMPS, flat_column, list_column
from lightsans.errors import ConfigError
from lightsans.preparation.event_lists import lists_of_users
from lightsans.ranking.recent import DAY
from lightsans.stages.window import window_end
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest

_PLAIN = ["user_id", "item_ids", "also_seen"]


@dataclass(frozen=True, slots=True)
class SeenRows:
    """Reads users of a dataset with the items that ``score.remove_seen`` takes from their lists."""

    has_events: bool
    since: int | None = None
    """Microseconds from which on an item counts as seen; None for any time."""
    codes: tuple[int, ...] | None = None
    """Codes of the events that count; None for all that are seen."""
    with_times: bool = False
    """Whether the times of the histories are wanted, too, for a model that reads them."""

    @classmethod
    def of(
        cls, rule: bool | SeenRule, manifest: DatasetManifest, with_times: bool = False
    ) -> "SeenRows":
        """Look a rule up in a dataset.

        Args:
            rule: ``score.remove_seen``.
            manifest: Manifest of the dataset.
            with_times: Whether the model reads times.

        Raises:
            ConfigError: It names an event that the dataset does not have as seen.
        """
        events = manifest.data.get("events") or {}
        if isinstance(rule, bool):
            return cls(bool(events), with_times=with_times)
        since = None if rule.days is None else window_end(manifest) - round(rule.days * DAY)
        names = sorted(events)
        seen = [name for name in names if events[name]["seen"]]
        for name in rule.events:
            if name not in seen:
                near = difflib.get_close_matches(name, seen, n=1)
                hint = f"did you mean {near[0]}?" if near else "give it seen: true in data.events"
                raise ConfigError(
                    f"score.remove_seen names the event {name!r}; seen in dataset "
                    f"{manifest.id} are {', '.join(seen) or 'no events'}; {hint}"
                )
        codes = tuple(names.index(name) + 1 for name in rule.events) or None
        return cls(bool(events), since, codes, with_times)

    @property
    def histories_are_seen(self) -> bool:
        """Whether all of a history is seen, beside ``also_seen``."""
        return not self.has_events and self.since is None

    def read(self, file: Location, num_rows: int) -> Iterator[pa.Table]:
        """Read a file of ``sequences/``, so many users at a time, as `of_rows` gives them."""
        for rows in read_batches(file, self.columns, num_rows):
            yield self.of_rows(rows)

    @property
    def columns(self) -> list[str]:
        """Columns that `of_rows` needs."""
        if self.since is None and self.codes is None:
            return self._given
        own = ["seen_times", "seen_events"] if self.has_events else [TIMESTAMPS]
        return [*dict.fromkeys([*self._given, *own])]

    @property
    def _given(self) -> list[str]:
        """Columns of what `of_rows` returns."""
        return [*_PLAIN, TIMESTAMPS] if self.with_times else _PLAIN

    def of_rows(self, rows: pa.Table) -> pa.Table:
        """``user_id``, ``item_ids`` and, as ``also_seen``, the items that the rule takes away.

        ``timestamps`` of the histories are given where they are wanted.
        In a dataset without events, items of rows that a filter removed have no times: they count
        as seen at any time.
        """
        if self.since is None and self.codes is None:
            return rows.select(self._given)
        seen = list_column(rows, "also_seen")
        users, _ = expand(seen.lengths)
        if not self.has_events:
            histories = list_column(rows, "item_ids")
            is_recent = flat_column(rows, TIMESTAMPS) >= (self.since or 0)
            kept = np.concatenate([np.ones(len(seen.item_ids), bool), is_recent])
            items = np.concatenate([seen.item_ids, histories.item_ids])
            users = np.concatenate([users, expand(histories.lengths)[0]])
            return self._with_seen(rows, items, users, kept)
        kept = np.ones(len(seen.item_ids), bool)
        if self.since is not None:
            kept &= flat_column(rows, "seen_times") >= self.since
        if self.codes is not None:
            kept &= np.isin(flat_column(rows, "seen_events"), self.codes)
        return self._with_seen(rows, seen.item_ids, users, kept)

    def _with_seen(self, rows: pa.Table, items: Int32, users: Int64, kept: Bool) -> pa.Table:
        items, users = items[kept], users[kept]
        order = np.argsort(users, kind="stable")
        ends = np.cumsum(np.bincount(users, minlength=rows.num_rows))
        lists = lists_of_users(items[order], ends)
        others = [name for name in self._given if name != "also_seen"]
        return rows.select(others).append_column("also_seen", lists)
