"""JSON objects over lines, or in an array, as JSON lines."""

import codecs
import json
from typing import Final, Protocol

from lightsans.errors import InputError

MAX_RECORD_BYTES: Final = 64 * 2**20
_BLOCK = 2**20
_BETWEEN = " \t\r\n,[]\ufeff"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class JsonRecords:
    """A stream of JSON values as lines, one value each.

    No more is held than a block and an unfinished value.
    """

    def __init__(self, stream: _Readable, name: str) -> None:
        self._stream, self._name = stream, name
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._parse = json.JSONDecoder().raw_decode
        self._text, self._lines = "", b""
        self._num_passed = self._num_open = 0
        self._is_done = False
        self.closed = False

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes of lines.

        Raises:
            InputError: The text is not JSON, or ends within an array.
        """
        while not self._lines and not (self._is_done and not self._text):
            block = self._stream.read(_BLOCK)
            self._is_done = not block
            self._text += self._decode(block, final=self._is_done)
            self._lines = self._take_values()
            if self._is_done and self._num_open > 0:
                raise InputError(
                    f"{self._name}: not readable as JSON: an array is not closed at the end; the "
                    "file is cut off"
                )
        found, self._lines = self._lines[:size], self._lines[size:]
        return found

    def close(self) -> None:
        """Nothing to close: the stream belongs to the caller."""
        self.closed = True

    def _take_values(self) -> bytes:
        """The finished values at the beginning of the text, which keeps the rest."""
        text, at, lines = self._text, 0, []
        while True:
            before, at = at, _skip(text, at)
            between = text[before:at]
            self._num_open += between.count("[") - between.count("]")
            if at == len(text):
                break
            try:
                _, end = self._parse(text, at)
            except (ValueError, RecursionError) as error:
                if self._is_done or len(text) - at > MAX_RECORD_BYTES:
                    where = self._num_passed + at
                    raise InputError(
                        f"{self._name}: not readable as JSON from character {where:,} on "
                        f"({text[at : at + 40]!r}): {getattr(error, 'msg', error)}"
                    ) from None
                break
            lines.append(text[at:end].replace("\n", " ").replace("\r", " "))
            at = end
        self._num_passed += at
        self._text = text[at:]
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _skip(text: str, at: int) -> int:
    """The place of the next value."""
    while at < len(text) and text[at] in _BETWEEN:
        at += 1
    return at


def spans_lines(beginning: bytes) -> bool:
    """Whether text that begins so is JSON, but not an object a line.

    Its objects are in an array, span lines, share one, or have commas between them.
    """
    text = beginning.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text.startswith("["):
        return text[1:].lstrip().startswith(("{", "]"))
    if not text.startswith("{"):
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        first = text.partition("\n")[0].rstrip()
        return first == "{" or first.endswith(("{", ",", "["))
    rest = text[end:].lstrip(" \t")
    return "\n" in text[:end] or rest.startswith(("{", ","))
