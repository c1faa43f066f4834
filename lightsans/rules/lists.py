"""Exact lists under rules: candidates from top-K search, more of them where a rule runs short.

Boosts are part of the search: an item's boost is one more number of its vector, and 1 one more of
each user's, so candidates come in order of the boosted score, and no item outside them has a
greater one. A list that is made of the first M candidates is the list of all items unless the walk
asked for a further one; then M doubles. Quotas of small groups are searched among their own items.

Diversity is a choice among the first `ItemRules.candidates` items that the user may be recommended;
where the walk runs short among those, their number doubles as well.

Shapes: B users   D hidden size   V = num_items + 1   S seen items of all users   K places
    F items found for a user   T candidates   R users whose lists are not final   P pins   Q quotas
"""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lightsans.ranking.error_bounds import ErrorBound
from lightsans.ranking.products import prefers_compiled, score_pairs
from lightsans.ranking.seen_items import NOTHING
from lightsans.ranking.top_k import ItemIndex, TopK
from lightsans.rules.item_rules import ItemRules, PinRule
from lightsans.rules.walk import FREE, GONE, RESERVABLE, Candidates, walk

_OWN_SEARCH = 8
"""A group of less than this part of the items is searched by itself."""
_DEVIATIONS = 4
"""Candidates beyond the mean, in standard deviations, that are to make up for what is denied."""
_ALIKE = 1.25
"""Users are searched for together where the most candidates are up to so many times the least."""
_WALK_BUDGET = 2**24
"""Numbers of candidates' vectors at once, where torch alone walks."""


class _Round(NamedTuple):
    """Users whose lists are made of so many candidates."""

    rows: Tensor
    found: int
    """Items to search for."""
    chosen: int
    """The first ones that diversity chooses from."""


