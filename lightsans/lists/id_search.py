"""Search files for the ids of some users: columns of ids by type, all other bytes as text.

A column of users is one that is named so, and its ids are compared whole. In any other text an id
is found where it stands by itself, ``u-17`` not in ``u-170``, as it is or as JSON, HTML and
addresses write it; short ones, which are found in anything, are not looked for there.
"""

import html
import json
import re
import zipfile
from collections.abc import Iterator
from typing import IO
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.columns.arrow import is_list
from lightsans.columns.nulls import bools
from lightsans.lists.id_lists import IdList
from lightsans.reading.values import is_text_like

SHORTEST_TEXT, SHORTEST_NUMBER = 5, 9
"""Characters of an id, and digits of one that is a number, from which on it is told from others."""
_BLOCK = 4 << 20
_ROWS_AT_ONCE = 64 * 1024
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_ZIP, _PARQUET = b"PK\x03\x04", b"PAR1"
_NO_USERS = (
    "item", "time", "order_key", "fingerprint", "bucket", "count", "position", "hash", "users"
)  # fmt: skip
"""Parts of the names of columns of integers that are no ids of users, however long."""
_WORD = re.compile(rb"[\w\x80-\xff]")
_JOINT = b"-.@+:"
"""Characters that belong to an id where a letter or a digit follows."""


class IdSearch:
    """Finds the ids of a list in tables and in text.

    Args:
        listed: The ids.
    """

    def __init__(self, listed: IdList) -> None:
        self.texts = listed.ids
        self.integers = listed.of_type(pa.int64())
        self._by_beginning: dict[bytes, dict[int, dict[bytes, str]]] = {}
        longest = 0
        for text in self.texts.to_pylist():
            if not is_distinctive(text):
                continue
            for needle in _written(text):
                longest = max(longest, len(needle))
                lengths = self._by_beginning.setdefault(needle[:SHORTEST_TEXT], {})
                lengths.setdefault(len(needle), {})[needle] = text
        self._margin = longest + 2
        self._beginnings = np.array(
            sorted(int.from_bytes(each, "little") for each in self._by_beginning), np.uint64
        )
        self._is_pair = np.zeros(1 << 16, bool)
        for beginning in self._by_beginning:
            self._is_pair[int.from_bytes(beginning[:2], "little")] = True

    @property
    def num_short(self) -> int:
        """Number of ids that are looked for in columns of users alone."""
        return sum(not is_distinctive(text) for text in self.texts.to_pylist())

    def in_file(self, file: IO[bytes]) -> set[str]:
        """The ids that a file holds, its tables read and its compression undone.

        Raises:
            pa.ArrowException, OSError, EOFError, zipfile.BadZipFile: It is damaged.
        """
        beginning = file.read(4)
        file.seek(0)
        if beginning == _PARQUET:
            return self.in_parquet(file)
        if beginning == _ZIP:
            found = set[str]()
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    found |= self.in_text(name.encode())
                    with archive.open(name) as member:
                        found |= self._in_stream(member)
            return found
        found = self._in_stream(file)
        for magic, compression in _COMPRESSIONS.items():
            if beginning.startswith(magic):
                file.seek(0)
                with pa.input_stream(file, compression=compression) as stream:
                    found |= self._in_stream(stream)
        return found

    def in_parquet(self, file: IO[bytes]) -> set[str]:
        """The ids that a parquet file holds, in any of its columns or its footer."""
        with pq.ParquetFile(file) as opened:
            metadata = opened.schema_arrow.metadata or {}
            found = self.in_text(b"\n".join([*metadata, *metadata.values()]))
            for batch in opened.iter_batches(_ROWS_AT_ONCE):
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    found |= self.in_column(name, column)
        return found

    def in_column(self, name: str, column: pa.Array) -> set[str]:
        """The ids that a column holds, also within its lists."""
        found = set[str]()
        for path, values in _leaves(name, column):
            values = pc.unique(values.drop_null())
            is_of_users = "user" in path
            if pa.types.is_integer(values.type):
                if not any(word in path for word in _NO_USERS):
                    found |= self._integers_in(values, short_ones=is_of_users)
            elif is_of_users:
                found |= self._texts_in(values)
            if is_text_like(values.type):
                found |= self.in_text(b"\n".join(values.cast(pa.large_binary()).to_pylist()))
        return found

    def in_text(self, data: bytes) -> set[str]:
        """The ids that stand by themselves in some bytes."""
        found = set[str]()
        for at in self._suspects(data):
            lengths = self._by_beginning[data[at : at + SHORTEST_TEXT]]
            for length, needles in lengths.items():
                text = needles.get(data[at : at + length])
                if text is not None and _is_alone(data, at, at + length):
                    found.add(text)
        return found

    def without(self, data: bytes, by: bytes) -> bytes:
        """The bytes with something else in the place of every id that stands by itself."""
        pieces, end = [], 0
        for at in self._suspects(data):
            if at < end:
                continue
            lengths = self._by_beginning[data[at : at + SHORTEST_TEXT]]
            for length in sorted(lengths, reverse=True):
                is_there = data[at : at + length] in lengths[length]
                if is_there and _is_alone(data, at, at + length):
                    pieces += [data[end:at], by]
                    end = at + length
                    break
        return b"".join([*pieces, data[end:]])

    def _texts_in(self, column: pa.Array) -> set[str]:
        """The ids in a column of users that are text."""
        if not is_text_like(column.type):
            return set()
        kind = pa.large_binary()  # bytes beside the ids may be no text
        is_there = pc.is_in(self.texts.cast(kind), column.cast(kind))
        return set(self.texts.filter(is_there).to_pylist())

    def _integers_in(self, column: pa.Array, short_ones: bool) -> set[str]:
        """The ids in a column of integers."""
        if pa.types.is_uint64(column.type):
            column = column.filter(pc.less(column, pa.scalar(1 << 63, pa.uint64())))
        there = bools(pc.is_in(self.integers, column.cast(pa.int64())))
        found = map(str, self.integers.filter(pa.array(there)).to_pylist())
        return {text for text in found if short_ones or is_distinctive(text)}

    def _in_stream(self, stream: IO[bytes]) -> set[str]:
        found, before = set[str](), b""
        while block := stream.read(_BLOCK):
            data = before + block
            found |= self.in_text(data)
            before = data[-self._margin :]
        return found

    def _suspects(self, data: bytes) -> Iterator[int]:
        """Places where an id may begin."""
        if not self._by_beginning or len(data) < SHORTEST_TEXT:
            return
        block = np.frombuffer(data, np.uint8)
        last = len(block) - SHORTEST_TEXT + 1
        pairs = block[:last].astype(np.uint16) | (block[1 : last + 1].astype(np.uint16) << 8)
        places = np.flatnonzero(self._is_pair[pairs])
        keys = np.zeros(len(places), np.uint64)
        for number in range(SHORTEST_TEXT):
            keys |= block[places + number].astype(np.uint64) << np.uint64(8 * number)
        yield from places[np.isin(keys, self._beginnings)].tolist()


