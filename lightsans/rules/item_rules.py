"""Rules as arrays over the items of a vocabulary: what the walk and the search read.

Shapes: V = num_items + 1: items and padding   G most categories of an item   C categories
    Q quotas   P pins
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # who reads rules waits for no PyTorch before there are any
    import torch
    from torch import Tensor

NO_LIMIT = 2**31 - 1
STEPS = ("segments", "boosts", "quotas", "caps", "diversity", "pins")
"""Kinds of rules in the order in which they hold."""


class QuotaRule(NamedTuple):
    """At least so many of the items that have its bit in ``groups``."""

    at_least: int
    first: int


class PinRule(NamedTuple):
    """An item and its place: from 1, or from -1, the last."""

    item_id: int
    position: int


@dataclass(frozen=True, slots=True)
class ItemRules:
    """Rules about the items of a vocabulary, whose rows are item ids; row 0 is padding."""

    denied: "Tensor"
    """(V,) int64; bit s is set where rule s of the segments forbids the item."""
    groups: "Tensor"
    """(V,) int64; bit q is set where the item counts for quota q."""
    quotas: tuple[QuotaRule, ...]
    """Quotas in order of ``first``."""
    codes: "Tensor"
    """(V, G) int32; categories of each item, filled up with C, which has no limit."""
    at_most: "Tensor"
    """(C + 1,) int32; the greatest number of items of each category."""
    first: "Tensor"
    """(C + 1,) int32; among how many places of the list."""
    boosts: "Tensor | None" = None
    """(V,) float32; what is added to the scores."""
    weight: float = 0.0
    """Share of unlikeness in maximal marginal relevance."""
    candidates: int = 0
    """The best items that it chooses from, to begin with."""
    pins: tuple[PinRule, ...] = ()

    @property
    def num_items(self) -> int:
        """Items, padding not counted."""
        return len(self.denied) - 1

    def places(self, k: int) -> int:
        """Length of lists that hold the same items in the same order as those of length ``k``.

        Further places stay empty. Pins of both ends, and quotas, keep places of their own.
        """
        pins = [pin.position for pin in self.pins]
        from_top, from_end = max([0, *pins]), -min([0, *pins])
        quotas = max([0, *(quota.first for quota in self.quotas)])
        return min(k, self.num_items + from_top + from_end + quotas)

    def to(self, device: "torch.device") -> "ItemRules":
        """The same with its arrays on a device."""
        names = ("denied", "groups", "codes", "at_most", "first")
        moved = {name: getattr(self, name).to(device) for name in names}
        boosts = None if self.boosts is None else self.boosts.to(device)
        return replace(self, boosts=boosts, **moved)

    def only(self, steps: Sequence[str]) -> "ItemRules":
        """The same with rules of some kinds alone; see `STEPS`."""
        none = no_rules(self.num_items)
        return replace(
            self,
            denied=self.denied if "segments" in steps else none.denied,
            boosts=self.boosts if "boosts" in steps else None,
            groups=self.groups if "quotas" in steps else none.groups,
            quotas=self.quotas if "quotas" in steps else (),
            codes=self.codes if "caps" in steps else none.codes,
            at_most=self.at_most if "caps" in steps else none.at_most,
            first=self.first if "caps" in steps else none.first,
            weight=self.weight if "diversity" in steps else 0.0,
            pins=self.pins if "pins" in steps else (),
        )


def no_rules(num_items: int) -> ItemRules:
    """Rules that change no list."""
    import torch

    nothing = torch.zeros(num_items + 1, dtype=torch.int64)
    return ItemRules(
        denied=nothing,
        groups=nothing,
        quotas=(),
        codes=torch.zeros(num_items + 1, 0, dtype=torch.int32),
        at_most=torch.tensor([NO_LIMIT], dtype=torch.int32),
        first=torch.tensor([0], dtype=torch.int32),
    )
