"""Texts and numbers of Arrow columns; null where a value cannot be converted."""

from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from lightsans.columns.values import (
    NUMBER,
    WHOLE_NUMBER,
    as_text,
    cast_or_null,
    find_missing,
    is_text,
    keep_only,
    parse_numbers,
    strip_blanks,
)


def test_uuids_become_their_usual_text_and_other_fixed_bytes_binary():
    value = UUID(int=7)
    column = pa.array([value.bytes, None], pa.binary(16))
    assert as_text(column).to_pylist() == [str(value), None]
    assert as_text(pa.array([b"abc"], pa.binary(3))).type == pa.binary()
    assert as_text(pa.array(["as it is"])).to_pylist() == ["as it is"]


@pytest.mark.parametrize(
    ("pattern", "target", "expected"),
    [
        (WHOLE_NUMBER, pa.int64(), [10, -3, None, None, None, None]),
        (NUMBER, pa.float64(), [10.0, -3.0, 0.5, 2.0, None, None]),
    ],
)
def test_texts_that_are_no_plain_numbers_are_null(pattern, target, expected):
    text = pa.array(["10", "-3", ".5", "+2.", "0x10", "nan"])
    assert parse_numbers(text, pattern, target).to_pylist() == expected


def test_only_the_values_that_do_not_fit_are_null():
    numbers = pa.array([1, 2**40, -7, 2**33])
    assert cast_or_null(numbers, pa.int32()).to_pylist() == [1, None, -7, None]


def test_blanks_go_on_both_sides_those_of_other_scripts_too():
    text = pa.array([" a ", "b", "\u3000c\t", None])
    assert strip_blanks(text).to_pylist() == ["a", "b", "c", None]
    assert strip_blanks(pa.array(["plain"])).to_pylist() == ["plain"]


def test_words_for_missing_and_null_are_missing():
    found = find_missing(pa.array(["NULL", "null", "", None, "x"]), ["NULL", ""])
    assert found.tolist() == [True, False, True, True, False]


def test_rows_that_are_not_kept_become_null():
    column = pa.array([1, 2, 3])
    assert keep_only(column, np.array([True, False, True])).to_pylist() == [1, None, 3]
    assert keep_only(column, np.ones(3, bool)) is column


def test_bytes_may_be_text():
    assert is_text(pa.binary())
    assert is_text(pa.string_view())
    assert not is_text(pa.int64())
