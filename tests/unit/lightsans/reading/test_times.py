import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig
from lightsans.reading.times import clean_timestamps, parse_moment
from lightsans.reading.values import Problems
from tests.factories import with_reasons

# 2001-01-01 00:00:00 UTC
NEW_YEAR = 978_307_200


def times(values, arrow_type=None, **settings):
    """Seconds, or the reason against each."""
    column, problems = pa.array(values, arrow_type), Problems(len(values))
    cleaned = clean_timestamps(column, DataConfig(**settings), problems)
    assert cleaned.type == pa.int64()
    return [v if isinstance(v, str) else v / 1e6 for v in with_reasons(cleaned, problems)]


@pytest.mark.parametrize(
    ("unit", "value"),
    [("s", NEW_YEAR), ("ms", NEW_YEAR * 10**3), ("us", NEW_YEAR * 10**6), ("ns", NEW_YEAR * 10**9)],
)
def test_numbers_are_read_in_the_configured_unit(unit, value):
    assert times([value], timestamp_unit=unit) == [NEW_YEAR]
    assert times([str(value)], timestamp_unit=unit) == [NEW_YEAR]
    assert times([float(value)], timestamp_unit=unit) == [NEW_YEAR]


def test_fractions_are_kept_to_the_microsecond():
    assert times([NEW_YEAR + 0.123456]) == [NEW_YEAR + 0.123456]
    assert times([f"{NEW_YEAR}.123456"]) == [NEW_YEAR + 0.123456]
    assert times([NEW_YEAR * 10**9 + 1999], timestamp_unit="ns") == [NEW_YEAR + 0.000001]
    assert times(["9.783072e8", "+5", ".5", "7."]) == [NEW_YEAR, 5, 0.5, 7]


def test_numbers_are_valid_from_1970_to_2199():
    first_invalid = 7_258_118_400  # date -u -d 2200-01-01 +%s
    bad = "timestamp_out_of_range"
    assert times([0, first_invalid - 1, first_invalid, -1]) == [0, first_invalid - 1, bad, bad]
    assert times([10**18, -(2**63), 2**63 - 1]) == [bad] * 3
    assert times([2**63 + NEW_YEAR], pa.uint64()) == [bad]
    assert times([-0.5, float("inf"), 1e300]) == [bad] * 3
    assert times(["-1", "9" * 30, "1e300", "1900-01-01", "2200-01-01T00:00Z"]) == [bad] * 5


def test_missing_and_unreadable_timestamps_are_told_apart():
    missing, invalid = "timestamp_missing", "timestamp_invalid"
    words = ["", " ", "null", "NULL", "NaN", r"\N", None]
    assert times(words) == [missing] * len(words)
    assert times(["yesterday", "2001-13-01", "2001-02-30", "1.2.3", "0x10"]) == [invalid] * 5
    assert times([None, 5]) == [missing, 5]
    assert times([None, float("nan"), 5.0]) == [missing, missing, 5]


def test_one_bad_value_among_good_ones_costs_only_its_row():
    values = ["2001-01-01"] * 50 + ["2001-02-30"] + ["2001-01-01"] * 50
    assert times(values) == [NEW_YEAR] * 50 + ["timestamp_invalid"] + [NEW_YEAR] * 50


@pytest.mark.parametrize(
    "text",
    [
        "2001-01-01",
        "2001-01-01 00:00",
        "2001-01-01T00:00:00",
        "2001-01-01T00:00:00.000000000",
        "2001-01-01T00:00:00Z",
        "2001-01-01 00:00:00 UTC",
        "2001-01-01t01:00:00+01:00",
        "2001-01-01 01:30:00 +0130",
        "2000-12-31T19:00:00-05",
        str(NEW_YEAR),
    ],
)
def test_one_moment_can_be_written_in_many_ways(text):
    assert times([text]) == [NEW_YEAR]


def test_moments_without_a_zone_are_of_the_configured_one():
    """Berlin is an hour ahead in winter and two in summer."""
    hour = 3600
    berlin = {"timezone": "Europe/Berlin"}
    assert times(["2001-01-01", "2001-01-01T00:00Z"], **berlin) == [NEW_YEAR - hour, NEW_YEAR]
    july = 993_945_600  # date -u -d 2001-07-01 +%s
    assert times(["2001-07-01 00:00:00"], **berlin) == [july - 2 * hour]
    naive = pa.array([NEW_YEAR], pa.timestamp("s"))
    assert times(naive, **berlin) == [NEW_YEAR - hour]
    assert times([datetime.date(2001, 1, 1)], pa.date32(), **berlin) == [NEW_YEAR - hour]
    assert times([NEW_YEAR], **berlin) == [NEW_YEAR]  # numbers count from 1970 UTC


def test_a_time_that_its_zone_moves_before_1970_is_out_of_range():
    assert times(["1970-01-01", "1970-01-01 01:00"], timezone="Europe/Berlin") == [
        "timestamp_out_of_range",
        0,
    ]
    naive = pa.array([0, 3600], pa.timestamp("s"))
    assert times(naive, timezone="Europe/Berlin") == ["timestamp_out_of_range", 0]


