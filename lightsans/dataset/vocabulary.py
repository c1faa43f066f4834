"""Raw item ids <-> contiguous item ids 1..N; 0 is padding and stands for unknown items."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool, Int32, Int64
from lightsans.columns.hashing import hash_ids, hash_segments
from lightsans.errors import InputError, VocabularyMismatchError
from lightsans.storage.location import Location
from lightsans.storage.manifests import MANIFEST
from lightsans.storage.parts import ITEMS
from lightsans.storage.schemas import LISTED, TARGET_COUNT, items_schema


class Vocabulary:
    """The items of a dataset or model, in the order of their ids.

    Args:
        raw_item_ids: String or int64 array; position i holds item id i + 1.
        counts: Interactions of each item in the data that made the vocabulary.
        target_counts: Targets among them, where a log has events; None: all are.
        is_listed: Whether the table of item features has an item; None without such a table.
    """

    def __init__(
        self,
        raw_item_ids: pa.Array,
        counts: Int64,
        target_counts: Int64 | None = None,
        is_listed: Bool | None = None,
    ) -> None:
        assert len(raw_item_ids) == len(counts)
        self.raw_item_ids = raw_item_ids
        self.counts = counts
        self.target_counts = target_counts
        self.is_listed = is_listed
        self._index: _HashIndex | None = None

    def keep_index(self) -> None:
        """Keep what `encode` looks ids up in: for processes that call it many times.

        Without it every call hashes the whole vocabulary. It takes 16 bytes an item.
        """
        index = _HashIndex(self.raw_item_ids)
        self._index = index if index.is_unique else None

    @classmethod
    def from_counts(cls, raw_item_ids: pa.Array, counts: Int64) -> "Vocabulary":
        """Number items by falling count, ties by raw id."""
        table = pa.table({"raw": raw_item_ids, "count": counts})
        table = table.sort_by([("count", "descending"), ("raw", "ascending")]).combine_chunks()
        ids = table["raw"].combine_chunks()
        return cls(ids, table["count"].to_numpy())

    @classmethod
    def load(cls, location: Location) -> "Vocabulary":
        """Read ``items.parquet``.

        Raises:
            InputError: It is missing or damaged.
        """
        try:
            table = location.read_table().combine_chunks()
        except FileNotFoundError:
            raise InputError(f"{location}: the file is gone; make this result again") from None
        missing = {"raw_item_id", "count"} - set(table.column_names)
        if missing:
            raise InputError(
                f"{location}: has no column {min(missing)}, found {table.column_names}; the file "
                "is no table of items: make this result again"
            )
        targets = None
        if TARGET_COUNT in table.column_names:
            targets = table[TARGET_COUNT].to_numpy()
        listed = table[LISTED].to_numpy() if LISTED in table.column_names else None
        raw_item_ids = table["raw_item_id"].combine_chunks()
        return cls(raw_item_ids, table["count"].to_numpy(), targets, listed)

    def save(self, location: Location) -> None:
        """Write ``items.parquet``."""
        location.write_table(self.table())

    def table(self) -> pa.Table:
        """The vocabulary as the table that ``items.parquet`` holds."""
        ids = np.arange(1, self.num_items + 1, dtype=np.int32)
        columns = [pa.array(ids), self.raw_item_ids, pa.array(self.counts)]
        has_targets = self.target_counts is not None
        columns += [pa.array(self.target_counts)] if has_targets else []
        has_listed = self.is_listed is not None
        columns += [pa.array(self.is_listed)] if has_listed else []
        schema = items_schema(self.raw_item_ids.type, has_targets, has_listed)
        return pa.table(columns, schema=schema)

    @property
    def popularity(self) -> Int64:
        """How often each item came up as something to recommend: interactions, or targets."""
        return self.counts if self.target_counts is None else self.target_counts

    @property
    def num_items(self) -> int:
        """Items, padding not counted."""
        return len(self.raw_item_ids)

    @property
    def is_living(self) -> Bool:
        """(N,) whether an item may be recommended: not once it left the k-core or was erased.

        Such items count 0, as do those that never were a target where there are events. Where all
        do nothing was counted, as for an imported model of an unknown log.
        """
        return self.is_offered if self.is_offered.any() else np.ones(self.num_items, bool)

    @property
    def is_offered(self) -> Bool:
        """(N,) whether an item was counted, or is in the table of item features."""
        is_counted: Bool = self.popularity > 0
        return is_counted if self.is_listed is None else is_counted | self.is_listed

    @property
    def is_noted(self) -> Bool:
        """(N,) whether an item counts as seen by who met it: one that may be recommended again."""
        is_counted: Bool = self.counts > 0
        return is_counted if self.is_listed is None else is_counted | self.is_listed

    @property
    def fingerprint(self) -> str:
        """16 digits that differ when any item has another id; counts do not matter."""
        hashes = hash_ids(self.raw_item_ids)
        total = hash_segments(hashes, np.array([0, len(hashes)]))[0]
        return f"{total:016x}"

    def encode(self, raw_item_ids: pa.Array | pa.ChunkedArray) -> Int32:
        """Item ids of raw ids; 0 where the item is unknown."""
        if self._index is not None and raw_item_ids.type == self.raw_item_ids.type:
            return self._index.find(raw_item_ids)
        known = self.raw_item_ids.cast(raw_item_ids.type)  # text may be string or large_string
        positions = pc.index_in(raw_item_ids, value_set=known)
        if isinstance(positions, pa.ChunkedArray):
            positions = positions.combine_chunks()
        positions = pc.fill_null(positions, -1)
        found: Int32 = positions.to_numpy(zero_copy_only=False).astype(np.int32)
        return found + np.int32(1)

    def encode_living(self, raw_item_ids: pa.Array) -> Int32:
        """Item ids of raw ids; 0 for unknown items and for those that count 0."""
        found = self.encode(raw_item_ids)
        is_living = np.concatenate([[False], self.counts > 0])
        return np.where(is_living[found], found, np.int32(0))

    def encode_seen(self, raw_item_ids: pa.Array) -> Int32:
        """`encode_living` with the items of the table of features, which may be recommended."""
        if self.is_listed is None:
            return self.encode_living(raw_item_ids)
        found = self.encode(raw_item_ids)
        is_kept = np.concatenate([[False], self.is_noted])
        return np.where(is_kept[found], found, np.int32(0))

    def extended(self, raw_item_ids: pa.Array, counts: Int64) -> "Vocabulary":
        """This one with other counts: items keep their ids, new ones follow, missing ones count 0.

        Args:
            raw_item_ids: Items that there are now.
            counts: Interactions of each of them.
        """
        numbers = self.encode(raw_item_ids)
        known = np.zeros(self.num_items, np.int64)
        known[numbers[numbers > 0] - 1] = counts[numbers > 0]
        is_new = pa.array(numbers == 0)
        new = Vocabulary.from_counts(raw_item_ids.filter(is_new), counts[numbers == 0])
        kind = self.raw_item_ids.type
        ids = pa.concat_arrays([self.raw_item_ids, new.raw_item_ids.cast(kind)])
        return Vocabulary(ids, np.concatenate([known, new.counts]))

    def with_counts(self, target_counts: Int64) -> "Vocabulary":
        """The same items with how often each is a target."""
        return Vocabulary(self.raw_item_ids, self.counts, target_counts, self.is_listed)

    def with_listed(self, raw_item_ids: pa.Array) -> "Vocabulary":
        """This one with the items of a table of features: those that it lacks follow, count 0."""
        new = raw_item_ids.filter(pa.array(self.encode(raw_item_ids) == 0))
        new = new.take(pc.sort_indices(new))
        ids = pa.concat_arrays([self.raw_item_ids, new])
        counts = np.concatenate([self.counts, np.zeros(len(new), np.int64)])
        is_listed = pc.is_in(ids, raw_item_ids).to_numpy(zero_copy_only=False)
        return Vocabulary(ids, counts, is_listed=is_listed)

    def appended(self, raw_item_ids: pa.Array) -> "Vocabulary":
        """This one with new items of a table of features, in this order."""
        assert self.is_listed is not None
        ids = pa.concat_arrays([self.raw_item_ids, raw_item_ids])
        counts = np.concatenate([self.counts, np.zeros(len(raw_item_ids), np.int64)])
        is_listed = np.concatenate([self.is_listed, np.ones(len(raw_item_ids), bool)])
        return Vocabulary(ids, counts, is_listed=is_listed)

    def decode(self, item_ids: Int32) -> pa.Array:
        """Raw ids of item ids; 0 (padding) is an error."""
        assert len(item_ids) == 0 or int(item_ids.min()) >= 1
        return self.raw_item_ids.take(pa.array(item_ids.astype(np.int64) - 1))

    def extends(self, other: "Vocabulary") -> bool:
        """Whether this starts with all of ``other``'s items, in the same order."""
        shared = other.num_items
        if shared > self.num_items or self.raw_item_ids.type != other.raw_item_ids.type:
            return False
        return bool(self.raw_item_ids.slice(0, shared).equals(other.raw_item_ids))


