"""One input file: what was listed, which columns it has, and how they are read."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from lightsans.errors import InputError
from lightsans.reading.rows import RawRows
from lightsans.storage.listing import as_listed, check_unchanged, is_pinned
from lightsans.storage.location import FileInfo, Location
from lightsans.text.coding import DAMAGED, PLAIN, Coding

WHERE = "where:"
"""Begins the roles of columns that only ``data.where`` looks at; the name of the column follows."""
FEATURES = ("categorical.", "vector.")
"""Begin the roles of columns of an item table that may hold lists; JSON lines give their text."""
LISTS = "items"
"""Role of a column of lists; JSON lines give their text."""
BESIDE = "beside."
"""Begins the roles of columns of any kind, which are written as they are: JSON lines give the text
of their lists and objects."""


class TextLayout(ABC):
    """Splits the lines of a text file into rows."""

    __slots__ = ()

    @abstractmethod
    def parse(self, content: bytes, name: str) -> Iterator[RawRows]:
        """The rows of whole lines; positions are bytes of the content.

        Args:
            content: Whole lines.
            name: Where they are from, for messages.
        """

    def parse_stream(
        self, stream: pa.NativeFile, block_bytes: int, name: str
    ) -> Iterator[RawRows] | None:
        """The rows of a stream, numbered, where values may span lines; None where none does."""
        return None

    def spans_lines(self) -> bool:
        """Whether values may span lines, so that the file is read from its beginning."""
        return False


class GroupLayout(ABC):
    """Reads rows from the row groups of a file with a footer."""

    __slots__ = ()

    @abstractmethod
    def row_groups(self) -> Sequence[tuple[int, int]]:
        """Rows and decoded bytes of each row group."""

    @abstractmethod
    def read(self, file: Location, groups: Sequence[int], first_row: int) -> Iterator[RawRows]:
        """The rows of consecutive row groups; positions are row numbers from ``first_row``."""


@dataclass(frozen=True, slots=True)
class Head(ABC):
    """Columns that the beginning or the footer of a file tells."""

    names: tuple[str, ...]
    types: Sequence[pa.DataType]
    """Type of the values of each column; binary in text files."""
    data_start: int
    """Byte, after decompression, where the data of a text file begins."""
    coding: Coding
    """How a text file is stored."""
    beginning: bytes
    """The first lines of a text file, in UTF-8 if they can be."""

    def least_value(self, position: int) -> pa.Scalar | None:
        """The least value of a column, if the file says it and the column has no null."""
        return None

    @abstractmethod
    def layout(self, roles: Mapping[str, int]) -> TextLayout | GroupLayout:
        """How to read the columns at some positions, each under the name of its role."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file, and how to read the columns that are wanted of it."""

    listed: FileInfo
    layout: TextLayout | GroupLayout
    data_start: int = 0
    """Byte, after decompression, where the data of a text file begins."""
    coding: Coding = PLAIN
    """How a text file is stored."""
    partition: Mapping[str, str | None] = field(default_factory=dict)
    """Values, by role, that the names of directories give every row; None is a missing one."""
    id_types: Mapping[str, str | None] = field(default_factory=dict)
    """``string`` or ``int64`` for user and item of a log; None where the file shows no id."""
    oldest: int | None = None
    """Least timestamp of its rows in microseconds, if the file proves it without being read."""

    @property
    def location(self) -> Location:
        """Location of the file."""
        return self.listed.location

    @property
    def content(self) -> Location:
        """The file to read from; see `as_listed`."""
        return as_listed(self.listed)

    @property
    def size(self) -> int:
        """Bytes when it was listed."""
        return self.listed.size


@contextmanager
def unchanged(file: FileInfo) -> Iterator[None]:
    """Within the block, a file that is not the one listed is an `InputError` that names it.

    It is looked at before and after: content read between two looks at the same etag, or
    modification time, is the content that was listed. Where `as_listed` reads no other version
    nobody needs to look.
    """
    looks = not is_pinned(file)
    if looks:
        check_unchanged([file])
    with told_as_change(file):
        yield
    if looks:
        check_unchanged([file])


@contextmanager
def told_as_change(file: FileInfo) -> Iterator[None]:
    """Within the block, what goes wrong with a file that is not the one listed is that error."""
    try:
        yield
    except (InputError, OSError):
        check_unchanged([file])
        raise


@contextmanager
def readable(file: Location) -> Iterator[None]:
    """Within the block, what makes ``file`` unreadable is an `InputError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; it must lie where every node of the cluster can read it"
        ) from None
    except PermissionError as error:
        raise InputError(f"{file}: permission denied: {error}") from None
    except DAMAGED as error:
        raise InputError(f"{file}: the file is damaged or cut off: {error}") from None
    except OSError as error:
        # Arrow's own errors about content have neither a number nor a class of their own; those
        # of disks and networks do.
        if type(error) is not OSError or error.errno is not None:
            raise
        raise InputError(f"{file}: the file is damaged or cut off: {error}") from None


def is_number(kind: pa.DataType) -> bool:
    """Whether values of this type are numbers, or there are none."""
    is_some = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(is_kind(kind) for is_kind in is_some)
