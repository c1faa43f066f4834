"""Top-K recommendations for a batch of users: the model's, or popular items as a fallback.

Shapes:
    B users of a batch   K recommendations   D hidden size   N items
"""

import copy
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from lightsans.arrays import Int32, Int64, Intp
from lightsans.dataset.known_histories import KnownHistories, times_of
from lightsans.dataset.samples import gather
from lightsans.dataset.sequences import UserSequences
from lightsans.dataset.vocabulary import Vocabulary, dead_items
from lightsans.model.network import LightSANs
from lightsans.probability.softmax import Scope
from lightsans.ranking.recent import popularity_ties
from lightsans.ranking.seen_items import NOTHING
from lightsans.ranking.top_k import ItemIndex
from lightsans.recommendations.audience import log_shares
from lightsans.recommendations.reasons import reasons_of
from lightsans.recommendations.segment import ListRules
from lightsans.rules.item_rules import ItemRules
from lightsans.rules.lists import RuledIndex
from lightsans.storage.schemas import MODEL, POPULAR, POPULAR_RECENT

_ENCODED_AT_ONCE = 256
"""Users: their tensors stay in the cache of a core."""


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Lists for some users, best first, in raw ids; rows may be shorter than K."""

    item_ids: pa.ListArray
    scores: pa.ListArray
    source: pa.Array
    """``model``; for users without an item that the model knows ``popular``, or
    ``popular_recent`` where the items of the last days are counted."""
    encoded: "Encoded"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Users of whom the model knows something, as it sees them."""

    users: Intp
    """Their rows, ascending."""
    vectors: torch.Tensor
    """(users, D)"""
    histories: UserSequences
    """Histories of all rows' users: the items that the model knows."""
    seen: UserSequences
    """Items of all rows' users that are not recommended to them."""
    segments: Int64
    """Bits of the rules about each row's user."""


