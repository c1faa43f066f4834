from decimal import Decimal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig
from lightsans.reading.ids import clean_ids, natural_type
from lightsans.reading.values import Problems
from tests.factories import with_reasons


def ids(values, type_name="string", arrow_type=None, **settings):
    """The cleaned ids, or the reason against each."""
    column, problems = pa.array(values, arrow_type), Problems(len(values))
    cleaned = clean_ids(column, "user", type_name, DataConfig(**settings), problems)
    return with_reasons(cleaned, problems)


def test_text_ids_stay_as_they_are_received():
    assert ids(["007", " x ", "日本", "nul"]) == ["007", " x ", "日本", "nul"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_every_kind_of_text_becomes_string(kind):
    assert ids([b"a", b"", None], arrow_type=pa.binary()) == ["a", "user_missing", "user_missing"]
    text = pa.array(["a", "b"]).cast(kind)
    cleaned = clean_ids(text, "user", "string", DataConfig(), Problems(2))
    assert cleaned.cast(pa.string()).equals(pa.array(["a", "b"]))


def test_dictionary_columns_are_decoded():
    text = pa.array(["a", "b", "a", None]).dictionary_encode()
    problems = Problems(4)
    cleaned = clean_ids(text, "item", "string", DataConfig(), problems)
    assert with_reasons(cleaned, problems) == ["a", "b", "a", "item_missing"]


def test_bytes_that_are_not_utf8_refuse_their_row_only():
    assert ids([b"a", b"\xff\xfe", b"c"], arrow_type=pa.binary()) == ["a", "not_utf8", "c"]
    for column in (pa.array([b"\xff", None]), pa.array([b"\xff", None]).dictionary_encode()):
        problems = Problems(2)
        clean_ids(column, "user", "string", DataConfig(), problems)
        assert problems.findings.missing["user"].total() == 1  # only where there is nothing


def test_ids_may_have_as_many_bytes_as_configured():
    assert ids(["ä" * 2, "ä" * 2 + "x"], max_id_bytes=4) == ["ää", "user_too_long"]


def test_text_as_int64_takes_decimal_digits_only():
    values = ["007", "-3", " 5 ", "0x10", "1.5", "abc", "", "9223372036854775808", "1_0", "+5"]
    assert ids(values, "int64") == [
        7, -3, 5, "user_not_int", "user_not_int", "user_not_int", "user_missing", "user_not_int",
        "user_not_int", "user_not_int",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64()]
)
def test_every_kind_of_integer_becomes_int64_or_text(kind):
    assert ids([3, None], "int64", kind) == [3, "user_missing"]
    assert ids([3, None], "string", kind) == ["3", "user_missing"]


def test_unsigned_ids_beyond_int64_are_refused():
    assert ids([2**63, 5], "int64", pa.uint64()) == ["user_not_int", 5]


def test_floats_become_integers_where_they_are_whole_and_exact():
    values = [5.0, 5.5, float("nan"), None, 2.0**60, float("inf")]
    missing, not_whole = "user_missing", "user_not_whole"
    assert ids(values, "int64") == [5, not_whole, missing, missing, not_whole, not_whole]
    assert ids([12345678901.0, 5.5, -0.0], "string") == ["12345678901", not_whole, "0"]


def test_short_floats_are_refused_where_they_cannot_tell_neighbours_apart():
    values = np.array([2**24 - 1, 2**24 + 2], np.float32)
    assert ids(values, "int64") == [2**24 - 1, "user_not_whole"]


def test_text_of_doubles_becomes_an_integer_where_integers_are_asked_for():
    """pandas writes integers with gaps so."""
    assert ids(["12345678901.0", "7.00", "7.5"], "int64") == [12345678901, 7, "user_not_int"]
    assert ids(["7.0"]) == ["7.0"]


def test_decimals_keep_every_digit_and_must_be_whole():
    large = Decimal(12345678901234567890123)
    kind = pa.decimal128(38, 0)
    assert ids([large, Decimal(-7), Decimal(0), None], "string", kind) == [
        str(large), "-7", "0", "user_missing",
    ]  # fmt: skip
    assert ids([large, Decimal(-7)], "int64", kind) == ["user_not_int", -7]
    values = [Decimal("7.00"), Decimal("7.50")]
    assert ids(values, "string", pa.decimal128(10, 2)) == ["7", "user_not_whole"]


@pytest.mark.parametrize("kind", [pa.uuid(), pa.binary(16)])
def test_uuids_become_their_usual_text(kind):
    value = UUID("01234567-89ab-cdef-0123-456789abcdef")
    assert ids([value.bytes, None], arrow_type=kind) == [str(value), "user_missing"]


def test_words_for_missing_values_are_a_setting_and_counted_by_word():
    column = pa.array(["NA", " NULL ", r"\N", "", None, "nobody", "NA"])
    for each in (column, column.dictionary_encode()):
        problems = Problems(7)
        clean_ids(each, "user", "string", DataConfig(), problems)
        assert problems.is_valid.tolist() == [False] * 5 + [True, False]
        counts = {"NA": 2, "NULL": 1, r"\N": 1, "(empty)": 1, "(null)": 1}
        assert problems.findings.missing == {"user": counts}
    assert ids(["NA", "-"], missing_values=("-",)) == ["NA", "user_missing"]
    assert ids([0, -1, 5], missing_values=("-1",)) == ["0", "user_missing", "5"]


def test_blanks_around_ids_are_counted_or_taken_away():
    column, problems = pa.array(["005  ", "6", " 7"]), Problems(3)
    clean_ids(column, "item", "string", DataConfig(), problems)
    assert (problems.findings.padded["item"], problems.findings.padded_example) == (
        2, {"item": "005  "},
    )  # fmt: skip
    assert ids(["005  ", "6", " 7"], strip_ids=True) == ["005", "6", "7"]


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u3000"])
def test_every_kind_of_blank_is_taken_away(blank):
    assert ids([f"{blank}005{blank}", "6"], strip_ids=True) == ["005", "6"]


def test_the_natural_type_of_ids_holds_all_of_them():
    kinds = [pa.float64(), pa.decimal128(18, 0), pa.decimal128(38, 0), pa.uint64(), pa.uuid()]
    found = [natural_type(kind) for kind in [*kinds, pa.null(), pa.large_string()]]
    assert found == ["int64", "int64", "string", "string", "string", None, "string"]


@pytest.mark.parametrize(
    ("type_name", "settings", "expected"),
    [("int64", {}, [7, 8, 7, 7]), ("string", {"strip_ids": True}, ["7", "8", "07", "7"])],
)
def test_values_of_a_dictionary_that_become_one_id_are_one_value(type_name, settings, expected):
    column, problems = pa.array(["7", "8", "07", " 7"]).dictionary_encode(), Problems(4)
    cleaned = clean_ids(column, "item", type_name, DataConfig(**settings), problems)
    assert cleaned.to_pylist() == expected
    assert len(cleaned.dictionary) == len(set(expected))
    bad = pa.array(["x", None]).dictionary_encode()
    assert len(clean_ids(bad, "item", "int64", DataConfig(), Problems(2))) == 2
