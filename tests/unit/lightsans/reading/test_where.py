"""`data.where`: rows that a condition takes, of every format, against conditions in Python."""

import json
import operator
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsans.config import ColumnsConfig, DataConfig, StorageConfig
from lightsans.errors import ConfigError, InputError
from lightsans.reading.rejects import RowCounts, check_reject_limit
from lightsans.reading.units import plan_reading, read_unit
from lightsans.storage.location import locate
from lightsans.warehouse.tables import list_log_inputs
from tests.logs_on_disk import read_log, reading_fails, write_bytes

ROWS: list[dict[str, Any]] = [
    {"user_id": "a", "item_id": 1, "timestamp": 10, "price": 0.5, "country": "de", "is_new": True},
    {"user_id": "b", "item_id": 2, "timestamp": 20, "price": 3.3, "country": "at", "is_new": False},
    {"user_id": "c", "item_id": 3, "timestamp": 30, "price": None, "country": "de", "is_new": None},
    {"user_id": "d", "item_id": 4, "timestamp": 40, "price": -1.0, "country": None, "is_new": True},
    {
        "user_id": "e",
        "item_id": 5,
        "timestamp": 50,
        "price": 10.0,
        "country": "ch",
        "is_new": False,
    },
]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """The rows in the format that the name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if path.suffix == ".jsonl":
        return write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    separator = "\t" if path.suffix == ".inter" else ","
    header = separator.join(rows[0])
    lines = [
        separator.join("" if row[name] is None else str(row[name]) for name in rows[0])
        for row in rows
    ]
    return write_bytes(path, "\n".join([header, *lines, ""]).encode())


def users(path: Path | list[Path], where: str, **settings: Any) -> str:
    return "".join(str(row[0]) for row in read_log(path, where=where, **settings).rows)


def counts_of(path: Path, **settings: Any) -> RowCounts:
    data = DataConfig(input=(str(path),), **settings)
    plan = plan_reading(list_log_inputs(data.input, StorageConfig()).files, data)
    counts = RowCounts()
    for unit in plan.units:
        for piece, rows in read_unit(unit, data, plan.user_id_type, plan.item_id_type):
            counts.add_rows(piece.file.location, rows)
    return RowCounts.from_dict(json.loads(json.dumps(counts.to_dict())))


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "parquet", "inter"])
def test_the_same_rows_are_taken_of_every_format(tmp_path, ending):
    path = write(tmp_path / f"log.{ending}")
    assert users(path, "price > 0 and country in ['de', 'at']") == "ab"
    assert users(path, "price <= 3.3") == "abd"
    assert users(path, "price between 0 and 5 or country is null") == "abd"
    assert users(path, "not price > 0") == "d"  # a price that is not known is not below
    assert users(path, "country != 'de'") == "be"
    assert users(path, "country not in ['de', 'at']") == "e"
    assert users(path, "is_new") == "ad"
    assert users(path, "is_new = false or price is null") == "bce"
    assert users(path, "timestamp >= 30 and user_id < 'e' and item_id != 3") == "d"


def rows_to_filter() -> st.SearchStrategy[list[dict[str, Any]]]:
    row = {
        "price": st.none() | st.sampled_from([-2.5, -1.0, 0.0, 0.5, 2.0, 3.3]),
        "country": st.none() | st.sampled_from(["de", "at", "ch", "x y"]),
        "is_new": st.none() | st.booleans(),
    }
    return st.lists(st.fixed_dictionaries(row), min_size=1, max_size=8)


Oracle = Callable[[dict[str, Any]], bool | None]
"""Whether a row is taken; None where that is unknown."""
COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def known(column: str, test: Callable[[Any], bool]) -> Oracle:
    return lambda row: None if row[column] is None else test(row[column])


def negate(value: bool | None) -> bool | None:
    return None if value is None else not value


def both(a: bool | None, b: bool | None) -> bool | None:
    return False if False in (a, b) else None if None in (a, b) else True


def conditions() -> st.SearchStrategy[tuple[str, Oracle]]:
    """A condition, and the same in Python."""
    numbers = st.builds(
        lambda sign, n: (f"price {sign} {n}", known("price", lambda v: COMPARE[sign](v, n))),
        st.sampled_from(sorted(COMPARE)),
        st.sampled_from([-2.5, -1, 0, 0.5, 2, 3.3]),
    )
    words = st.builds(
        lambda words: (f"country in {words!r}", known("country", lambda v: v in words)),
        st.lists(st.sampled_from(["de", "at", "x y", "zz"]), min_size=1, max_size=3),
    )
    others: st.SearchStrategy[tuple[str, Oracle]] = st.sampled_from(
        [
            ("is_new", known("is_new", bool)),
            ("price is null", lambda row: row["price"] is None),
            ("country is not null", lambda row: row["country"] is not None),
            ("price between 0 and 2", known("price", lambda v: 0 <= v <= 2)),
        ]
    )
    return st.recursive(
        numbers | words | others,
        lambda below: st.one_of(
            below.map(lambda a: (f"not ({a[0]})", lambda row: negate(a[1](row)))),
            st.builds(
                lambda a, b: (f"({a[0]}) and ({b[0]})", lambda row: both(a[1](row), b[1](row))),
                below,
                below,
            ),
            st.builds(
                lambda a, b: (
                    f"({a[0]}) or ({b[0]})",
                    lambda row: negate(both(negate(a[1](row)), negate(b[1](row)))),
                ),
                below,
                below,
            ),
        ),
        max_leaves=5,
    )


@settings(max_examples=40, deadline=None)
@given(rows=rows_to_filter(), condition=conditions(), kind=st.integers(0, 2))
def test_any_condition_takes_the_rows_that_python_takes(tmp_path_factory, rows, condition, kind):
    path = tmp_path_factory.mktemp("log") / f"log.{('csv', 'jsonl', 'parquet')[kind]}"
    ids = [{"user_id": f"u{i}", "item_id": 1, "timestamp": 1} for i in range(len(rows))]
    write(path, [one | row for one, row in zip(ids, rows, strict=True)])
    text, oracle = condition
    expected = [f"u{i}" for i, row in enumerate(rows) if oracle(row) is True]
    assert [row[0] for row in read_log(path, where=text).rows] == expected


def test_rows_left_out_are_counted_and_are_no_rejects(tmp_path):
    text = b"user_id,item_id,timestamp,price\na,1,10,5\n,2,20,-5\nb,3,30,x\nc,,40,5\nd,4\n"
    path = write_bytes(tmp_path / "log.csv", text)
    counts = counts_of(path, where="price > 0")
    assert (counts.read, counts.valid, counts.filtered) == (5, 1, 2)
    assert counts.rejected == {"item_missing": 1, "wrong_number_of_fields": 1}
    assert counts.files[locate(str(path), StorageConfig()).uri]["filtered"] == 2
    assert counts.findings.unread_where == {"price": 1}
    whole = RowCounts()
    whole.add(counts)
    whole.add(counts)
    assert whole.filtered == 4
    assert whole.files[locate(str(path), StorageConfig()).uri]["filtered"] == 4
    assert "filtered" not in counts_of(path).to_dict()
    with pytest.raises(InputError, match="2 of 3 rows were refused"):
        check_reject_limit(counts, 0.5, locate(str(tmp_path), StorageConfig()))
    nothing = counts_of(path, where="price > 99")
    with pytest.raises(InputError, match=r"no rows are left.*data\.where leaves out 4"):
        check_reject_limit(nothing, None, locate(str(tmp_path), StorageConfig()))


def test_partitions_are_columns_of_a_condition(tmp_path):
    for day in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"dt={day}" / "shop=7").mkdir(parents=True)
        write(tmp_path / f"dt={day}" / "shop=7" / "log.csv", ROWS[:1])
    assert users(tmp_path, "dt >= '2026-01-02' and shop = 7") == "a"
    assert users(tmp_path, "shop > 7") == ""


def test_times_are_compared_with_dates_in_quotes(tmp_path):
    when = [datetime(2026, 1, 1, 23, 30, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), None]
    local = [None if at is None else at.replace(tzinfo=None) for at in when]
    table = pa.table(
        {
            "user_id": ["a", "b", "c"],
            "item_id": [1, 2, 3],
            "timestamp": [1, 2, 3],
            "at": pa.array(when, pa.timestamp("ns", "UTC")),
            "local": pa.array(local, pa.timestamp("ms")),
            "born": [date(1901, 5, 4), date(2026, 1, 1), None],
        }
    )
    pq.write_table(table, path := tmp_path / "log.parquet")
    assert users(path, "at >= '2026-01-02'") == "b"
    assert users(path, "at >= '2026-01-02'", timezone="Europe/Berlin") == "ab"
    assert users(path, "local >= '2026-01-02'", timezone="Europe/Berlin") == "b"
    assert users(path, "at = '2026-01-01T23:30:00Z'") == "a"
    assert users(path, "born < '1990-01-01' or born is null", timezone="Europe/Berlin") == "ac"
    assert users(path, "born < '1901-05-05'") == "a"
    assert users(path, "born < '1901-05-04T00:00:00Z'") == ""
    assert users(path, "born = '2026-01-01'") == "b"
    reading_fails(["column 'at' holds times, and 'soon' is none"], path, where="at > 'soon'")
    reading_fails(["'born'", "expected text in quotes"], path, where="born > 1990")


def test_numbers_are_exact(tmp_path):
    large = 2**53
    table = pa.table(
        {
            "user_id": ["a", "b", "c"],
            "item_id": pa.array([large, large + 1, 5], pa.int64()).dictionary_encode(),
            "timestamp": [1, 2, 3],
            "rate": pa.array([3.3, 3.4, float("nan")], pa.float32()),
            "huge": pa.array([2**64 - 1, 1, 0], pa.uint64()),
        }
    )
    pq.write_table(table, path := tmp_path / "log.parquet")
    assert users(path, f"item_id > {large}") == "b"
    assert users(path, f"item_id in [{large}, 5]") == "ac"
    assert users(path, "rate = 3.3") == "a"
    assert users(path, "rate > -1 or rate is null") == "abc"
    assert users(path, "not rate = 3.3") == "b"
    assert users(path, "huge > 1") == "a"
    assert users(path, "huge <= 0.5") == "c"
    assert users(path, f"huge = {2**64 - 1}") == "a"
    assert users(path, f"huge < {2**64 - 1} and huge > {-(2**63)}") == "bc"
    assert users(path, f"huge in [{2**64 - 1}, 0]") == "ac"
    assert users(path, f"huge >= {2**63}") == "a"
    reading_fails(["too large to be exact"], path, where=f"huge < {2**64}")
    reading_fails(["too large to be exact"], path, where=f"item_id < {2**63}")
    reading_fails(["too large to be exact"], path, where=f"rate > {large}")


def test_values_of_other_types_within_jsonl_are_unknown_or_read_as_text(tmp_path):
    rows = [
        {"user_id": "a", "item_id": 1, "timestamp": 1, "price": 1},
        {"user_id": "b", "item_id": 2, "timestamp": 2, "price": "2"},
        {"user_id": "c", "item_id": 3, "timestamp": 3, "price": {"eur": 3}},
        {"user_id": "d", "item_id": 4, "timestamp": 4, "price": 4.5},
        {"user_id": "e", "item_id": 5, "timestamp": 5},
    ]
    path = write(tmp_path / "log.jsonl", rows)
    assert users(path, "price >= 1") == "abd"
    assert users(path, "price is null") == "ce"
    assert users(path, "timestamp < 3 and item_id = 2") == "b"


def test_columns_and_types_that_do_not_fit_are_refused_before_anything_is_read(tmp_path):
    path = write(tmp_path / "log.parquet", [row | {"tags": ["x"]} for row in ROWS])
    reading_fails(
        ["no column 'prize'", "did you mean 'price'", "Set data.where"], path, where="prize > 1"
    )
    reading_fails(
        ["'price' holds double, and is compared with 'x'; expected a number, without quotes"],
        path,
        where="price = 'x'",
    )
    reading_fails(
        ["'country' is compared with 'NA'", "data.missing_values counts"],
        path,
        where="country='NA'",
    )
    reading_fails(["'is_new' holds bool", "expected true or false"], path, where="is_new = 1")
    reading_fails(["'tags' holds list", "cannot be compared"], path, where="tags is null")
    with pytest.raises(ConfigError, match=r"data\.where"):
        DataConfig(where="price >")
    with pytest.raises(ConfigError, match="needs positions in backticks"):
        DataConfig(
            where="price > 1", header=False, columns=ColumnsConfig(user=0, item=1, timestamp=2)
        )


def test_columns_without_a_header_are_named_by_position(tmp_path):
    path = write_bytes(tmp_path / "log.csv", b"a,1,10,5\nb,2,20,-5\n")
    columns = ColumnsConfig(user=0, item=1, timestamp=2)
    assert users(path, "`3` > 0", header=False, columns=columns) == "a"


def test_values_of_refused_rows_do_not_hold_the_columns_of_the_condition(tmp_path):
    path = write_bytes(tmp_path / "log.csv", b"user_id,item_id,timestamp,price\na,,1,5\n")
    data = DataConfig(input=(str(path),), where="price > 0", keep_reject_values=True)
    plan = plan_reading(list_log_inputs(data.input, StorageConfig()).files, data)
    [(_, rows)] = list(read_unit(plan.units[0], data, "string", "string"))
    assert rows.reject_values == ['{"user": "a", "item": "", "timestamp": "1"}']


def test_times_finer_than_a_microsecond_are_compared(tmp_path):
    moments = [1_767_225_600_000_000_001, 1_767_225_600_000_000_000, 1_000_000_001]
    times = pa.array(moments, pa.timestamp("ns"))
    table = pa.table({"user_id": ["a", "b", "c"], "item_id": [1] * 3, "timestamp": times})
    pq.write_table(table, tmp_path / "log.parquet")
    assert users(tmp_path / "log.parquet", "timestamp >= '2026-01-01'") == "ab"
    assert users(tmp_path / "log.parquet", "not timestamp > '2026-01-01'") == "abc"