class ListMaker:
    """A model with everything that turns histories into lists of raw item ids.

    Args:
        model: Scores the items it knows.
        model_items: Its vocabulary.
        dataset_items: The vocabulary of the histories; the fallback recommends its popular items.
            Items that it counts 0 times are not recommended: they left the k-core, only erased
            users had met them, or they were never a target. The model recommends them all the
            same where their features are known.
        mapping: Dataset item ids -> model item ids; None when they are the same.
        k: Length of the lists.
        remove_seen: Leave out what a user has met already.
        eligible_ids: The only items of the model that are recommended; all unless given.
        eligible_popular_ids: The same of the dataset's items, for the fallback.
        min_score: The model's recommendations with a lower score are left out.
        rules: Rules over the lists; none unless given.
        recent_counts: (N + 1,) interactions of the dataset's items in the last days, by which the
            fallback goes, ties by all-time popularity; None: by all-time popularity alone.
        histories_are_seen: False where ``also_seen`` lists all items that are seen, as in a log
            with events.
        now: Microseconds of the moment for which is recommended, for a model that reads it.
    """

    def __init__(
        self,
        model: LightSANs,
        model_items: Vocabulary,
        dataset_items: Vocabulary,
        mapping: Int32 | None,
        *,
        k: int,
        remove_seen: bool,
        eligible_ids: Int64 | None = None,
        eligible_popular_ids: Int64 | None = None,
        min_score: float | None = None,
        rules: ListRules | None = None,
        recent_counts: Int64 | None = None,
        histories_are_seen: bool = True,
        now: int | None = None,
    ) -> None:
        self._model = model.eval()
        self.items = self._model_items = model_items
        self.dataset_items = dataset_items
        self._mapping, self.k, self._remove_seen = mapping, k, remove_seen
        self._histories_are_seen = histories_are_seen
        self._now: int | Int64 | None = now
        dead_ids = np.flatnonzero(dataset_items.popularity == 0) + 1
        dead_model_ids = dead_items(dataset_items, model_items, mapping)
        self._eligible_ids = _tensor(_without(eligible_ids, dead_model_ids, model_items))
        self.min_score = NOTHING if min_score is None else min_score
        self.rules = rules
        self._index = self._model_index()
        # Popularity as a model of width one: its top-K follows the same rules.
        popularity = np.concatenate([[0], dataset_items.popularity])
        self._fallback = POPULAR
        if recent_counts is not None:
            self._fallback = POPULAR_RECENT
            popularity = recent_counts + popularity_ties(popularity)
        self._popular = (
            torch.from_numpy(popularity.astype(np.float32)).unsqueeze(1),
            _tensor(_without(eligible_popular_ids, dead_ids, dataset_items)),
        )
        popular = None if rules is None else rules.popular
        self._popular_index = _make_index(*self._popular, popular)

    def to(self, device: torch.device) -> None:
        """Score on another device from now on; popular items stay on the CPU."""
        if device != self._device:
            self._model = self._model.to(device)
            self._index = self._model_index()

    def count_broken(self, lists: pa.ListArray, source: pa.ChunkedArray) -> tuple[int, int]:
        """Count lists that came out short, and quotas of lists that are not met; 0 without rules.

        Args:
            lists: Raw item ids.
            source: Source of each list.
        """
        if self.rules is None or not len(lists):
            return 0, 0
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        ends = np.cumsum(lengths)
        is_model = pc.equal(source, MODEL).to_numpy()
        unmet, raw = 0, lists.flatten()
        for items, rules, is_in in (
            (self._model_items, self.rules.model, is_model),
            (self.dataset_items, self.rules.popular, ~is_model),
        ):
            if not rules.quotas or not is_in.any():
                continue
            of_kind = np.repeat(is_in, lengths)
            ids = items.encode(raw.filter(pa.array(of_kind)))
            groups = np.zeros(len(raw), np.int64)
            groups[of_kind] = rules.groups.cpu().numpy()[ids]
            rank = np.arange(len(raw)) - np.repeat(ends - lengths, lengths)
            for number, quota in enumerate(rules.quotas):
                counts = (groups >> number & 1) * (rank < quota.first)
                sums = np.concatenate([[0], np.cumsum(counts)])
                found = (sums[ends] - sums[ends - lengths])[is_in]
                unmet += int((found < quota.at_least).sum())
        return int((lengths < self.k).sum()), unmet

    def _model_index(self) -> ItemIndex | RuledIndex:
        rules = None if self.rules is None else self.rules.model
        return _make_index(self._model.item_table(), self._eligible_ids, rules)

    def with_rules(self, rules: ListRules | None) -> "ListMaker":
        """The same maker under other rules."""
        other = copy.copy(self)
        other.rules = rules
        other._index = other._model_index()
        popular = None if rules is None else rules.popular
        table_VD, eligible_ids = self._popular
        other._popular_index = _make_index(table_VD, eligible_ids, popular)
        return other

    def at(self, now: int | Int64 | None) -> "ListMaker":
        """The same maker, for requests at another moment; an array has one for each row's user."""
        other = copy.copy(self)
        other._now = now
        return other

    @property
    def model(self) -> LightSANs:
        """The model."""
        return self._model

    @property
    def _device(self) -> torch.device:
        return self._model.item_embedding.weight.device

    def know(self, histories: UserSequences, also_seen: UserSequences) -> KnownHistories:
        """Translate histories in the dataset's item ids into the items that the model knows."""
        return KnownHistories(
            histories.translate(self._mapping), also_seen.translate(self._mapping)
        )

    def recommend(
        self,
        histories: UserSequences,
        also_seen: UserSequences,
        segments: Int64 | None = None,
    ) -> Recommendations:
        """Recommendations for all users, in order.

        Args:
            histories: Everything they interacted with, in the dataset's item ids.
            also_seen: Other items that must not be recommended to them when seen ones are removed.
            segments: Bits of the rules about each user; see `ListRules.bits`.
        """
        if segments is None:
            segments = np.zeros(len(histories.lengths), np.int64)
        known = self.know(histories, also_seen)
        is_known = known.is_known
        encoded = self.encode(known, segments)
        by_model = self._by_model(encoded)
        by_popularity = self._by_popularity(
            self._seen(histories, also_seen), np.flatnonzero(~is_known), segments
        )
        # Both come in their own order: put every user back in its place.
        order = np.argsort(np.argsort(~is_known, kind="stable"), kind="stable")
        columns = [
            pa.concat_arrays(pair).take(pa.array(order))
            for pair in zip(by_model, by_popularity, strict=True)
        ]
        source = pa.array(np.where(is_known, MODEL, self._fallback).astype(object), pa.string())
        return Recommendations(columns[0], columns[1], source, encoded)

    @torch.inference_mode()
    def encode(self, known: KnownHistories, segments: Int64) -> Encoded:
        """The users of whom the model knows something, encoded.

        Args:
            known: Histories of all users.
            segments: See `recommend`.
        """
        users = np.flatnonzero(known.is_known)
        vectors_BD = self._encode(known.histories, users)
        seen = self._seen(known.histories, known.also_seen)
        return Encoded(users, vectors_BD, known.histories, seen, segments)

    @torch.inference_mode()
    def _by_model(self, encoded: Encoded) -> tuple[pa.ListArray, pa.ListArray]:
        return self._lists(
            encoded.vectors, self._index, encoded.seen, encoded.users, encoded.segments,
            self._model_items, self.min_score,
        )  # fmt: skip

    @torch.inference_mode()
    def explain(self, known: UserSequences, made: pa.Table, most: int) -> pa.ListArray:
        """Reasons beside the items of wide rows; null for items that the model did not choose.

        Args:
            known: Histories of the rows' users, as the model knows them.
            made: Wide rows.
            most: Reasons of an item.
        """
        is_model = pc.equal(made["source"], MODEL).to_numpy()
        lists, table_VD = made["item_ids"].combine_chunks(), self._model.item_table()
        return reasons_of(self._encode, table_VD, self._model_items, known, lists, is_model, most)

    def _encode(self, known: UserSequences, users: Intp) -> torch.Tensor:
        newest = np.minimum(known.lengths[users], self._model.config.max_seq_len)
        begin = known.offsets[users + 1] - newest
        # Similar lengths share a width: encode in order of length, in pieces.
        vectors_BD = torch.empty(len(users), self._model.config.hidden_size, device=self._device)
        by_length = np.argsort(newest, kind="stable")
        for piece in np.array_split(by_length, max(1, -(-len(users) // _ENCODED_AT_ONCE))):
            if len(piece):
                arrays = [gather(known.item_ids, begin[piece], newest[piece]), newest[piece]]
                now = self._now[users[piece]] if isinstance(self._now, np.ndarray) else self._now
                arrays += times_of(self._model, known, begin[piece], newest[piece], now)
                encoded = self._model.encode(
                    *(torch.from_numpy(array).to(self._device) for array in arrays)
                )
                vectors_BD[torch.from_numpy(piece).to(self._device)] = encoded
        return vectors_BD

    @torch.inference_mode()
    def log_shares(
        self, histories: UserSequences, also_seen: UserSequences, wanted: Int64, segments: Int64
    ) -> tuple[Intp, torch.Tensor]:
        """Users of whom the model knows something, and their log-shares of wanted items.

        Args:
            histories: See `recommend`.
            also_seen: See `recommend`.
            wanted: Ids of the model's items.
            segments: See `recommend`.
        """
        encoded = self.encode(self.know(histories, also_seen), segments)
        table_VD, wanted_W = self._model.item_table(), torch.from_numpy(wanted)
        return encoded.users, log_shares(encoded.vectors, table_VD, wanted_W, self.scope(encoded))

    def scope(self, encoded: Encoded) -> Scope:
        """Items that may be recommended to the encoded users, rules about lists aside."""
        rows, ids = self._seen_of(encoded.seen, encoded.users)
        is_seen, device = ids > 0, self._device
        is_eligible_V = torch.ones(self._model.num_items + 1, dtype=torch.bool)
        if self._eligible_ids is not None:
            is_eligible_V[:] = False
            is_eligible_V[self._eligible_ids.cpu()] = True
        is_eligible_V[0] = False
        denied_V = None if self.rules is None else self.rules.model.denied.to(device)
        return Scope(
            is_eligible_V.to(device),
            torch.from_numpy(rows[is_seen]).to(device),
            torch.from_numpy(ids[is_seen].astype(np.int64)).to(device),
            denied_V,
            torch.from_numpy(encoded.segments[encoded.users]).to(device),
        )

    @property
    def item_table(self) -> torch.Tensor:
        """(V, D) item vectors of the model."""
        return self._model.item_table()

    @torch.inference_mode()
    def _by_popularity(
        self, seen: UserSequences, users: Intp, segments: Int64
    ) -> tuple[pa.ListArray, pa.ListArray]:
        vectors, index = torch.ones(len(users), 1), self._popular_index
        return self._lists(vectors, index, seen, users, segments, self.dataset_items, NOTHING)

    def _lists(
        self,
        vectors_BD: torch.Tensor,
        index: ItemIndex | RuledIndex,
        seen: UserSequences,
        users: Intp,
        segments: Int64,
        items: Vocabulary,
        min_score: float,
    ) -> tuple[pa.ListArray, pa.ListArray]:
        device, k = vectors_BD.device, min(self.k, items.num_items)
        rows_S, ids_S = (
            torch.from_numpy(part.astype(np.int64)).to(device)
            for part in self._seen_of(seen, users)
        )
        if isinstance(index, RuledIndex):
            bits_B = torch.from_numpy(segments[users]).to(device)
            k = index.rules.places(self.k)
            found = index.top_k(vectors_BD, k, rows_S, ids_S, bits_B, min_score=min_score)
        else:
            found = index.top_k(vectors_BD, k, rows_S, ids_S, min_score=min_score)
        ids_BK, scores_BK = found
        is_item = (ids_BK > 0).cpu().numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(is_item.sum(1))]).astype(np.int32))
        ids = items.decode(ids_BK.cpu().numpy()[is_item].astype(np.int32))
        scores = pa.array(scores_BK.cpu().numpy()[is_item].astype(np.float32))
        return (
            pa.ListArray.from_arrays(offsets, ids),
            pa.ListArray.from_arrays(offsets, scores),
        )

    def _seen(self, histories: UserSequences, also_seen: UserSequences) -> UserSequences:
        """Items that each user has seen."""
        return histories.joined(also_seen) if self._histories_are_seen else also_seen

    def _seen_of(self, seen: UserSequences, users: Intp) -> tuple[Int64, Int32]:
        """Row numbers and item ids of everything to leave out."""
        if not self._remove_seen:
            return np.zeros(0, np.int64), np.zeros(0, np.int32)
        chosen = np.zeros(len(seen.lengths), bool)
        chosen[users] = True
        lengths = seen.lengths
        ids = seen.item_ids[np.repeat(chosen, lengths)]
        return np.repeat(np.arange(len(users)), lengths[users]), ids


def _make_index(
    table_VD: torch.Tensor, eligible_ids: torch.Tensor | None, rules: ItemRules | None
) -> ItemIndex | RuledIndex:
    if rules is None:
        return ItemIndex(table_VD, eligible_ids)
    return RuledIndex(table_VD, rules, eligible_ids)


def _without(eligible_ids: Int64 | None, dead_ids: Int64, items: Vocabulary) -> Int64 | None:
    """Eligible ids but the dead ones; None stands for all of the vocabulary."""
    if not len(dead_ids):
        return eligible_ids
    everything = np.arange(1, items.num_items + 1)
    return np.setdiff1d(everything if eligible_ids is None else eligible_ids, dead_ids)


def _tensor(item_ids: Int64 | None) -> torch.Tensor | None:
    return None if item_ids is None else torch.from_numpy(item_ids)
