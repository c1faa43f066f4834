"""Small steps between Arrow columns and numpy arrays that several modules share.

Text is wide (64-bit offsets) in memory, so that no part is too large for a column; files and other
programs see plain strings.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Array, Int32, Int64, UInt8, UInt64
from lightsans.columns.hashing import hash_ids

_CHUNK = 2**20  # ids of the greatest length that data.max_id_bytes usually allows: 1 GiB


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a dictionary, or the type itself."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_list(kind: pa.DataType) -> bool:
    """Whether values of a type are lists, of one length or of any."""
    kinds = pa.types
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def wide(kind: pa.DataType) -> pa.DataType:
    """The type that ids of a type have in memory: int64 or large_string."""
    return pa.int64() if pa.types.is_integer(kind) else pa.large_string()


def narrow(ids: pa.Array) -> pa.ChunkedArray:
    """Ids as files hold them, int64 or string; in several chunks, as one may be too small."""
    kind = pa.int64() if pa.types.is_integer(ids.type) else pa.string()
    pieces = [ids.slice(start, _CHUNK) for start in range(0, len(ids), _CHUNK)]
    return pa.chunked_array([piece.cast(kind) for piece in pieces], kind)


def one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as a single array."""
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def number_distinct(
    ids: pa.Array, order: Int64, starts: Int64, hashes: UInt64 | None = None
) -> tuple[Int32, pa.Array, Int64]:
    """Number the distinct ids of each stretch of some rows from 0 by first appearance.

    Args:
        ids: int64, text, or a dictionary of either; without nulls.
        order: (R,) index of the id of each row.
        starts: Where each stretch of rows begins, and the end of the last.
        hashes: `hash_ids` of ids that are no dictionary, where they are known already.

    Returns:
        (R,) numbers; the ids that they stand for, stretch after stretch; where each stretch begins
        among those.
    """
    from lightsans.columns import kernels  # Numba, as in `hash_segments`

    if pa.types.is_dictionary(ids.type):
        values = ids.dictionary
        found = kernels.renumber(codes_of(ids)[order], starts, len(values))
        numbers, used, used_starts = found
        return numbers, values.take(pa.array(used)).cast(wide(values.type)), used_starts
    data, offsets = _bytes_of(ids)
    hashes = hash_ids(ids) if hashes is None else hashes
    numbers, kept, ends, kept_starts = kernels.number_texts(data, offsets, hashes, order, starts)
    return numbers, _from_bytes(kept, ends, wide(ids.type)), kept_starts


def _bytes_of(ids: pa.Array) -> tuple[UInt8, Int64]:
    """The bytes of each id, end to end, and where each begins."""
    if pa.types.is_integer(ids.type):
        numbers = ids.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return numbers.view(np.uint8), np.arange(len(ids) + 1) * 8
    column = ids.cast(pa.large_binary())
    _, offset_buffer, data_buffer = column.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[column.offset :][: len(column) + 1]
    return np.frombuffer(data_buffer or b"", np.uint8), offsets


def _from_bytes(data: UInt8, offsets: Int64, kind: pa.DataType) -> pa.Array:
    """The ids whose bytes these are."""
    if pa.types.is_integer(kind):
        return pa.array(data.view(np.int64))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(offsets) - 1, buffers)


def encode(ids: pa.Array) -> pa.DictionaryArray:
    """Ids, no dictionary and without nulls, as int32 indices into distinct values."""
    rows = np.arange(len(ids))
    codes, values, _ = number_distinct(ids, rows, np.array([0, len(ids)]))
    return dictionary_of(codes, values)


def as_dictionary(ids: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    """Ids as int32 indices into distinct values, which are int64 or large_string."""
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    kind = value_type(ids.type)
    if not pa.types.is_dictionary(ids.type):
        return encode(one_chunk(ids).cast(wide(kind)))
    if not chunks:
        return encode(pa.array([], wide(kind)))
    if len(chunks) == 1:
        return dictionary_of(codes_of(chunks[0]), chunks[0].dictionary.cast(wide(kind)))
    values = pa.concat_arrays([chunk.dictionary.cast(wide(kind)) for chunk in chunks])
    counts = [len(chunk.dictionary) for chunk in chunks]
    firsts = np.cumsum(counts) - counts
    codes = [codes_of(chunk) + np.int32(at) for chunk, at in zip(chunks, firsts, strict=True)]
    distinct = encode(values)
    return dictionary_of(codes_of(distinct)[np.concatenate(codes)], distinct.dictionary)


def compact(ids: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same ids without the values that no row has."""
    from lightsans.columns import kernels  # Numba, as in `hash_segments`

    codes, starts = codes_of(ids), np.array([0, len(ids)])
    codes, used, _ = kernels.renumber(codes, starts, len(ids.dictionary))
    return dictionary_of(codes, ids.dictionary.take(pa.array(used)))


def dictionary_of(codes: Int32, values: pa.Array) -> pa.DictionaryArray:
    """A column of these indices into these values; none is looked at, as a check would do."""
    return pa.DictionaryArray.from_arrays(pa.array(codes), values, safe=False)


def codes_of(ids: pa.DictionaryArray) -> Int32:
    """The indices of a column without nulls."""
    codes: Int32 = ids.indices.to_numpy()
    return codes


def lists_of(values: Array | pa.Array, starts: Int64) -> pa.LargeListArray:
    """Values as lists that begin at ``starts``, whose last entry is the end."""
    return pa.LargeListArray.from_arrays(pa.array(starts), pa.array(values))


def ranks_of(ids: pa.Array) -> tuple[Int64, Int64]:
    """Order of some distinct ids, and the place of each in it."""
    order = pc.sort_indices(ids).to_numpy().astype(np.int64)
    ranks = np.empty(len(ids), np.int64)
    ranks[order] = np.arange(len(ids))
    return order, ranks
