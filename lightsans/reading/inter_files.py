"""RecBole's ``.inter``: tabs between fields, no quotes, and a header that carries types."""

from lightsans.config import DataConfig
from lightsans.reading.csv_files import CsvLayout, Dialect, read_head, text_id_types
from lightsans.reading.input_files import InputFile, find_roles
from lightsans.storage.location import FileInfo

_DIALECT = Dialect("\t", None)


def inspect(info: FileInfo, data: DataConfig) -> InputFile:
    """Look at the header of a file.

    Raises:
        InputError: There is none, or a column is missing.
    """
    head = read_head(info.location, info.size, _DIALECT, has_header=True)
    names = [name.rsplit(":", 1)[0] for name in head.fields]  # user_id:token
    layout = CsvLayout(_DIALECT, len(names), find_roles(info.location, names, data))
    return InputFile(info, layout, text_id_types(data), head.data_start)
