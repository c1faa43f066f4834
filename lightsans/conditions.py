"""A small language for conditions on the rows of a table, as ``data.where`` has them.

``price > 0 and country in ['de', 'at']``: columns are compared with values, and comparisons joined.
Text becomes a tree of the classes below and nothing else; no part of it is ever run.

    condition    either (or either)*
    either       both (and both)*
    both         not both | ( condition ) | test
    test         side (< side)+          also <= > >= = == != <>, and chains: 0 < price <= 5
               | column [not] in [value, …]
               | column [not] between value and value
               | column is [not] null
               | column                  of booleans
    side         column | value
    value        12  -0.5  1e3  'text'  "text"  true  false

A column whose name is no plain word stands in backticks. A quote within its like is doubled. Words
of the language are written small or large.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from lightsans.errors import ConfigError

Value = int | float | str | bool
Operator = Literal["==", "<", "<=", ">", ">=", "in"]

_MOST_NESTED = 50


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of a column with values, all of them numbers, all text, or all booleans."""

    column: str
    operator: Operator
    values: tuple[Value, ...]
    """One, except for ``in``."""

    @property
    def kind(self) -> type:
        """``bool``, ``str``, or ``float`` for numbers."""
        kind = type(self.values[0])
        return float if kind is int else kind


@dataclass(frozen=True, slots=True)
class IsNull:
    """Whether a column has no value."""

    column: str


@dataclass(frozen=True, slots=True)
class Not:
    """A condition that is turned round; what is unknown stays unknown."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class Both:
    """Conditions that must hold together."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """Conditions of which one must hold."""

    conditions: tuple["Condition", ...]


Condition = Comparison | IsNull | Not | Both | Either


def comparisons_of(condition: Condition) -> Iterator[Comparison | IsNull]:
    """Every comparison of a condition, in order."""
    if isinstance(condition, Comparison | IsNull):
        yield condition
    elif isinstance(condition, Not):
        yield from comparisons_of(condition.condition)
    else:
        for below in condition.conditions:
            yield from comparisons_of(below)


def columns_of(condition: Condition) -> list[str]:
    """Names of the columns that a condition looks at, each once."""
    return list(dict.fromkeys(test.column for test in comparisons_of(condition)))


@lru_cache(maxsize=16)
def parse_condition(text: str, setting: str) -> Condition:
    """The condition that a text says.

    Args:
        text: The text.
        setting: Setting that has it, for messages.

    Raises:
        ConfigError: It says none; the message shows the place.
    """
    return _Parser(text, setting).parse()


_WORDS = frozenset({"and", "or", "not", "in", "is", "null", "none", "between", "true", "false"})
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<column>`(?:[^`]|``)+`)
      | (?P<word>[^\W\d]\w*)
      | (?P<sign><=|>=|==|!=|<>|[<>=()\[\],+-])
      | (?P<end>$)
    )""",
    re.VERBOSE,
)
_TURNED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_COMPARISONS = {**{sign: sign for sign in _TURNED}, "=": "==", "<>": "!="}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """number, text, column, sign, end, or a word of the language itself."""
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class _Column:
    name: str


