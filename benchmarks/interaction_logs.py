"""Large interaction logs for benchmarks: one parquet file a day, string ids, rows in time order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from lightsans.arrays import Float64, Int64

DAYS = 30
_START_S = 1_767_225_600  # 2026-01-01 UTC
_DAY_S = 86_400
_ROW_GROUP = 2**19


def write_log(directory: Path, num_rows: int, num_users: int, num_items: int) -> list[Path]:
    """Write a log of 30 days and one day more, or find it written; the files in order of time.

    Items are drawn with Zipf's law (exponent 1), users with weights of a Pareto law (shape 1.2) up
    to a thousand times the median; ratings are 1 to 5, more of them good. Several rows have the
    same second. Equal arguments give equal files; together the first 30 hold ``num_rows``.
    """
    paths = [directory / f"day-{day:02d}.parquet" for day in range(DAYS + 1)]
    if paths[-1].exists():
        return paths
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    items = _names("item", rng.permutation(num_items))
    users = _names("user", rng.permutation(num_users))
    item_ends = np.cumsum(1 / np.arange(1, num_items + 1))
    user_ends = np.cumsum(np.minimum(rng.pareto(1.2, num_users) + 1, 1800))
    for day, path in enumerate(paths):
        rng = np.random.default_rng([1, day])
        first, end = (num_rows * day // DAYS, num_rows * (day + 1) // DAYS)
        rows = end - first
        columns = {
            "user_id": pa.DictionaryArray.from_arrays(_draw(rng, user_ends, rows), users),
            "item_id": pa.DictionaryArray.from_arrays(_draw(rng, item_ends, rows), items),
            "rating": rng.choice(5, rows, p=[0.06, 0.1, 0.24, 0.35, 0.25]).astype(np.float32) + 1,
            "timestamp": _START_S + day * _DAY_S + np.sort(rng.integers(0, _DAY_S, rows)),
        }
        table = pa.table(columns)
        for name in ("user_id", "item_id"):  # as most writers leave it: plain strings
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, pc.cast(table[name], pa.string()))
        aside = path.with_suffix(".aside")
        pq.write_table(table, aside, row_group_size=_ROW_GROUP, compression="zstd")
        aside.rename(path)
    return paths


def write_lopsided_log(directory: Path, num_rows: int) -> list[Path]:
    """A log, or find it written: half its rows are of one user, the others of a user each.

    Half of the rows, of either kind, are of one item, the others of 100,000 items.
    """
    paths = [directory / f"day-{day:02d}.parquet" for day in range(DAYS)]
    if paths[-1].exists():
        return paths
    directory.mkdir(parents=True, exist_ok=True)
    for day, path in enumerate(paths):
        row = np.arange(num_rows * day // DAYS, num_rows * (day + 1) // DAYS)
        rng = np.random.default_rng([2, day])
        columns = {
            "user_id": _names("user", np.where(row % 2 == 0, 0, row)),
            "item_id": _names("item", rng.integers(1, 10**5, len(row)) * (row % 4 > 1)),
            "rating": np.full(len(row), 4, np.float32),
            "timestamp": _START_S + row // 16,
        }
        aside = path.with_suffix(".aside")
        pq.write_table(pa.table(columns), aside, row_group_size=_ROW_GROUP, compression="zstd")
        aside.rename(path)
    return paths


def expand_inter(source: Path, directory: Path, copies: int) -> list[Path]:
    """A synthetic log: a RecBole ``.inter`` file many times over, each copy with users of its own.

    Items, ratings and times of a copy are those of the source, times a copy's number of seconds
    later: popularity and histories are real, users are not.
    """
    table = csv.read_csv(source, parse_options=csv.ParseOptions(delimiter="\t"))
    names = [name.split(":")[0] for name in table.column_names]
    table = table.rename_columns(names)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for copy in range(copies):
        users = pc.binary_join_element_wise(
            f"copy{copy:02d}", pc.cast(table["user_id"], "str"), "-"
        )
        columns = {
            "user_id": users,
            "item_id": pc.binary_join_element_wise("item", pc.cast(table["item_id"], "str"), ""),
            "rating": pc.cast(table["rating"], "float"),
            "timestamp": pc.add(pc.cast(table["timestamp"], "int64"), copy),
        }
        paths.append(directory / f"copy-{copy:02d}.parquet")
        pq.write_table(pa.table(columns), paths[-1], compression="zstd")
    return paths


def _draw(rng: np.random.Generator, ends: Float64, rows: int) -> pa.Array:
    drawn = np.searchsorted(ends, rng.random(rows) * ends[-1])
    return pa.array(np.minimum(drawn, len(ends) - 1).astype(np.int32))


def _names(prefix: str, numbers: Int64) -> pa.Array:
    digits = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), 8, "0")
    return pc.binary_join_element_wise(prefix, digits, "")