def is_distinctive(text: str) -> bool:
    """Whether an id is long enough to be told from other words and numbers of a text."""
    stripped = text.strip()
    return len(stripped.encode()) >= (
        SHORTEST_NUMBER if stripped.lstrip("-").isdecimal() else SHORTEST_TEXT
    )


def _written(text: str) -> set[bytes]:
    """An id as files may write it; every way is at least as long as the id."""
    raw = text.encode(errors="surrogatepass")
    return {
        raw,
        json.dumps(text)[1:-1].encode(),
        json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="surrogatepass"),
        html.escape(text).encode(errors="surrogatepass"),
        quote(raw, safe="").encode(),
    }


def _is_alone(data: bytes, start: int, end: int) -> bool:
    before, after = data[max(0, start - 2) : start], data[end : end + 2]
    return not (_continues(before[::-1]) or _continues(after))


def _continues(beside: bytes) -> bool:
    """Whether what stands beside an id makes it another one; two bytes, the nearer one first."""
    if not beside:
        return False
    if beside[0] in _JOINT:
        return _WORD.match(beside[1:]) is not None
    return _WORD.match(beside) is not None


def _leaves(name: str, column: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Columns without lists, records and dictionaries, each by its path."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        yield from _leaves(name, column.dictionary)
    elif pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _leaves(f"{name}.{kind.field(number).name}", column.field(number))
    elif pa.types.is_map(kind):
        yield from _leaves(f"{name}.key", column.keys)
        yield from _leaves(f"{name}.value", column.items)
    elif is_list(kind):
        yield from _leaves(name, column.flatten())
    else:
        yield name, column