class _Parser:
    """Reads tokens from left to right; `_next` is the one at hand."""

    def __init__(self, text: str, setting: str) -> None:
        self._text, self._setting = text, setting
        self._depth = 0
        self._tokens = list(self._split())
        self._place = 0

    def parse(self) -> Condition:
        """The condition of the whole text."""
        if not self._text.strip():
            raise ConfigError(f"{self._setting} is empty; null takes every row")
        condition = self._either()
        if self._next.kind != "end":
            raise self._error("the end, and, or")
        return condition

    def _split(self) -> Iterator[_Token]:
        place = 0
        while True:
            match = _TOKEN.match(self._text, place)
            if match is None:
                begin = place + len(self._text[place:]) - len(self._text[place:].lstrip())
                rest = self._text[begin:]
                hint = "; a quote is opened and never closed" if rest[0] in "'\"`" else ""
                raise ConfigError(
                    f"{self._setting}={self._text!r}: {rest[:12]!r}, at character {begin + 1}, is "
                    f"no column, value or comparison{hint}"
                )
            kind = str(match.lastgroup)
            word = match[kind]
            if kind == "word":
                kind = word.lower() if word.lower() in _WORDS else "column"
            yield _Token(kind, word, match.start(match.lastgroup or 0))
            if kind == "end":
                return
            place = match.end()

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *kinds: str) -> _Token | None:
        """The token at hand, if it is one of these words or signs."""
        token = self._next
        if (token.kind if token.kind != "sign" else token.text) in kinds:
            self._place += 1
            return token
        return None

    def _require(self, kind: str) -> None:
        if self._take(kind) is None:
            raise self._error(kind)

    def _error(self, expected: str) -> ConfigError:
        token = self._next
        found = "the end" if token.kind == "end" else repr(token.text)
        return ConfigError(
            f"{self._setting}={self._text!r}: found {found} at character {token.at + 1}, expected "
            f"{expected}; an example is price > 0 and country in ['de', 'at']"
        )

    def _either(self) -> Condition:
        found = [self._both()]
        while self._take("or"):
            found.append(self._both())
        return found[0] if len(found) == 1 else Either(tuple(found))

    def _both(self) -> Condition:
        found = [self._one()]
        while self._take("and"):
            found.append(self._one())
        return found[0] if len(found) == 1 else Both(tuple(found))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > _MOST_NESTED:
            raise ConfigError(
                f"{self._setting} is nested more than {_MOST_NESTED} deep; simplify it"
            )
        if self._take("not"):
            condition: Condition = Not(self._one())
        elif self._take("("):
            condition = self._either()
            self._require(")")
        else:
            condition = self._test()
        self._depth -= 1
        return condition

    def _test(self) -> Condition:
        begin = self._next
        left = self._side()
        if not isinstance(left, _Column):
            return self._comparisons(left)
        if self._take("is"):
            is_turned = self._take("not") is not None
            if self._take("null", "none") is None:
                raise self._error("null")
            return _turned(IsNull(left.name), is_turned)
        is_turned = self._take("not") is not None
        if self._take("in"):
            return _turned(self._comparison_of(left, "in", *self._list()), is_turned)
        if self._take("between"):
            low = self._value()
            self._require("and")
            both = (
                self._comparison_of(left, ">=", low),
                self._comparison_of(left, "<=", self._value()),
            )
            return _turned(Both(both), is_turned)
        if is_turned:
            raise self._error("in or between")
        if self._next.text in _COMPARISONS and self._next.kind == "sign":
            return self._comparisons(left)
        if self._next.kind not in ("end", "and", "or") and self._next.text != ")":
            raise self._error(f"a comparison of {begin.text}, such as > or in")
        return Comparison(left.name, "==", (True,))

    def _comparisons(self, left: "_Column | Value") -> Condition:
        """Two sides or more with comparisons between them."""
        found: list[Condition] = []
        while self._next.kind == "sign" and self._next.text in _COMPARISONS:
            sign = _COMPARISONS[self._next.text]
            self._place += 1
            right = self._side()
            found.append(self._comparison(left, sign, right))
            left = right
        if not found:
            raise self._error("a comparison, such as > or =")
        return found[0] if len(found) == 1 else Both(tuple(found))

    def _comparison(
        self, left: "_Column | Value", sign: str, right: "_Column | Value"
    ) -> Condition:
        if isinstance(left, _Column) == isinstance(right, _Column):
            what = "two columns" if isinstance(left, _Column) else "two values"
            raise ConfigError(
                f"{self._setting}={self._text!r} compares {what}; one side is a column, the other "
                "a value: a number, true or false, or text in quotes"
            )
        column, value = left, right
        if not isinstance(left, _Column):
            column, value, sign = right, left, _TURNED[sign]
        assert isinstance(column, _Column)
        assert not isinstance(value, _Column)
        if sign == "!=":
            return Not(self._comparison_of(column, "==", value))
        return self._comparison_of(column, sign, value)

    def _comparison_of(self, column: _Column, operator: str, *values: Value) -> Comparison:
        kinds = {
            bool if isinstance(v, bool) else str if isinstance(v, str) else float for v in values
        }
        if len(kinds) > 1:
            raise ConfigError(
                f"{self._setting}={self._text!r}: the list for {column.name!r} mixes text with "
                "other values; all of them are numbers, or all are text in quotes"
            )
        if kinds == {bool} and operator not in ("==", "in"):
            raise ConfigError(
                f"{self._setting}={self._text!r}: {column.name!r} is neither more nor less than "
                "true or false; compare it by = or !="
            )
        return Comparison(column.name, operator, values)  # type: ignore[arg-type]

    def _list(self) -> list[Value]:
        opened = self._take("[", "(")
        if opened is None:
            raise self._error("a list such as ['de', 'at']")
        close = "]" if opened.text == "[" else ")"
        values = [self._value()]
        while self._take(","):
            if self._next.text == close:
                break
            values.append(self._value())
        self._require(close)
        return values

    def _side(self) -> "_Column | Value":
        token = self._next
        if token.kind != "column":
            return self._value()
        self._place += 1
        is_quoted = token.text.startswith("`")
        return _Column(token.text[1:-1].replace("``", "`") if is_quoted else token.text)

    def _value(self) -> Value:
        sign = self._take("-", "+")
        token = self._next
        if token.kind == "number":
            self._place += 1
            number = float(token.text)
            is_whole = number.is_integer() and abs(number) < 1e300
            value = (
                (int(token.text) if token.text.isdecimal() else int(number)) if is_whole else number
            )
            return -value if sign is not None and sign.text == "-" else value
        if sign is None and token.kind in ("text", "true", "false"):
            self._place += 1
            if token.kind != "text":
                return token.kind == "true"
            quote = token.text[0]
            return token.text[1:-1].replace(2 * quote, quote)
        if token.kind == "column":
            raise self._error("a number, or text in quotes")
        raise self._error("a column or a value")


def _turned(condition: Condition, is_turned: bool) -> Condition:
    return Not(condition) if is_turned else condition