def test_of_a_time_that_clocks_show_twice_the_first_is_meant():
    """On 28 October 2001, Berlin's clocks went from 03:00 back to 02:00: 02:30 was at 00:30 UTC."""
    assert times(["2001-10-28 02:30:00"], timezone="Europe/Berlin") == [1_004_229_000]


def test_a_time_that_clocks_skip_is_valid():
    """On 25 March 2001, Berlin's clocks went from 02:00 to 03:00, at 01:00 UTC."""
    [time] = times(["2001-03-25 02:30:00"], timezone="Europe/Berlin")
    assert time == pytest.approx(985_482_000, abs=1)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_arrow_timestamps_carry_their_own_unit_and_zone(unit):
    moment = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    assert times([moment], pa.timestamp(unit, "America/New_York"), timestamp_unit="ms") == [
        NEW_YEAR
    ]
    assert times([moment.replace(tzinfo=None)], pa.timestamp(unit)) == [NEW_YEAR]


def test_arrow_timestamps_out_of_range_do_not_wrap_around():
    bad = "timestamp_out_of_range"
    assert times(pa.array([2**62, -1], pa.timestamp("s"))) == [bad, bad]
    assert times(pa.array([2**31 - 1, 366], pa.date32())) == [bad, 366 * 86_400]
    assert times(pa.array([86_400_000], pa.date64())) == [86_400]


def test_a_moment_is_a_date_or_time_and_no_number():
    assert parse_moment("2001-01-01", "UTC") == NEW_YEAR * 10**6
    assert parse_moment("2001-01-01", "Europe/Berlin") == (NEW_YEAR - 3600) * 10**6
    assert parse_moment("978307200", "UTC") is None
    assert parse_moment("tomorrow", "UTC") is None


def test_decimals_are_read_exactly():
    seconds = [Decimal("978307200.123456"), Decimal("-1"), None]
    kind = pa.decimal128(38, 18)
    refused = ["timestamp_out_of_range", "timestamp_missing"]
    assert times(seconds, kind) == [NEW_YEAR + 0.123456, *refused]
    assert times([Decimal(NEW_YEAR)], pa.decimal128(38, 0)) == [NEW_YEAR]
    assert times([Decimal(NEW_YEAR * 1000)], pa.decimal128(38, 0), timestamp_unit="ms") == [
        NEW_YEAR
    ]
    assert times([Decimal(NEW_YEAR * 10**9)], pa.decimal128(20, 0), timestamp_unit="ns") == [
        NEW_YEAR
    ]


@pytest.mark.parametrize(
    "kind", [pa.int32(), pa.int64(), pa.float64(), pa.string(), pa.decimal128(38, 0)]
)
def test_numbers_that_are_dates_are_refused_or_read_as_dates(kind):
    values = pa.array([20010101, 20200913]).cast(kind).to_pylist()
    for unit in ("s", "ms", "us"):
        assert times(values, kind, timestamp_unit=unit) == ["timestamp_is_date"] * 2
    assert times(values, kind, timestamp_unit="yyyymmdd") == [NEW_YEAR, 1_599_955_200]


def test_dates_may_have_a_clock_and_a_time_zone_and_must_exist():
    values = [20010101010203, 20010231, 20011301, 19691231, 22000101, 20010101250000]
    assert times(values, timestamp_unit="yyyymmdd") == [
        NEW_YEAR + 3723, *["timestamp_out_of_range"] * 5,
    ]  # fmt: skip
    berlin = times([20010101], timestamp_unit="yyyymmdd", timezone="Europe/Berlin")
    assert berlin == [NEW_YEAR - 3600]


def test_some_numbers_that_could_be_dates_are_seconds():
    assert times([20_200_913, 20_200_999]) == [20_200_913, 20_200_999]


def found(values, arrow_type, **settings):
    problems = Problems(len(values))
    clean_timestamps(pa.array(values, arrow_type), DataConfig(**settings), problems)
    return problems.findings


def test_short_floats_say_the_steps_of_their_times():
    recent = np.array([1_600_000_000, 0], np.float32)
    assert found(recent, pa.float32()).step == 128
    assert found(np.array([16_000_000], np.float32), pa.float32()).step == 0
    assert found([1_600_000_000.5], pa.float64()).step == 0


def test_times_finer_than_a_microsecond_are_counted():
    assert found([10**18 + 1, 10**18 + 1000], pa.timestamp("ns")).cut == 1
    assert found([10**18 + 1, 10**18 + 1000], pa.int64(), timestamp_unit="ns").cut == 1
    assert found([Decimal("1.0000001"), Decimal("1.000001")], pa.decimal128(20, 9)).cut == 1
    assert found([f"{10**18 + 1}", f"{10**18 + 1000}"], pa.string(), timestamp_unit="ns").cut == 1
    day = "2026-01-31T00:00:00"
    texts = [f"{day}.1234567", f"{day}.123456000Z", f"{day}.1", day]
    assert found(texts, pa.string()).cut == 1
