"""Pages about nights: one self-contained HTML file each, and an index of them.

Everything a page shows is in the file, pictures too; it loads nothing and runs no script, and its
policy forbids both. Titles and ids come from logs that anybody may write: all text is escaped, and
control characters are shown as escapes.
"""

import base64
import html
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
CHART_WIDTH, CHART_HEIGHT, CHART_MARGIN = 640, 160, 24

SECTIONS = (
    ("decisions", "Decisions"),
    ("metrics", "Metrics"),
    ("data", "Data"),
    ("learning", "Learning curve"),
    ("lists", "Lists before and after"),
    ("popularity", "Popularity and coverage"),
    ("stages", "Stages"),
    ("attempts", "Attempts"),
)
"""Id and heading of each section of a night's page, in order."""

Row = Sequence[str]

_USER = re.compile(
    r"<h3>User (.*?) \([^()<]*\)</h3>.*?"
    r"(?=<h3>User |<p>A user |<div class=\"wide\">|<figure |</section>)",
    re.DOTALL,
)
"""A user and the lists before and after, in a page."""
_ERASED = "<p>A user who was shown here was erased.</p>\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table of texts; numbers are written by whoever fills it."""

    header: Row
    rows: Sequence[Row]
    caption: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A PNG with the words for those who cannot see it."""

    png: bytes
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A decision of the night."""

    text: str
    is_good: bool | None
    """None where it is neither: a choice, or something that was left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserLists:
    """One user's list of the run before and of this one, best first; items with their titles."""

    user: str
    source: str
    before: Sequence[tuple[str, str]]
    after: Sequence[tuple[str, str]]

    @property
    def known(self) -> frozenset[str]:
        """Items of the list before."""
        return frozenset(item for item, _ in self.before)


@dataclass(frozen=True, kw_only=True, slots=True)
class NightPage:
    """Content of a night's page; a section without content says so."""

    date: str
    outcome: str
    reason: str
    facts: Sequence[tuple[str, str]]
    decisions: Sequence[Decision] = ()
    tables: dict[str, Sequence[Table]] = field(default_factory=dict)
    """Tables by id of the section."""
    notes: dict[str, Sequence[str]] = field(default_factory=dict)
    """Sentences by id of the section."""
    pictures: dict[str, Sequence[Picture]] = field(default_factory=dict)
    """Pictures by id of the section."""
    lists: Sequence[UserLists] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexEntry:
    """A night in the index."""

    date: str
    outcome: str
    reason: str
    minutes: str
    has_page: bool
    value: float | None = None
    """The metric that nights are compared by."""
    low: float | None = None
    high: float | None = None


def render_night(page: NightPage, shown: Callable[[str], str]) -> str:
    """The HTML of a night's page.

    Args:
        page: Its content.
        shown: Makes control characters of a text visible.
    """
    return _render("night.html.j2", shown, page=page, sections=SECTIONS)


def render_index(
    entries: Sequence[IndexEntry], published: str, metric: str, shown: Callable[[str], str]
) -> str:
    """The HTML of the index.

    Args:
        entries: The nights, newest first.
        published: A sentence on what is published.
        metric: Name of the metric of the entries.
        shown: Makes control characters of a text visible.
    """
    chart = draw_chart(entries[::-1])
    return _render(
        "index.html.j2", shown, entries=entries, published=published, metric=metric, chart=chart
    )


def draw_chart(entries: Sequence[IndexEntry]) -> dict[str, Any] | None:
    """Coordinates of the metric and its interval by night; None for fewer than two values.

    Args:
        entries: The nights, oldest first.
    """
    known = [entry for entry in entries if entry.value is not None]
    if len(known) < 2:
        return None
    values = [(e.value or 0.0, e.value if e.low is None else e.low, e.high or e.value or 0.0)
              for e in known]  # fmt: skip
    least, most = min(low or 0.0 for _, low, _ in values), max(high for _, _, high in values)
    span = (most - least) or 1.0
    step = (CHART_WIDTH - 2 * CHART_MARGIN) / (len(known) - 1)

    def y(value: float) -> float:
        inner = CHART_HEIGHT - 2 * CHART_MARGIN
        return round(CHART_MARGIN + inner * (1 - (value - least) / span), 1)

    points = [
        {
            "x": round(CHART_MARGIN + step * number, 1),
            "y": y(value),
            "top": y(high),
            "bottom": y(low or 0.0),
            "title": f"{entry.date}: {value:.4f}",
        }
        for number, (entry, (value, low, high)) in enumerate(zip(known, values, strict=True))
    ]
    return {
        "points": points,
        "line": " ".join(f"{point['x']},{point['y']}" for point in points),
        "least": f"{least:.4f}",
        "most": f"{most:.4f}",
        "width": CHART_WIDTH,
        "height": CHART_HEIGHT,
        "first": known[0].date,
        "last": known[-1].date,
    }


def data_uri(png: bytes) -> Markup:
    """The address of a picture that is in the file itself."""
    return Markup(f"data:image/png;base64,{base64.b64encode(png).decode()}")


def _render(name: str, shown: Callable[[str], str], **content: Any) -> str:
    return _environment(shown).get_template(name).render(**content)


@cache
def _environment(shown: Callable[[str], str]) -> Environment:
    def finalize(value: object) -> object:
        if value is None:
            return ""
        return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    return environment


def remove_users(page: str, users: Collection[str]) -> tuple[str, int]:
    """Remove some users and their lists from a finished page; the page, and how many it showed.

    Args:
        page: The page of a night.
        users: Their ids.
    """
    removed = 0

    def left(found: re.Match[str]) -> str:
        nonlocal removed
        if html.unescape(found[1]) not in users:
            return found[0]
        removed += 1
        return _ERASED

    return _USER.sub(left, page), removed
