"""Merge the results of many tasks into one without the driver ever holding them."""

from collections.abc import Iterable
from typing import Any

FAN_IN = 8
"""Objects that one task merges."""

Ref = Any
"""``ray.ObjectRef``, whose type says nothing of several returns."""


class MergeTree:
    """One object out of many: ``merge.remote(*objects)`` on up to `FAN_IN` of them at a time.

    Objects may be added before they are made. References to merged ones are dropped, so that Ray
    frees them.

    Args:
        merge: A Ray task that takes one or more objects.
    """

    def __init__(self, merge: Any) -> None:
        self._merge = merge
        self._levels: list[list[Ref]] = []

    def add(self, ref: Ref) -> None:
        """Take one more object."""
        self._add(ref, 0)

    def root(self) -> Ref:
        """The merge of all objects; at least one was added."""
        left: list[Ref] = []
        for level in self._levels:
            level += left
            left = [self._merge.remote(*level)] if len(level) > 1 else level
        return left[0]

    def _add(self, ref: Ref, level: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(ref)
        if len(self._levels[level]) == FAN_IN:
            merged = self._merge.remote(*self._levels[level])
            self._levels[level] = []
            self._add(merged, level + 1)


def merge_all(merge: Any, refs: Iterable[Ref]) -> Ref:
    """The merge of all objects, of which there is at least one."""
    tree = MergeTree(merge)
    for ref in refs:
        tree.add(ref)
    return tree.root()