def load_vocabulary(directory: Location) -> Vocabulary:
    """The vocabulary of a model or dataset directory.

    Raises:
        InputError: The file is missing or damaged, or numbers items otherwise than when the
            directory was finished.
    """
    vocabulary, recorded = Vocabulary.load(directory / ITEMS), _recorded_fingerprint(directory)
    if recorded not in (None, vocabulary.fingerprint):
        raise InputError(
            f"{directory / ITEMS}: other items than the manifest names (vocabulary_fingerprint); "
            "the file was replaced: put the right one back, or make this result again with --force"
        )
    return vocabulary


def _recorded_fingerprint(directory: Location) -> str | None:
    """The fingerprint of its items that a directory was finished with; None while it is not."""
    try:
        found = (directory / MANIFEST).read_json().get("vocabulary_fingerprint")
    except FileNotFoundError:
        return None
    return None if found is None else str(found)


def dead_items(dataset: Vocabulary, model: Vocabulary, mapping: Int32 | None) -> Int64:
    """Ids of the model's items that are in no list of a dataset's users; 0 for unknown ones.

    The dataset counts them 0 times. An item of its table of features is an exception if the model
    has learned of items by theirs, or has met it.

    Args:
        dataset: Items of the dataset.
        model: Items of the model.
        mapping: Dataset item ids -> model item ids; None when they are the same.
    """
    dead = np.flatnonzero(dataset.popularity == 0) + 1
    found: Int64 = dead if mapping is None else mapping[dead].astype(np.int64)
    if model.is_listed is None:
        return found
    if dataset.is_listed is not None:
        has_vector = np.concatenate([[False], model.is_offered])
        is_dead: Bool = ~(dataset.is_listed[dead - 1] & has_vector[found])
        found = found[is_dead]
    # Nobody has met those either, and the dataset's table has them no more.
    known = np.arange(dataset.num_items + 1) if mapping is None else mapping
    gone = np.setdiff1d(np.flatnonzero(model.popularity == 0) + 1, known)
    return np.concatenate([found, gone])


