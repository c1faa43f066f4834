"""Text files as pieces that begin and end at line ends, whole or from compressed streams."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lightsans.arrays import Int64
from lightsans.errors import EmptyFileError, InputError
from lightsans.storage.location import Location
from lightsans.text.coding import Coding, open_stream

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is taken for a file that is not text, or whose lines do not end with \\n."""

BOM = b"\xef\xbb\xbf"
_STEP = 2**16


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


def skip(stream: pa.NativeFile, num_bytes: int) -> None:
    """Read past the first bytes of a stream."""
    while num_bytes and (block := stream.read(num_bytes)):
        num_bytes -= len(block)


def read_beginning(file: Location, coding: Coding) -> bytes:
    """The beginning of a text file in UTF-8: at least its first non-blank line.

    Of an array that is a single line it is the first bytes.

    Raises:
        InputError: The file holds no line.
    """
    with open_stream(file, coding) as stream:
        content = b""
        while block := stream.read(_STEP):
            content += block
            begun = content.removeprefix(BOM).lstrip()
            if b"\n" in begun or begun.startswith(b"["):
                break
            _check_line_length(len(content), file.uri)
    if not content.removeprefix(BOM).strip():
        raise EmptyFileError(f"{file}: the file holds no line; fill it or take it away")
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
