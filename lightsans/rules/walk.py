"""The walk: fills a list place by place from candidates, so that quotas, caps and pins hold.

    1. Pins take their places. They count in caps and quotas; nothing moves them.
    2. Each quota, those about fewer places first, reserves the best items of its group, as many as
       it lacks. A reserved item counts in the caps from the first place on, and must keep them.
    3. Each free place, from the top, takes the best candidate that is reserved, or that keeps all
       caps about this place. Where as many reserved items are due as there are free places left for
       them, one of those is taken. Without a candidate the list ends, save for pins.

The best candidate is the first one in order of score and id or, with diversity, the one with the
greatest marginal relevance; of equal ones the first.

Shapes: B users   T candidates of a user, best first   K places   Q quotas   P pins   D hidden size
    V = num_items + 1   G categories of an item   C categories
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightsans.ranking.seen_items import NOTHING
from lightsans.rules.item_rules import ItemRules

COSINE_STEPS = 2.0**20
"""Cosines are rounded to a multiple of one over this, so that no order of a sum changes a list."""

GONE, RESERVABLE, FREE = 0, 1, 2
"""States of a candidate: not to be taken, to be taken by a quota alone, to be taken."""


class Candidates(NamedTuple):
    """Items that lists are made of, in order of falling score, then of id."""

    ids: Tensor
    """(B, T) int64; 0 fills rows up."""
    scores: Tensor
    """(B, T) float32."""
    state: Tensor
    """(B, T) uint8: `GONE`, `RESERVABLE` or `FREE`. The free ones come first."""
    reservable_by: Tensor
    """(B, T) int64; bit q is set where quota q may reserve it: no better one of its group is
    missing."""
    has_more: Tensor
    """(B,) bool: further candidates may be had."""
    has_more_of: Tensor
    """(B, Q) bool: further ones of a quota's group may be had."""
    pinned: Tensor
    """(B, P) bool: the pin may be recommended to the user."""
    pin_scores: Tensor
    """(B, P) float32."""


class Walked(NamedTuple):
    """Lists, and which of them are not final."""

    item_ids: Tensor
    """(B, K) int64; 0 where a list has ended."""
    scores: Tensor
    """(B, K) float32; minus infinity there."""
    is_short: Tensor
    """(B,) bool: further candidates may change the list."""
    lacks_group: Tensor
    """(B,) bool: so may further ones of a quota's group; that comes first."""


def walk(
    rules: ItemRules, found: Candidates, k: int, unit_VD: Tensor | None, compiled: bool
) -> Walked:
    """Make lists of candidates.

    Args:
        rules: The rules.
        found: The candidates.
        k: Length of the lists.
        unit_VD: Item vectors of length one, float32; for diversity.
        compiled: Use Numba. The lists are the same.
    """
    if compiled:
        return _walk_compiled(rules, found, k, unit_VD)
    return _Walk(rules, found, k, unit_VD).run()


def _walk_compiled(rules: ItemRules, found: Candidates, k: int, unit_VD: Tensor | None) -> Walked:
    from lightsans.rules import kernels  # Numba, which takes half a second to import

    B = len(found.ids)
    ids_BK = torch.zeros(B, k, dtype=torch.int64)
    scores_BK = torch.full((B, k), NOTHING)
    is_short_B, lacks_group_B = torch.zeros(2, B, dtype=torch.bool)
    none = torch.zeros(0, 0)
    quotas = torch.tensor(rules.quotas, dtype=torch.int64).reshape(-1, 2)
    pins = torch.tensor(
        [(pin.item_id, _place(pin.position, k)) for pin in rules.pins], dtype=torch.int64
    ).reshape(-1, 2)
    arrays = [tensor.contiguous().numpy() for tensor in found]
    compiled: Any = kernels.walk  # Numba's type knows no list of arguments
    compiled(
        *arrays,
        rules.groups.numpy(), quotas.numpy(), rules.codes.numpy(), rules.at_most.numpy(),
        rules.first.numpy(), pins.numpy(), float(rules.weight),
        (none if unit_VD is None else unit_VD).numpy(),
        ids_BK.numpy(), scores_BK.numpy(), is_short_B.numpy(), lacks_group_B.numpy(),
    )  # fmt: skip
    return Walked(ids_BK, scores_BK, is_short_B, lacks_group_B)


def _place(position: int, k: int) -> int:
    return position if position > 0 else k + 1 + position