def vocabulary_mapping(dataset: Location, model: Location, map_items: bool) -> Int32 | None:
    """The model's item ids by those of the dataset; None when they are the same.

    Raises:
        VocabularyMismatchError: They number items differently, and ``map_items`` is false.
    """
    return item_id_mapping(
        load_vocabulary(dataset),
        load_vocabulary(model),
        map_items,
        f"dataset {dataset.name} and model {model.name}",
    )


class _HashIndex:
    """Positions of ids, found by their hashes; ids themselves decide."""

    def __init__(self, ids: pa.Array) -> None:
        hashes = hash_ids(ids)
        self._ids = ids
        self._positions = np.argsort(hashes)
        self._hashes = hashes[self._positions]
        self.is_unique = bool(len(ids)) and bool((self._hashes[1:] != self._hashes[:-1]).all())

    def find(self, ids: pa.Array | pa.ChunkedArray) -> Int32:
        """Look up item ids, from 1; 0 for ids that are not there."""
        if isinstance(ids, pa.ChunkedArray):
            ids = ids.combine_chunks()
        at = np.searchsorted(self._hashes, hash_ids(ids))
        positions = self._positions[np.minimum(at, len(self._hashes) - 1)]
        # Another id may have the hash of one that is there.
        is_same = pc.equal(self._ids.take(pa.array(positions)), ids)
        is_there = pc.fill_null(is_same, False).to_numpy(zero_copy_only=False)
        return np.where(is_there, positions + 1, 0).astype(np.int32)


def item_id_mapping(
    dataset: Vocabulary, model: Vocabulary, by_raw_id: bool, names: str
) -> Int32 | None:
    """Translation of a dataset's item ids into a model's: row i holds the model's id of item i.

    None when they are equal and nothing needs translating. Items unknown to the model map to 0.

    Args:
        dataset: The dataset's items.
        model: The model's items.
        by_raw_id: Translate vocabularies that disagree by raw id instead of refusing.
        names: Names of the two, for errors.

    Raises:
        VocabularyMismatchError: Neither extends the other and ``by_raw_id`` is false.
    """
    if model.extends(dataset):
        return None
    if not dataset.extends(model) and not by_raw_id:
        raise VocabularyMismatchError(
            f"{names} number their items differently (vocabularies {dataset.fingerprint} and "
            f"{model.fingerprint}, {dataset.num_items} and {model.num_items} items); train on this "
            "dataset, or map items by raw id with --map-items"
        )
    if dataset.raw_item_ids.type != model.raw_item_ids.type:
        raise VocabularyMismatchError(
            f"{names} have item ids of different types: {dataset.raw_item_ids.type} and "
            f"{model.raw_item_ids.type}; set data.item_id_type to make them equal"
        )
    return np.concatenate([np.zeros(1, np.int32), model.encode(dataset.raw_item_ids)])
