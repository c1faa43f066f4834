import pyarrow as pa
import pytest

from lightsans.config import DataConfig
from lightsans.reading.ids import clean_ids
from lightsans.reading.values import Problems
from tests.factories import with_reasons


def ids(values, type_name="string", arrow_type=None, **settings):
    """The cleaned ids, or the reason against each."""
    column, problems = pa.array(values, arrow_type), Problems(len(values))
    cleaned = clean_ids(column, "user", type_name, DataConfig(**settings), problems)
    return with_reasons(cleaned, problems)


def test_text_ids_stay_as_they_are_received():
    assert ids(["007", " x ", "日本", "null"]) == ["007", " x ", "日本", "null"]


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


def test_ids_may_have_as_many_bytes_as_configured():
    assert ids(["ä" * 2, "ä" * 2 + "x"], max_id_bytes=4) == ["ää", "user_too_long"]


def test_text_as_int64_takes_decimal_digits_only():
    values = ["007", "-3", " 5 ", "0x10", "1.0", "abc", "", "9223372036854775808", "1_0", "+5"]
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
    missing, not_int = "user_missing", "user_not_int"
    assert ids(values, "int64") == [5, not_int, missing, missing, not_int, not_int]
    assert ids([5.0, 5.5], "string") == ["5", "5.5"]
