"""RecBole's ``.inter``, ``.user`` and ``.item``: no quotes, and a header that carries types."""

from dataclasses import replace

from lightsans.config import DataConfig
from lightsans.reading.csv_files import CsvHead, csv_head
from lightsans.storage.location import Location
from lightsans.text import dialects
from lightsans.text.coding import Coding
from lightsans.text.pieces import read_beginning

_USUAL = "\t"


def read_head(file: Location, data: DataConfig, coding: Coding) -> CsvHead:
    """Look at the first lines of a file; fields are separated by tabs, unless there is none.

    Raises:
        InputError: There is no line.
    """
    content = read_beginning(file, coding)
    header = content.lstrip().partition(b"\n")[0]
    has_tabs = _USUAL.encode() in header
    found = dialects.read_head(
        content,
        file.uri,
        data.columns.required(),
        separator=_USUAL if has_tabs else data.separator,
        quote_char=None,
    )
    names = [name.rsplit(":", 1)[0] for name in found.fields]  # user_id:token
    return csv_head(replace(found, fields=names), coding, content)
