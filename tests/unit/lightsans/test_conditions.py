"""The language of conditions: what its texts mean, and what is said about those with no meaning."""

import pytest

from lightsans.conditions import (
    Both,
    Comparison,
    Condition,
    Either,
    IsNull,
    Not,
    columns_of,
    parse_condition,
)
from lightsans.errors import ConfigError


def parse(text: str) -> Condition:
    return parse_condition(text, "data.where")


def test_comparisons_are_joined_as_in_sql_and_python():
    price, country = Comparison("price", ">", (0,)), Comparison("country", "in", ("de", "at"))
    assert parse("price > 0 and country in ['de', 'at']") == Both((price, country))
    assert parse("PRICE = 1") == Comparison("PRICE", "==", (1,))
    assert parse("a = 1 OR b = 2 and NOT c = 3") == Either(
        (
            Comparison("a", "==", (1,)),
            Both((Comparison("b", "==", (2,)), Not(Comparison("c", "==", (3,))))),
        )
    )
    assert parse("(a = 1 or b = 2) and c = 3") == Both(
        (
            Either((Comparison("a", "==", (1,)), Comparison("b", "==", (2,)))),
            Comparison("c", "==", (3,)),
        )
    )


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a != 1", "not a == 1"),
        ("a <> 1", "not a = 1"),
        ("0 < a <= 5", "a > 0 and a <= 5"),
        ("5 >= a", "a <= 5"),
        ("a between 1 and 5", "a >= 1 and a <= 5"),
        ("a not between 1 and 5", "not (a >= 1 and a <= 5)"),
        ("a not in (1, 2,)", "not a in [1, 2]"),
        ("a is not null", "not a is None"),
        ("is_bot", "is_bot = true"),
        ("not `is bot`", "not `is bot` = TRUE"),
        ("a between 1 and 5 and b", "(a >= 1 and a <= 5) and b = true"),
    ],
)
def test_short_forms_mean_the_long_ones(text, same):
    assert parse(text) == parse(same)


def test_values_are_numbers_texts_and_booleans():
    assert parse("a in [1, -2, 1e3, .5, +7]") == Comparison("a", "in", (1, -2, 1000, 0.5, 7))
    assert parse("a = 'it''s \"x\"'") == Comparison("a", "==", ('it\'s "x"',))
    assert parse("a = 18446744073709551615") == Comparison("a", "==", (2**64 - 1,))
    assert parse("a = false") == Comparison("a", "==", (False,))


def test_columns_with_other_names_stand_in_backticks():
    condition = parse("`unit price` > 1 or größe > 1 or `a``b` is null or `0` = 1")
    assert columns_of(condition) == ["unit price", "größe", "a`b", "0"]
    assert parse("`in` is null") == IsNull("in")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty; null takes every row"),
        ("price >", "found the end at character 8, expected a column or a value"),
        ("price >> 0", "found '>' at character 8"),
        ("price > 0 and", "found the end"),
        ("price > 0 0", "found '0' at character 11, expected the end, and, or"),
        ("price 0", "expected a comparison of price"),
        ("price not 0", "expected in or between"),
        ("price in 'de'", "expected a list such as ['de', 'at']"),
        ("price in [1, 'de']", "mixes text with other values"),
        ("price in []", "expected a column or a value"),
        ("price in [a]", "found 'a' at character 11, expected a number, or text in quotes"),
        ("price > cost", "compares two columns"),
        ("1 < 2", "compares two values"),
        ("1", "expected a comparison"),
        ("price > true", "neither more nor less than true or false"),
        ("price = 'de", "a quote is opened and never closed"),
        ("(price > 0", "expected )"),
        ("price is 5", "expected null"),
        ("5 is null", "expected a comparison, such as >"),
        ("price = 12abc", "'12abc', at character 9, is no column, value or comparison"),
        ("__import__('os').system('true')", "at character 17, is no column"),
        ("price.real > 1", "'.real > 1', at character 6, is no column"),
        ("a; b", "is no column"),
        ("(" * 60 + "a" + ")" * 60, "nested more than 50 deep"),
        ("not " * 60 + "a", "nested more than 50 deep"),
    ],
)
def test_a_text_that_is_no_condition_is_refused_with_its_place(text, said):
    with pytest.raises(ConfigError, match=r"data\.where") as caught:
        parse(text)
    assert said in str(caught.value)
