from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import ColumnsConfig, DataConfig, EventConfig
from lightsans.lists.erased_users import nobody_erased
from lightsans.reading.rows import RawRows, check_rows, clean_ratings
from lightsans.reading.values import OTHERS, Problems, clean_events, shortened
from tests.factories import with_reasons


def ratings(values, arrow_type=None, is_needed=True):
    column, problems = pa.array(values, arrow_type), Problems(len(values))
    data = DataConfig(min_rating=1.0 if is_needed else None)
    return with_reasons(clean_ratings(column, data, problems), problems)


def test_ratings_are_numbers_or_text_that_is_one():
    assert ratings([5, None], pa.int8()) == [5.0, "rating_missing"]
    assert ratings([Decimal("4.5")]) == [4.5]
    assert ratings(["4.5", " 3 ", "1e1"]) == [4.5, 3.0, 10.0]
    assert ratings(["good", "", "NaN"]) == ["rating_invalid", "rating_missing", "rating_missing"]
    assert ratings([float("nan")]) == ["rating_missing"]


def test_ratings_that_nobody_needs_refuse_no_row():
    assert ratings(["good", "", "4"], is_needed=False) == [None, None, 4.0]
    assert ratings([float("nan"), 4.0], is_needed=False) == [None, 4.0]


def test_rows_get_the_codes_of_their_events_and_others_are_counted():
    events = {"view": EventConfig(input=True), "buy": EventConfig(target=True), "no": EventConfig()}
    data = DataConfig(columns=ColumnsConfig(event="what"), events=events)
    names = [" view", "buy", "share", "", "no", "buy", "view"]
    rows = RawRows(
        {
            "user": pa.array([f"u{i}" for i in range(7)]).dictionary_encode(),
            "item": pa.array(["x"] * 6 + [""]),
            "timestamp": pa.array([1] * 7),
            "event": pa.array(names).dictionary_encode(),
        },
        np.arange(7),
        [],
    )
    checked = check_rows(rows, data, "string", "string", pa.array(["u5"]))
    assert checked.table["user_id"].to_pylist() == ["u0", "u1"]
    assert checked.table["event"].to_pylist() == [3, 1]  # in the order of the names
    assert checked.events == {"view": 1, "buy": 1, "share": 1, "no": 1}
    assert checked.reject_reasons == ["event_missing", "item_missing"]
    assert (checked.num_unused, checked.num_excluded, checked.num_rows) == (2, 1, 7)


def test_events_may_be_numbers_and_very_many_are_counted_together():
    problems = Problems(3)
    assert clean_events(pa.array([1, None, 2]), (), problems).to_pylist() == ["1", None, "2"]
    assert problems.is_valid.tolist() == [True, False, True]
    counts = Counter({f"e{i}": 2 + (i == 7) for i in range(1500)})
    short = shortened(counts, ())
    assert short.total() == counts.total()
    assert (len(short), short[OTHERS]) == (1001, 1000)


def test_a_row_is_refused_for_its_first_problem_and_excluded_only_when_valid():
    rows = RawRows(
        {
            "user": pa.array(["a", "", "b", "b", "c"]),
            "item": pa.array(["x", "", "x", "y", None]),
            "timestamp": pa.array(["1", "1", "2", "never", "3"]),
        },
        np.array([10, 20, 30, 40, 50]),
        [(25, "invalid_json")],
    )
    checked = check_rows(rows, DataConfig(), "string", "string", pa.array(["b"]))
    assert checked.table.to_pylist() == [
        {"user_id": "a", "raw_item_id": "x", "timestamp": 10**6, "rating": None, "position": 10}
    ]
    refused = zip(checked.reject_positions.tolist(), checked.reject_reasons, strict=True)
    assert set(refused) == {
        (20, "user_missing"), (40, "timestamp_invalid"), (50, "item_missing"), (25, "invalid_json")
    }  # fmt: skip
    assert checked.num_excluded == 1
    assert checked.num_rows == 6


def test_the_users_to_leave_out_who_have_rows_are_known_by_their_places():
    rows = RawRows(
        {
            "user": pa.array(["a", "d", "b", "b"]).dictionary_encode(),
            "item": pa.array(["x"] * 4),
            "timestamp": pa.array([1, 2, 3, 4]),
        },
        np.arange(4),
        [],
    )
    excluded = pa.array(["b", "c", "d"])
    checked = check_rows(rows, DataConfig(), "string", "string", excluded)
    assert (checked.num_excluded, set(checked.excluded_found)) == (3, {0, 2})


@pytest.mark.parametrize(
    "users", [["7", "007", " 7", "7.0", "70"], [7.0, 7.0, 7.0, 7.0, 70.0], [7, 7, 7, 7, 70]]
)
def test_values_of_refused_rows_of_a_user_to_leave_out_are_not_kept_however_written(users):
    columns = {"user": pa.array(users), "item": pa.array([""] * 5), "timestamp": pa.array([1] * 5)}
    data = DataConfig(keep_reject_values=True)
    erased = nobody_erased().with_ids([pa.array([7])])
    for leave_out in ({"excluded_users": pa.array([7])}, {"erased": erased}):
        rows = RawRows(columns, np.arange(5), [])
        checked = check_rows(rows, data, "int64", "string", **leave_out)
        kept = '{"user": "70", "item": "", "timestamp": "1"}'
        assert checked.reject_values == [None, None, None, None, kept]
