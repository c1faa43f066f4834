"""Dates of a backtest."""

import pytest

from lightsans.errors import ConfigError
from pipelines.backtest.dates import nights_between, parse_step


@pytest.mark.parametrize(
    ("first", "last", "every", "expected"),
    [
        ("2026-02-27", "2026-03-01", "1d", ["2026-02-27", "2026-02-28", "2026-03-01"]),
        ("2026-01-01", "2026-01-20", "1w", ["2026-01-01", "2026-01-08", "2026-01-15"]),
        ("2026-01-01", "2026-01-01", "1d", ["2026-01-01"]),
        ("2026-01-01", "2026-01-02", "12H", ["2026-01-01", "2026-01-01T12:00:00", "2026-01-02"]),
        ("2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00+01:00", "1d",
         ["2026-01-01T00:00:00+01:00"]),
    ],
)  # fmt: skip
def test_both_ends_are_nights(first, last, every, expected):
    assert nights_between(first, last, parse_step(every)) == expected


@pytest.mark.parametrize("text", ["", "0d", "1", "d", "1m", "-1d", "1.5d", "1d1d", "99999999999d"])
def test_a_step_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="--every"):
        parse_step(text)


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ("yesterday", "2026-01-01", "--from yesterday"),
        ("2026-01-01", "2026-13-01", "--to 2026-13-01"),
        ("2026-01-02", "2026-01-01", "is before"),
        ("1000-01-01", "2026-01-01", "too many"),
        ("2026-01-01", "2026-01-02T00:00:00Z", "give both with an offset"),
    ],
)
def test_ends_that_make_no_nights_are_refused(first, last, words):
    with pytest.raises(ConfigError, match=words):
        nights_between(first, last, parse_step("1d"))
