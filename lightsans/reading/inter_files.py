"""RecBole's ``.inter``, ``.user`` and ``.item``: tabs, no quotes, a header that carries types."""

import pyarrow as pa

from lightsans.config import DataConfig
from lightsans.reading.csv_files import CsvHead, Dialect, read_first_fields
from lightsans.storage.location import FileInfo

_DIALECT = Dialect("\t", None)


def read_head(info: FileInfo, data: DataConfig) -> CsvHead:
    """Look at the header of a file.

    Raises:
        InputError: There is none.
    """
    fields, data_start = read_first_fields(info, _DIALECT, has_header=True)
    names = [name.rsplit(":", 1)[0] for name in fields]  # user_id:token
    return CsvHead(tuple(names), [pa.binary()] * len(names), data_start, _DIALECT)
