"""How the lines of a text file are stored: compressed, in another encoding, as a JSON array."""

import codecs
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final, Protocol

import pyarrow as pa

from lightsans.errors import InputError
from lightsans.storage.listing import is_data
from lightsans.storage.location import Location
from lightsans.text.json_records import JsonRecords

COMPRESSIONS: Final[Mapping[str, str]] = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".bz2": "bz2",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".lz4": "lz4",
    ".xz": "xz",
    ".zip": "zip",
}
"""Endings of the names of compressed files."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without a file
}
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, with whose mark it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}
_UTF8 = ("utf-8", "utf-8-sig", "ascii")
DAMAGED = (lzma.LZMAError, zipfile.BadZipFile, zlib.error, EOFError)
"""Errors of compressed content that is not what it should be."""


@dataclass(frozen=True, slots=True)
class Coding:
    """Steps from the bytes of a file to lines in UTF-8."""

    compression: str | None = None
    encoding: str = "utf-8"
    is_json_records: bool = False
    """Whether objects span lines, or are elements of an array."""

    @property
    def is_plain(self) -> bool:
        """Whether the file is its lines, so that it may be read in pieces."""
        return self == PLAIN


PLAIN: Final = Coding()


class Readable(Protocol):
    """Bytes that are read one after the other."""

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes; none at the end."""


def compression_by_name(name: str) -> str | None:
    """The compression that a file name ends with, if any."""
    name = name.lower()
    return next((c for ending, c in COMPRESSIONS.items() if name.endswith(ending)), None)


def compression_of(beginning: bytes) -> str | None:
    """The compression of content that begins with these bytes, if any."""
    return next((c for magic, c in _MAGIC.items() if beginning.startswith(magic)), None)


def find_coding(file: Location, beginning: bytes, encoding: str) -> Coding:
    """Compression and encoding of a text file.

    Args:
        file: The file.
        beginning: Its first bytes, as they are stored.
        encoding: The setting; a byte order mark wins over it.
    """
    compression = compression_of(beginning)
    if compression is not None:
        with open_stream(file, Coding(compression)) as stream:
            beginning = stream.read(4)
    marked = next((name for mark, name in _MARKS.items() if beginning.startswith(mark)), None)
    name = marked or codecs.lookup(encoding).name
    return Coding(compression, "utf-8" if name in _UTF8 else name)


@contextmanager
def open_stream(file: Location, coding: Coding | None = None) -> Iterator[pa.NativeFile]:
    """The file's lines in UTF-8, one after the other.

    Args:
        file: The file.
        coding: How it is stored; None looks for a compression.

    Raises:
        InputError: An archive holds no file, or several.
    """
    with file.open() as raw:
        if coding is None:
            coding = Coding(compression_of(raw.read(16)))
            raw.seek(0)
        stream = _decompressed(raw, coding.compression, file.uri)
        if coding.encoding != "utf-8":
            stream = _native(_Transcoded(stream, coding.encoding, file.uri))
        if coding.is_json_records:
            stream = _native(JsonRecords(stream, file.uri))
        yield stream


def _native(stream: object) -> pa.NativeFile:
    return pa.PythonFile(stream, mode="r")


def _decompressed(raw: IO[bytes], compression: str | None, name: str) -> pa.NativeFile:
    if compression is None:
        return _native(raw)
    if compression == "xz":
        return _native(lzma.LZMAFile(raw))
    if compression == "zip":
        return _native(_only_member(raw, name))
    return pa.CompressedInputStream(_native(raw), compression)


def _only_member(raw: IO[bytes], name: str) -> IO[bytes]:
    archive = zipfile.ZipFile(raw)
    if "[Content_Types].xml" in archive.namelist():
        raise InputError(f"{name}: the file is an Excel workbook; save it as csv")
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > 1:  # what programs leave beside data, such as .DS_Store and __MACOSX/
        members = [member for member in members if is_data(member.filename, member.file_size)]
    if len(members) != 1:
        names = ", ".join(repr(member.filename) for member in members[:5]) or "nothing"
        raise InputError(f"{name}: expected one file in the archive, found {names}; unpack it")
    if members[0].flag_bits & 1:
        raise InputError(f"{name}: the archive needs a password; unpack it")
    try:
        return archive.open(members[0])
    except NotImplementedError:  # Windows does so with files beyond 2 GB
        raise InputError(
            f"{name}: the archive is compressed in a way that is not read here, such as Deflate64; "
            "unpack it"
        ) from None


class _Transcoded:
    """A stream in another encoding as UTF-8; bytes that cannot be decoded are left as they are."""

    def __init__(self, stream: Readable, encoding: str, name: str) -> None:
        self._stream, self._name, self._encoding = stream, name, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._rest, self._is_done = b"", False
        self.closed = False

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes."""
        while not self._rest and not self._is_done:
            block = self._stream.read(size)
            self._is_done = not block
            try:
                text = self._decoder.decode(block, final=self._is_done)
            except UnicodeError as error:  # also of UTF-16 without its mark
                raise InputError(
                    f"{self._name}: not readable as {self._encoding}: {error}; data.encoding says "
                    "how text is encoded"
                ) from None
            self._rest = text.encode("utf-8", "surrogateescape")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def close(self) -> None:
        """Nothing to close: the stream belongs to the caller."""
        self.closed = True


def is_utf8(content: bytes) -> bool:
    """Whether the beginning of a text is UTF-8; its last character may be cut.

    Text in UTF-16 without a byte order mark would be, with a NUL beside every letter.
    """
    if _has_many_nuls(content):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False
    return True


def likely_encodings(content: bytes) -> list[str]:
    """Names of encodings that text which is not UTF-8 may be in, the likeliest first."""
    if _has_many_nuls(content):
        first_is_zero = content[::2].count(b"\0") > content[1::2].count(b"\0")
        return ["utf-16-be" if first_is_zero else "utf-16-le"]
    high = [byte >= 0x80 for byte in content]
    alone = sum(
        is_high and not (before or after)
        for before, is_high, after in zip([False, *high], high, [*high[1:], False], strict=False)
    )
    if 2 * alone > sum(high):  # letters with accents among plain ones
        return ["latin-1", "cp1252"]
    whole = content[: content.rfind(b"\n") + 1] or content
    return [name for name in ("gb18030", "big5", "shift_jis", "euc_kr") if _fits(whole, name)] + [
        "cp1251",
        "latin-1",
    ]


def _has_many_nuls(content: bytes) -> bool:
    return content.count(b"\0") > len(content) // 4


def _fits(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