class _Walk:
    """The walk of all users at once, with torch alone: on a GPU, and where there is no Numba."""

    def __init__(self, rules: ItemRules, found: Candidates, k: int, unit_VD: Tensor | None) -> None:
        self._rules, self._found, self._k = rules, found, k
        B, T = found.ids.shape
        device = found.ids.device
        self._codes_BTG = rules.codes[found.ids].long()
        self._used_BC = torch.zeros(B, len(rules.at_most), dtype=torch.int32, device=device)
        self._due_BT = torch.zeros(B, T, dtype=torch.int64, device=device)
        """The place by which a reserved candidate must stand; 0 for others."""
        self._is_left_BT = found.state != GONE
        self._groups_BT = rules.groups[found.ids] & found.reservable_by
        self._is_short_B = torch.zeros(B, dtype=torch.bool, device=device)
        self._lacks_group_B = torch.zeros_like(self._is_short_B)
        self._ids_BK = torch.zeros(B, k, dtype=torch.int64, device=device)
        self._scores_BK = torch.full((B, k), NOTHING, device=device)
        self._unit_VD = unit_VD if rules.weight > 0 else None
        if self._unit_VD is not None:
            self._vectors_BTD = self._unit_VD[found.ids].double()
            self._nearest_BT = torch.zeros(B, T, dtype=torch.float64, device=device)
            self._is_first_B = torch.ones(B, dtype=torch.bool, device=device)
            is_free_BT = found.state == FREE
            least_B = found.scores.masked_fill(~is_free_BT, torch.inf).amin(1).double()
            most_B = found.scores.masked_fill(~is_free_BT, -torch.inf).amax(1).double()
            width_B = most_B - least_B
            scale_B = torch.where((width_B > 0) & width_B.isfinite(), width_B, torch.inf)
            least_B = torch.where(least_B.isfinite(), least_B, 0.0)
            self._relevance_BT = (found.scores.double() - least_B[:, None]) / scale_B[:, None]

    def run(self) -> Walked:
        """Pin, reserve, fill."""
        pins = self._pin()
        free_BK = torch.ones_like(self._ids_BK, dtype=torch.bool)
        for place, (_, is_pinned_B, _) in pins.items():
            free_BK[:, place - 1] = ~is_pinned_B
        self._free_BK = free_BK.cumsum(1)
        for number, quota in enumerate(self._rules.quotas):
            self._reserve(number, quota.at_least, min(quota.first, self._k))
        has_ended_B = torch.zeros_like(self._is_short_B)
        for place in range(1, self._k + 1):
            is_open_B = ~has_ended_B
            if place in pins:
                item_id, is_pinned_B, scores_B = pins[place]
                rows = is_pinned_B.nonzero().squeeze(1)
                self._put(rows, place, torch.full_like(rows, item_id), scores_B[rows])
                is_open_B = is_open_B & ~is_pinned_B
            is_taken_B = self._fill(place, is_open_B)
            has_ended_B |= is_open_B & ~is_taken_B
        # Pins below the end of a list move up.
        order_BK = (self._ids_BK == 0).to(torch.uint8).sort(dim=1, stable=True).indices
        return Walked(
            self._ids_BK.gather(1, order_BK), self._scores_BK.gather(1, order_BK),
            self._is_short_B, self._lacks_group_B,
        )  # fmt: skip

    def _pin(self) -> dict[int, tuple[int, Tensor, Tensor]]:
        """Pins by their place: the item, who gets it, and its scores; they count in the caps."""
        pins = {}
        for number, pin in enumerate(self._rules.pins):
            place = _place(pin.position, self._k)
            is_pinned_B = self._found.pinned[:, number]
            if not 1 <= place <= self._k:
                continue
            pins[place] = (pin.item_id, is_pinned_B, self._found.pin_scores[:, number])
            for code in self._rules.codes[pin.item_id].tolist():
                if place <= int(self._rules.first[code]):
                    self._used_BC[:, code] += is_pinned_B.int()
        self._pins = pins
        return pins

    def _keeps_caps(self, place: int) -> Tensor:
        """(B, T) whether a candidate keeps the caps about a place; those about any for place 0."""
        B, T, G = self._codes_BTG.shape
        codes = self._codes_BTG.reshape(B, T * G)
        is_full = self._used_BC.gather(1, codes) >= self._rules.at_most[codes]
        is_full &= self._rules.first[codes] >= place
        return ~is_full.view(B, T, G).any(2)

    def _reserve(self, number: int, at_least: int, last: int) -> None:
        """Reserve the best of a quota's group for the places up to ``last``."""
        bit = 1 << number
        is_in_BT = (self._groups_BT & bit) != 0
        # A reserved item is due by an earlier quota's last place, which is no later.
        is_counted_BT = (self._rules.groups[self._found.ids] & bit) != 0
        have_B = ((self._due_BT > 0) & is_counted_BT).sum(1)
        for place, (item_id, is_pinned_B, _) in self._pins.items():
            if place <= last and int(self._rules.groups[item_id]) & bit:
                have_B = have_B + is_pinned_B
        for _ in range(at_least):
            has_room_B = (self._due_BT > 0).sum(1) < self._free_BK[:, last - 1]
            wants_B = (have_B < at_least) & has_room_B
            may_BT = is_in_BT & self._is_left_BT & (self._due_BT == 0) & self._keeps_caps(0)
            finds_B = may_BT.any(1)
            self._lacks_group_B |= wants_B & ~finds_B & self._found.has_more_of[:, number]
            rows = (wants_B & finds_B).nonzero().squeeze(1)
            chosen = may_BT[rows].to(torch.uint8).argmax(1)
            self._due_BT[rows, chosen] = last
            self._count(rows, self._codes_BTG[rows, chosen])
            have_B[rows] += 1

    def _count(self, rows: Tensor, codes_RG: Tensor) -> None:
        ones = torch.ones_like(codes_RG, dtype=torch.int32)
        self._used_BC.index_put_((rows[:, None], codes_RG), ones, accumulate=True)

    def _fill(self, place: int, is_open_B: Tensor) -> Tensor:
        """Fill a place of the open lists; whether there was a candidate."""
        # Candidates: those that quotas have reserved, and free ones that keep the caps here.
        is_reserved_BT = self._is_left_BT & (self._due_BT > 0)
        is_free_BT = self._found.state == FREE
        may_BT = is_reserved_BT | (self._is_left_BT & is_free_BT & self._keeps_caps(place))
        # Where as many are due by some place as it has free places left, one of them it must be.
        is_forced_B = torch.zeros_like(is_open_B)
        before_B = self._free_BK[:, place - 2] if place > 1 else 0
        for last in sorted({min(quota.first, self._k) for quota in self._rules.quotas}):
            if last < place:
                continue
            is_due_BT = is_reserved_BT & (self._due_BT <= last)
            due_B = is_due_BT.sum(1)
            now_B = (due_B > 0) & (due_B == self._free_BK[:, last - 1] - before_B) & ~is_forced_B
            may_BT = torch.where(now_B[:, None], is_due_BT, may_BT)
            is_forced_B |= now_B
        # Take the best; a list is not final where a better one may be missing among candidates.
        is_taken_B = may_BT.any(1) & is_open_B
        rows = is_taken_B.nonzero().squeeze(1)
        chosen = self._best(may_BT)[rows]
        taken = self._found.state[rows, chosen]
        is_early_R = (taken != FREE) & ~is_forced_B[rows]
        if self._unit_VD is None:  # a better one may be missing
            self._is_short_B[rows] |= is_early_R & self._found.has_more[rows]
        self._is_short_B |= is_open_B & ~is_taken_B & self._found.has_more
        # What was reserved has been counted in the caps before.
        self._is_left_BT[rows, chosen] = False
        is_new_R = self._due_BT[rows, chosen] == 0
        self._count(rows[is_new_R], self._codes_BTG[rows, chosen][is_new_R])
        self._due_BT[rows, chosen] = 0
        item_ids = self._found.ids[rows, chosen]
        self._put(rows, place, item_ids, self._found.scores[rows, chosen])
        return is_taken_B

    def _best(self, may_BT: Tensor) -> Tensor:
        if self._unit_VD is None:
            return may_BT.to(torch.uint8).argmax(1)
        weight = self._rules.weight
        value_BT = (1 - weight) * self._relevance_BT - weight * self._nearest_BT
        value_BT = value_BT.masked_fill(~may_BT, -torch.inf)
        is_best_BT = may_BT & (value_BT == value_BT.amax(1, keepdim=True))
        return is_best_BT.to(torch.uint8).argmax(1)  # the first of them

    def _put(self, rows: Tensor, place: int, item_ids: Tensor, scores: Tensor) -> None:
        self._ids_BK[rows, place - 1] = item_ids
        self._scores_BK[rows, place - 1] = scores
        if self._unit_VD is None or not len(rows):
            return
        taken_RD = self._unit_VD[item_ids].double()
        cosine_RT = torch.bmm(self._vectors_BTD[rows], taken_RD[:, :, None]).squeeze(2)
        cosine_RT = (cosine_RT * COSINE_STEPS).round() / COSINE_STEPS
        is_first_R = self._is_first_B[rows]
        nearest_RT = torch.maximum(self._nearest_BT[rows], cosine_RT)
        self._nearest_BT[rows] = torch.where(is_first_R[:, None], cosine_RT, nearest_RT)
        self._is_first_B[rows] = False