class RuledIndex:
    """Item vectors made ready for lists under rules; as `ItemIndex`, and with its results.

    Args:
        table_VD: One row per item; row 0, padding, is never recommended.
        rules: The rules about these items.
        eligible_ids: The only items to recommend; all unless given.
        products: See `ItemIndex`.
        first_found: Candidates to begin with; chosen by the list's length unless given. No effect
            on results.
    """

    def __init__(
        self,
        table_VD: Tensor,
        rules: ItemRules,
        eligible_ids: Tensor | None = None,
        products: str = "auto",
        first_found: int | None = None,
    ) -> None:
        device = table_VD.device
        self.rules = rules.to(device)
        table_VD = table_VD.detach().float()
        self._unit_VD = None
        if rules.weight > 0:
            norms_V1 = table_VD.double().norm(dim=1, keepdim=True)
            self._unit_VD = (table_VD.double() / norms_V1.clamp(min=1e-300)).float()
        self._is_boosted = rules.boosts is not None
        if self.rules.boosts is not None:
            table_VD = torch.cat([table_VD, self.rules.boosts[:, None]], dim=1)
        self._table_VD, self._products, self._first_found = table_VD, products, first_found
        self._is_eligible_V = torch.zeros(len(table_VD), dtype=torch.bool, device=device)
        if eligible_ids is None:
            self._is_eligible_V[1:] = True
        else:
            self._is_eligible_V[eligible_ids.to(device)] = True
        self._everything = ItemIndex(table_VD, eligible_ids, products)
        self._by_segment: dict[int, ItemIndex] = {}
        self._groups: dict[int, ItemIndex] = {}
        for number in range(len(rules.quotas)):
            is_in_V = (self.rules.groups >> number & 1).bool() & self._is_eligible_V
            if int(is_in_V.sum()) * _OWN_SEARCH <= len(self._everything.items_ND):
                self._groups[number] = ItemIndex(table_VD, is_in_V.nonzero().squeeze(1), products)

    @torch.no_grad()
    def top_k(
        self,
        vectors_BD: Tensor,
        k: int,
        seen_rows_S: Tensor,
        seen_item_ids_S: Tensor,
        segments_B: Tensor | None = None,
        *,
        min_score: float = NOTHING,
        block_items: int | None = None,
        compiled: bool | None = None,
    ) -> TopK:
        """The lists of some users under the rules.

        Args:
            vectors_BD: One row per user, where the items are.
            k: Length of the lists.
            seen_rows_S: See `ItemIndex.top_k`.
            seen_item_ids_S: See `ItemIndex.top_k`.
            segments_B: Int64; bit s is set where rule s of the segments is about the user.
            min_score: Items with a lower score, boosts included, are left out, save for pins.
            block_items: See `ItemIndex.top_k`.
            compiled: Use Numba; by `prefers_compiled` unless given.
        """
        if compiled is None:
            compiled = prefers_compiled(vectors_BD)
        B, device = len(vectors_BD), vectors_BD.device
        vectors_BD = vectors_BD.detach().float()
        if self._is_boosted:
            vectors_BD = torch.cat([vectors_BD, vectors_BD.new_ones(B, 1)], dim=1)
        if segments_B is None:
            segments_B = torch.zeros(B, dtype=torch.int64, device=device)
        search = _Search(
            self, vectors_BD, k, seen_rows_S.long(), seen_item_ids_S.long(), segments_B,
            min_score, block_items, compiled,
        )  # fmt: skip
        return search.run(self._first_found or k + self._spare(k))

    def _spare(self, k: int) -> int:
        """Candidates beyond the list's length that rules are likely to ask for at once.

        What a cap keeps from the first places stands further down, and what a pin takes leaves its
        place to the pin; only caps about most of the list leave items out of it.
        """
        reaches_far = 2 * int(self.rules.first.amax()) > k
        return max(8, k // 8) if reaches_far else 0

    def search_index(self, segments: int) -> ItemIndex:
        """The index for users of these segments: of their items alone where those are few."""
        if segments and segments not in self._by_segment:
            is_allowed_V = self._is_eligible_V & ((self.rules.denied & segments) == 0)
            index = self._everything
            if 2 * int(is_allowed_V.sum()) < len(index.items_ND):
                allowed = is_allowed_V.nonzero().squeeze(1)
                index = ItemIndex(self._table_VD, allowed, self._products)
            self._by_segment[segments] = index
        return self._by_segment.get(segments, self._everything)

    def denied_share(self, segments: int) -> float:
        """Share of the searched items that users of these segments may not be recommended."""
        index = self.search_index(segments)
        if not segments or index is not self._everything or not len(index.items_ND):
            return 0.0
        is_denied_V = self._is_eligible_V & ((self.rules.denied & segments) != 0)
        return int(is_denied_V.sum()) / len(index.items_ND)


class _Search:
    """One call of `RuledIndex.top_k`."""

    def __init__(
        self,
        index: RuledIndex,
        vectors_BD: Tensor,
        k: int,
        seen_rows_S: Tensor,
        seen_ids_S: Tensor,
        segments_B: Tensor,
        min_score: float,
        block_items: int | None,
        compiled: bool,
    ) -> None:
        self._index, self._vectors_BD, self._k = index, vectors_BD, k
        self._seen_rows_S, self._seen_ids_S, self._segments_B = seen_rows_S, seen_ids_S, segments_B
        self._min_score, self._block_items, self._compiled = min_score, block_items, compiled
        self._rules = _with_pins_of(index.rules, k)
        self._pinned_BP, self._pin_scores_BP = self._pins()

    def run(self, found: int) -> TopK:
        """Make lists, again with twice as many candidates for those that are not final."""
        B, device = len(self._vectors_BD), self._vectors_BD.device
        lists = TopK(
            torch.zeros(B, self._k, dtype=torch.int64, device=device),
            torch.full((B, self._k), NOTHING, device=device),
        )
        rounds = self._first_rounds(found)
        while rounds:
            rounds += self._make(rounds.pop(), lists)
        return lists

    def _first_rounds(self, found: int) -> list[_Round]:
        """A round for each index; users who need many more candidates have one of their own."""
        chosen = self._rules.candidates if self._rules.weight > 0 else 0
        found = max(found, chosen)
        kinds, which_B = torch.unique(self._segments_B, return_inverse=True)
        alike: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for number, kind in enumerate(kinds.tolist()):
            # As many as are likely to leave enough: what is denied falls among them by chance.
            share = self._index.denied_share(kind)
            wanted = math.ceil((found + _DEVIATIONS * math.sqrt(found * share)) / (1 - share))
            step = math.floor(math.log(wanted / found, _ALIKE))
            key = (id(self._index.search_index(kind)), step)
            alike.setdefault(key, []).append((number, wanted))
        rounds = []
        for members in alike.values():
            rows = torch.isin(which_B, torch.tensor([n for n, _ in members], device=which_B.device))
            most = max(wanted for _, wanted in members)
            rounds.append(_Round(rows.nonzero().squeeze(1), most, chosen))
        return rounds

    def _make(self, this: _Round, lists: TopK) -> list[_Round]:
        """Write the lists of a round; the rounds that are left to make."""
        rows_R, again = this.rows, []
        candidates, lacks_R = self._candidates(this)
        if bool(lacks_R.any()):
            again.append(_Round(rows_R[lacks_R], 2 * this.found, this.chosen))
            rows_R = rows_R[~lacks_R]
            candidates = Candidates(*(part[~lacks_R] for part in candidates))
        step = len(rows_R) or 1
        if not self._compiled:
            width = self._vectors_BD.shape[1] if self._rules.weight > 0 else 8
            step = max(1, _WALK_BUDGET // (candidates.ids.shape[1] * width))
        for first in range(0, len(rows_R), step):
            part = slice(first, first + step)
            made = walk(
                self._rules, Candidates(*(x[part] for x in candidates)), self._k,
                self._index._unit_VD, self._compiled,
            )  # fmt: skip
            rows = rows_R[part]
            final = ~(made.is_short | made.lacks_group)
            lists.item_ids[rows[final]] = made.item_ids[final]
            lists.scores[rows[final]] = made.scores[final]
            if bool(final.all()):
                continue
            again.append(_Round(rows[made.lacks_group], 2 * this.found, this.chosen))
            rows = rows[made.is_short & ~made.lacks_group]
            again.append(_Round(rows, 2 * this.found, 2 * this.chosen))
        return [left for left in again if len(left.rows)]

    def _candidates(self, this: _Round) -> tuple[Candidates, Tensor]:
        """Candidates of a round; and who lacks some that diversity is to choose from."""
        rows_R, rules = this.rows, self._rules
        index = self._index.search_index(int(self._segments_B[rows_R[0]]))
        seen = self._seen_of(rows_R)
        main = self._find(index, rows_R, seen, this.found)
        has_more_R = main.has_more
        may_RF = self._may(rows_R, main.ids)
        state_RF = torch.where(may_RF, FREE, GONE).to(torch.uint8)
        lacks_R = torch.zeros_like(has_more_R)
        if this.chosen:
            is_chosen_RF = may_RF & (may_RF.cumsum(1) <= this.chosen)
            state_RF[may_RF & ~is_chosen_RF] = RESERVABLE
            lacks_R = has_more_R & (may_RF.sum(1) < this.chosen)
        ids, scores, states = [main.ids], [main.scores], [state_RF]
        quotas = [torch.full_like(main.ids, -1)]
        has_more_RQ = has_more_R[:, None].repeat(1, len(rules.quotas))
        last_id_R, last_score_R = main.ids[:, -1:], main.scores[:, -1:]
        for number, group in self._index._groups.items():
            wanted = (rules.quotas[number].at_least + 4) * max(1, this.found // self._k)
            extra = self._find(group, rows_R, seen, wanted)
            is_beyond = (extra.scores < last_score_R) | (
                (extra.scores == last_score_R) & (extra.ids > last_id_R)
            )
            may = self._may(rows_R, extra.ids) & is_beyond & has_more_R[:, None]
            ids.append(extra.ids)
            scores.append(extra.scores)
            states.append(torch.where(may, RESERVABLE, GONE).to(torch.uint8))
            quotas.append(torch.full_like(extra.ids, 1 << number))
            has_more_RQ[:, number] &= extra.has_more
        if this.chosen:  # what the choice leaves out may still be had
            has_more_R = has_more_R | (state_RF == RESERVABLE).any(1)
        parts = [ids, scores, states, quotas]
        if len(ids) > 2:  # further ones stand beyond the first: only theirs need an order
            beyond = _merge(*(torch.cat(part[1:], 1) for part in parts))
            parts = [[part[0], more] for part, more in zip(parts, beyond, strict=True)]
        ids_RT, scores_RT, state_RT, quotas_RT = (torch.cat(part, 1) for part in parts)
        return Candidates(
            ids_RT,
            scores_RT,
            state_RT,
            quotas_RT,
            has_more_R,
            has_more_RQ,
            self._pinned_BP[rows_R],
            self._pin_scores_BP[rows_R],
        ), lacks_R

    def _seen_of(self, rows_R: Tensor) -> tuple[Tensor, Tensor]:
        """Seen items of some users, who are numbered from 0: their rows, and the items."""
        if len(rows_R) == len(self._vectors_BD):
            return self._seen_rows_S, self._seen_ids_S
        rank_B = torch.full((len(self._vectors_BD),), -1, device=rows_R.device)
        rank_B[rows_R] = torch.arange(len(rows_R), device=rows_R.device)
        seen_rows_S = rank_B[self._seen_rows_S]
        kept_S = seen_rows_S >= 0
        return seen_rows_S[kept_S], self._seen_ids_S[kept_S]

    def _find(
        self, index: ItemIndex, rows_R: Tensor, seen: tuple[Tensor, Tensor], number: int
    ) -> "_Found":
        N = len(index.items_ND)
        number = max(1, min(number, N))
        best = index.top_k(
            self._vectors_BD[rows_R], number, *seen, min_score=self._min_score,
            block_items=self._block_items, compiled=self._compiled,
        )  # fmt: skip
        has_more_R = (best.item_ids[:, -1] > 0) & (number < N)
        return _Found(best.item_ids, best.scores, has_more_R)

    def _may(self, rows_R: Tensor, ids_RF: Tensor) -> Tensor:
        """Whether an item may be taken: it is one, not denied, and not pinned."""
        may_RF = ids_RF > 0
        segments_R = self._segments_B[rows_R]
        in_segment = segments_R.nonzero().squeeze(1)
        if len(in_segment):
            denied = self._rules.denied[ids_RF[in_segment]] & segments_R[in_segment, None]
            may_RF[in_segment] &= denied == 0
        for number, pin in enumerate(self._rules.pins):
            may_RF &= ~((ids_RF == pin.item_id) & self._pinned_BP[rows_R, number, None])
        return may_RF

    def _pins(self) -> tuple[Tensor, Tensor]:
        """Which pins each user may be recommended, and their scores."""
        index, device = self._index, self._vectors_BD.device
        ids_P = torch.tensor(
            [pin.item_id for pin in self._rules.pins], dtype=torch.int64, device=device
        )
        denied_BP = self._rules.denied[ids_P] & self._segments_B[:, None]
        pinned_BP = index._is_eligible_V[ids_P] & (denied_BP == 0)
        for number, pin in enumerate(self._rules.pins):
            pinned_BP[self._seen_rows_S[self._seen_ids_S == pin.item_id], number] = False
        items_PD = index._table_VD[ids_P].float()
        items_BPD = items_PD.expand(len(self._vectors_BD), *items_PD.shape)
        error_B = ErrorBound(items_PD, items_PD).sum_error(self._vectors_BD)
        return pinned_BP, score_pairs(self._vectors_BD, items_BPD, error_B)


def _with_pins_of(rules: ItemRules, k: int) -> ItemRules:
    """The same with the pins that a list of k has places for; of two in one place the first.

    Places count from both ends, so pins that are apart in one list may meet in a shorter one.
    """
    by_place: dict[int, PinRule] = {}
    for pin in rules.pins:
        by_place.setdefault(pin.position if pin.position > 0 else k + 1 + pin.position, pin)
    return replace(rules, pins=tuple(pin for at, pin in by_place.items() if 1 <= at <= k))


class _Found(NamedTuple):
    ids: Tensor
    scores: Tensor
    has_more: Tensor


def _merge(
    ids_RT: Tensor, scores_RT: Tensor, state_RT: Tensor, quotas_RT: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Candidates in order of falling score, then id; an item of two quotas has the bits of both."""
    # What is gone goes last, so that it parts no pair of equal items.
    scores_RT = scores_RT.masked_fill(state_RT == GONE, NOTHING)
    order_RT = ids_RT.sort(dim=1, stable=True).indices
    by_id_RT = scores_RT.gather(1, order_RT)
    order_RT = order_RT.gather(1, by_id_RT.sort(dim=1, descending=True, stable=True).indices)
    ids_RT, scores_RT, state_RT, quotas_RT = (
        x.gather(1, order_RT) for x in (ids_RT, scores_RT, state_RT, quotas_RT)
    )
    is_same_RT = (ids_RT[:, 1:] == ids_RT[:, :-1]) & (state_RT[:, 1:] != GONE)
    bits_RT, is_run_RT = quotas_RT.clone(), is_same_RT
    while bool(is_run_RT.any()):  # once for each further quota of an item
        width = is_run_RT.shape[1]
        quotas_RT[:, :width] |= bits_RT[:, -width:].masked_fill(~is_run_RT, 0)
        is_run_RT = is_run_RT[:, :-1] & is_same_RT[:, -width + 1 :]
    state_RT[:, 1:] = state_RT[:, 1:].masked_fill(is_same_RT, GONE)
    return ids_RT, scores_RT, state_RT, quotas_RT
