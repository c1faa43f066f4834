"""Oddities of an input that refuse no row, or are told in more detail than by a reason: counted."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lightsans.arrays import Bool
from lightsans.columns.times import to_iso

NULL, EMPTY = "(null)", "(empty)"
"""Words for values that have none."""

MANY_REPEATS = 0.05
"""Share of rows that repeat user, item and time of another from which on it is told."""
EARLY_US = 631_152_000 * 10**6
"""1990: no log of interactions is older, but for made-up ones."""


@dataclass(slots=True)
class Findings:
    """Counts over some rows; those of pieces add up."""

    missing: dict[str, Counter[str]] = field(default_factory=dict)
    """Rows without a value, by role and by the word that stands there."""
    padded: Counter[str] = field(default_factory=Counter)
    """Rows with blanks around the id, by role."""
    padded_example: dict[str, str] = field(default_factory=dict)
    unread_ratings: int = 0
    """Rows whose rating is there and no number."""
    early: int = 0
    """Valid rows from before 1990."""
    step: float = 0.0
    """Largest distance, in units of ``data.timestamp_unit``, between neighbouring times of a
    column of short floats; 0 where all whole units can be told apart."""
    cut: int = 0
    """Rows whose time is finer than a microsecond, and was cut."""
    unread_where: Counter[str] = field(default_factory=Counter)
    """Rows that `data.where` left out because text was no number, or neither true nor false, by
    column."""

    def add_missing(self, role: str, words: Mapping[str, int]) -> None:
        """Count rows without a value by the word that stands there."""
        if words:
            self.missing.setdefault(role, Counter()).update(words)

    def add_padded(self, role: str, is_padded: Bool, example: str) -> None:
        """Count rows with blanks around the id."""
        self.padded[role] += int(is_padded.sum())
        self.padded_example.setdefault(role, example)

    def add(self, other: "Findings") -> None:
        """Add the counts of other rows."""
        for role, words in other.missing.items():
            self.add_missing(role, words)
        self.padded.update(other.padded)
        self.padded_example = {**other.padded_example, **self.padded_example}
        self.unread_ratings += other.unread_ratings
        self.early += other.early
        self.step = max(self.step, other.step)
        self.cut += other.cut
        self.unread_where.update(other.unread_where)

    def since(self, before: "Findings") -> "Findings":
        """Counts of the rows that were added to those of ``before``."""
        missing = {r: words - before.missing.get(r, Counter()) for r, words in self.missing.items()}
        return Findings(
            missing={role: words for role, words in missing.items() if words},
            padded=self.padded - before.padded,
            padded_example=self.padded_example,
            unread_ratings=self.unread_ratings - before.unread_ratings,
            early=self.early - before.early,
            step=self.step if self.step > before.step else 0.0,
            cut=self.cut - before.cut,
            unread_where=self.unread_where - before.unread_where,
        )

    def to_dict(self) -> dict[str, Any]:
        """Content for JSON."""
        return {
            "missing": {role: dict(words) for role, words in sorted(self.missing.items())},
            "padded": dict(sorted(self.padded.items())),
            "padded_example": dict(sorted(self.padded_example.items())),
            "unread_ratings": self.unread_ratings,
            "early": self.early,
            "step": self.step,
            "cut": self.cut,
            **(
                {"unread_where": dict(sorted(self.unread_where.items()))}
                if self.unread_where
                else {}
            ),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Findings":
        """The inverse of `to_dict`."""
        missing = {role: Counter(words) for role, words in content.get("missing", {}).items()}
        counters: dict[str, Counter[str]] = {
            name: Counter(content.get(name)) for name in ("padded", "unread_where")
        }
        return cls(**{**content, "missing": missing, **counters})


def describe_missing(findings: Findings, num_rows: int) -> str:
    """Words for missing users, items and times with their shares, or nothing."""
    said = []
    for role in ("user", "item", "timestamp"):
        words = findings.missing.get(role)
        if words:
            counts = ", ".join(f"{word} {_share(n, num_rows)}" for word, n in words.most_common(5))
            said.append(f"{role}: {counts}")
    return "; ".join(said)


def describe_findings(
    findings: Findings, num_rows: int, num_valid: int, unit: str, oldest: int | None
) -> Iterator[str]:
    """Describe in a sentence each oddity, its share and the way out.

    Args:
        findings: Counts over all rows.
        num_rows: Rows that were read.
        num_valid: Rows that were not refused.
        unit: The setting ``data.timestamp_unit``.
        oldest: Least time, in microseconds; None where it is not known.
    """
    missing = describe_missing(findings, num_rows)
    if missing:
        yield (
            f"rows without a value are refused: {missing}. data.missing_values lists the words "
            "that mean so: take those out that are real ids"
        )
    for role, count in sorted(findings.padded.items()):
        yield (
            f"WARNING: {_share(count, num_rows)} have blanks around the {role} id, such as "
            f"{findings.padded_example[role]!r}; data.strip_ids: true takes them away"
        )
    ratings = findings.missing.get("rating", Counter[str]()).total()
    if findings.unread_ratings:
        yield (
            f"WARNING: {_share(findings.unread_ratings, num_rows)} have a rating that is no "
            "number; they count as not rated"
        )
    if ratings:
        yield f"{_share(ratings, num_rows)} have no rating"
    if findings.early:
        first = "" if oldest is None else f", the first of {to_iso(oldest)}"
        yield (
            f"WARNING: {_share(findings.early, num_valid)} are from before 1990{first}; is "
            f"data.timestamp_unit={unit} right, for all of them? Where a file mixes units, mend it "
            "(days as Excel counts them, such as 44000, are to be written as dates)"
        )
    if findings.step:
        yield (
            f"WARNING: times are short floats, in steps of {findings.step:g} {unit}: the order "
            "within a step is lost; write them as integers or doubles"
        )
    if findings.cut:
        yield (
            f"{_share(findings.cut, num_valid)} have times finer than a microsecond, which were "
            "cut; within a microsecond the order of the input decides"
        )
    for column, count in sorted(findings.unread_where.items()):
        yield (
            f"WARNING: {_share(count, num_rows)} are left out by data.where because {column} could "
            "not be compared: text that is no number, or neither true nor false"
        )


def describe_repeats(share: float, has_events: bool) -> str | None:
    """Sentence about rows that repeat others; None for few.

    Args:
        share: Share of the rows that repeat user, item and time of another.
        has_events: Whether ``data.events`` says what each event counts for.
    """
    if share < MANY_REPEATS:
        return None
    events = "" if has_events else ", and data.events picks events of which one comes with another"
    return (
        f"{share:.1%} of the rows repeat user, item and time of another: such targets are "
        "easily predicted, and metrics say little; data.dedupe: last keeps one interaction of a "
        f"user with an item{events}"
    )


def _share(count: int, total: int) -> str:
    return f"{count:,} rows ({count / max(total, 1):.2%})"
