"""One input file: what was listed, which column holds what, and the types of its ids."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from lightsans.config import DataConfig
from lightsans.errors import InputError
from lightsans.reading.rows import RawRows
from lightsans.reading.values import is_text
from lightsans.storage.listing import check_unchanged
from lightsans.storage.location import FileInfo, Location


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
class InputFile:
    """A file whose beginning or footer has been looked at."""

    listed: FileInfo
    layout: TextLayout | GroupLayout
    id_types: Mapping[str, str | None]
    """``string`` or ``int64`` for user and item; None where the file shows no id."""
    data_start: int = 0
    """Byte, after decompression, where the data of a text file begins."""

    @property
    def location(self) -> Location:
        """Location of the file."""
        return self.listed.location

    @property
    def size(self) -> int:
        """Bytes when it was listed."""
        return self.listed.size


@contextmanager
def unchanged(file: FileInfo) -> Iterator[None]:
    """Within the block, a file that is not the one listed is an `InputError` that names it.

    It is looked at before and after: content read between two looks at the same etag, or
    modification time, is the content that was listed. What else goes wrong with a changed file is
    told as the change.
    """
    check_unchanged([file])
    try:
        yield
    except (InputError, OSError):
        check_unchanged([file])
        raise
    check_unchanged([file])


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
    except OSError as error:
        # Arrow's own errors about content have neither a number nor a class of their own; those
        # of disks and networks do.
        if type(error) is not OSError or error.errno is not None:
            raise
        raise InputError(f"{file}: the file is damaged or cut off: {error}") from None


def find_roles(file: Location, names: Sequence[str], data: DataConfig) -> dict[str, int]:
    """Find the columns of a file that hold user, item, timestamp and rating.

    A column may be given by name or by position. A rating column that is absent is left out,
    unless ``data.min_rating`` needs it.

    Raises:
        InputError: A column is missing, or its name occurs twice.
    """
    columns = data.columns
    wanted = {"user": columns.user, "item": columns.item, "timestamp": columns.timestamp}
    if columns.rating is not None:
        wanted["rating"] = columns.rating
    found = {}
    for role, column in wanted.items():
        position = _position(file, role, column, names)
        if position is not None:
            found[role] = position
        elif role != "rating" or data.min_rating is not None:
            raise InputError(_missing_column(file, role, column, names))
    return found


def _position(file: Location, role: str, column: str | int, names: Sequence[str]) -> int | None:
    if column in names:
        if list(names).count(str(column)) > 1:
            raise InputError(
                f"{file}: column {column!r} occurs twice; rename one, or give "
                f"data.columns.{role} as a position"
            )
        return list(names).index(str(column))
    if isinstance(column, int) or column.isdigit():
        return int(column) if int(column) < len(names) else None
    return None


def _missing_column(file: Location, role: str, column: str | int, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(column), names, n=1)
    message = f"{file}: there is no column {column!r}; found {', '.join(map(repr, names))}"
    if near:
        message += f"; did you mean {near[0]!r}?"
    message += f" Set data.columns.{role}"
    return message + (", or data.separator" if len(names) == 1 else "")


def id_type_of(
    file: Location, role: str, name: str, found: pa.DataType, data: DataConfig
) -> str | None:
    """``string``, ``int64``, or None for a column without values."""
    configured = data.user_id_type if role == "user" else data.item_id_type
    is_usable = is_text(found) or pa.types.is_null(found) or pa.types.is_integer(found)
    if not is_usable and not pa.types.is_floating(found):
        raise InputError(wrong_type(file, role, name, found))
    if configured != "auto":
        return configured
    if pa.types.is_floating(found):
        raise InputError(
            f"{file}: ids in column {name!r} are {found}, which rounds large ones; set "
            f"data.{role}_id_type to int64 (whole numbers are converted, others refused) or to "
            "string, or mend the column: integers with gaps often become floats in pandas"
        )
    if pa.types.is_null(found):
        return None
    return "string" if is_text(found) else "int64"


def wrong_type(file: Location, role: str, name: str, found: pa.DataType | str) -> str:
    """The message about a column of a type that cannot be used."""
    expected = {
        "user": "text or integers",
        "item": "text or integers",
        "timestamp": "numbers, text, dates or timestamps",
        "rating": "numbers or text",
    }[role]
    return (
        f"{file}: column {name!r} ({role}) holds {found}, expected {expected}; convert it, or "
        f"set data.columns.{role} to another column"
    )


def is_number(kind: pa.DataType) -> bool:
    """Whether values of this type are numbers, or there are none."""
    is_some = (pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
    return any(is_kind(kind) for is_kind in is_some)
