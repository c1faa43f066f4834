"""Text files as pieces that begin and end at line ends, whole or from compressed streams."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lightsans.arrays import Int64
from lightsans.errors import EmptyFileError, InputError
from lightsans.storage.location import Location

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
MAX_LINE_BYTES = 64 * 2**20
"""A longer line is taken for a file that is not text, or whose lines do not end with \\n."""

_STEP = 2**16


def compression_of(name: str) -> str | None:
    """Arrow's name of the compression that a file name ends with, if any."""
    return next((c for ending, c in COMPRESSIONS.items() if name.lower().endswith(ending)), None)


def open_stream(file: Location) -> pa.NativeFile:
    """The file's bytes, decompressed."""
    raw = pa.PythonFile(file.open(), mode="r")
    compression = compression_of(file.name)
    return raw if compression is None else pa.CompressedInputStream(raw, compression)


def read_lines(
    file: Location, start: int, end: int, data_start: int, size: int
) -> tuple[bytes, int]:
    """The lines whose first byte lies in ``start`` to ``end``, and the offset of that byte.

    Args:
        file: An uncompressed text file.
        start: First byte of the range.
        end: Its end.
        data_start: Where the first line after a header begins.
        size: Bytes of the file when it was listed; what was appended since is not read.

    Raises:
        InputError: The file is shorter than when it was listed.
    """
    offset = max(start - 1, data_start)
    content = _read_exactly(file, offset, end)
    if start > data_start:
        skipped = content.find(b"\n") + 1
        if skipped == 0:
            return b"", end
        content, offset = content[skipped:], offset + skipped
    if not content or content.endswith(b"\n"):
        return content, offset
    return content + _rest_of_line(file, end, size), offset


def read_pieces(stream: pa.NativeFile, piece_bytes: int, name: str) -> Iterator[bytes]:
    """A stream as pieces of whole lines, each about ``piece_bytes`` long."""
    rest: list[bytes] = []
    while block := stream.read(piece_bytes):
        cut = block.rfind(b"\n") + 1
        if cut:
            yield b"".join([*rest, block[:cut]])
            rest = []
        rest.append(block[cut:])
        _check_line_length(sum(map(len, rest)), name)
    last = b"".join(rest)
    if last:
        yield last


def read_first_lines(file: Location, size: int) -> bytes:
    """The beginning of a text file, decompressed: at least its first non-blank line.

    Raises:
        InputError: The file is empty, or in UTF-16.
    """
    if size == 0:
        raise EmptyFileError(f"{file}: the file is empty (0 bytes); remove it from data.input")
    with open_stream(file) as stream:
        content = b""
        while block := stream.read(_STEP):
            content += block
            if b"\n" in content.lstrip():
                break
            _check_line_length(len(content), file.uri)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{file}: the file is in UTF-16; convert it to UTF-8")
    if not content.strip():
        raise EmptyFileError(f"{file}: the file holds no line; remove it from data.input")
    return content


def line_starts(piece: bytes) -> Int64:
    """Offsets of the lines of a piece, blank ones left out. A lone CR ends a line as well."""
    data = np.frombuffer(piece, np.uint8)
    ends = np.flatnonzero((data == 10) | (data == 13))
    starts = np.concatenate([[0], ends + 1])
    return starts[np.append(ends, len(data)) > starts]


def _rest_of_line(file: Location, start: int, size: int) -> bytes:
    found = b""
    while start < size and not found.endswith(b"\n"):
        block = _read_exactly(file, start, min(start + _STEP, size))
        found += block[: block.find(b"\n") + 1 or len(block)]
        start += len(block)
        _check_line_length(len(found), file.uri)
    return found


def _read_exactly(file: Location, start: int, end: int) -> bytes:
    content = file.read_range(start, end)
    if len(content) < end - start:
        raise InputError(
            f"{file}: the file became shorter while it was being read: bytes {start:,} to {end:,} "
            f"hold {len(content):,}; run again when nobody writes to it"
        )
    return content


def _check_line_length(length: int, name: str) -> None:
    if length > MAX_LINE_BYTES:
        raise InputError(
            f"{name}: a line is longer than {MAX_LINE_BYTES:,} bytes; is this a text file whose "
            "lines end with \\n? data.format says how files are read"
        )
