"""Pages about nights: every section, nothing from outside, and no text that is taken for markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from lightsans.reports.night_page import (
    SECTIONS,
    Decision,
    IndexEntry,
    NightPage,
    Picture,
    Table,
    UserLists,
    draw_chart,
    render_index,
    render_night,
)
from lightsans.reports.plots import picture
from pipelines.console.logs import printable
from tests.browser import PHONE_WIDTH, find_chromium, open_page

EVIL = (
    '<script>window.pwned=true</script><img src=x onerror="pwned=true">'
    "&amp;\"'\x1b[2J\u202e{{ 7*7 }}"
)
"""A title as somebody may write it into a log."""
LONG = "a-very-long-title-without-any-blank-" * 20


def page(text="Toy Story (1995)"):
    png = picture(lambda *panels: panels[0].plot(np.arange(3)), panels=3)
    table = Table(header=["", "hit@10", "ndcg@10", "mrr@10", text], rows=[[text] * 5] * 3)
    return NightPage(
        date="2026-11-05",
        outcome="refused",
        reason=f"1 of 3 checks failed\n  {text}",
        facts=[("run", "0a1b2c3d4e5f"), ("users", text)],
        decisions=[
            Decision(text=f"users is 3, must be at least 5 {text}", is_good=False),
            Decision(text="test ndcg@10", is_good=True),
            Decision(text="not compared: a refit", is_good=None),
        ],
        tables={name: [table] for name, _ in SECTIONS if name not in ("lists", "decisions")},
        pictures={"data": [Picture(png=png, words=text)], "learning": [Picture(png=png, words="")]},
        lists=[
            UserLists(
                user=text,
                source="model",
                before=[("1", text), ("2", "")],
                after=[("2", ""), ("3", text), ("4", LONG)],
            )
        ],
    )


def shown(text):
    return printable(text, keep="\n\t")


class Tags(HTMLParser):
    """Elements and attributes of a page; fails on what is never closed."""

    def __init__(self, text):
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("text", ["Toy Story", EVIL, LONG])
def test_a_page_has_every_section_once_with_its_heading(text):
    found = Tags(render_night(page(text), shown))
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert ids == [name for name, _ in SECTIONS]
    for _, heading in SECTIONS:
        assert heading in found.text


def test_text_of_logs_is_never_markup_and_its_control_characters_are_seen():
    html = render_night(page(EVIL), shown)
    found = Tags(html)
    assert found.names.isdisjoint({"script", "iframe", "object", "embed", "link", "form"})
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/png;base64,") for _, n, value in found.attributes
               if n == "src")  # fmt: skip
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "\\x1b[2J\\u202e{{ 7*7 }}" in html
    assert "49" not in "".join(found.text)


@pytest.mark.parametrize("text", ["\ud800", "\x00\x7f\x9b", "&lt;b&gt;", "]]>", "-->", "\r\n"])
def test_any_text_can_be_shown(text):
    html = render_night(page(text), shown)
    html.encode()
    Tags(html)


def test_nothing_is_loaded_from_outside_and_the_page_forbids_it():
    entries = [IndexEntry(date="2026-11-05", outcome="published", reason="", minutes="3.0",
                          has_page=True, value=0.1, low=0.05, high=0.2)] * 2  # fmt: skip
    for html in (render_night(page(), shown), render_index(entries, "r", "ndcg@10", shown)):
        without_pictures = re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
        assert not re.findall(r"(?:https?:)?//[\w.]+", without_pictures)
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
        links = [value for tag, name, value in Tags(html).attributes if name == "href"]
        assert links
        assert all(re.fullmatch(r"#\w+|index\.html|nightly-[\w.%-]+\.html", link) for link in links)


def test_a_night_that_did_not_come_far_says_so_in_its_empty_sections():
    empty = NightPage(date="d", outcome="failed", reason="no space left", facts=[])
    html = render_night(empty, shown)
    assert html.count("This night did not come so far.") == len(SECTIONS)
    assert "no space left" in html


def test_items_that_are_new_in_a_list_are_marked():
    html = render_night(page(), shown)
    assert '<li>2</li>\n<li class="new">Toy Story (1995) <small>3</small></li>' in html


# ---- the index


def entry(number, **fields):
    value = 0.1 + number / 100
    return replace(
        IndexEntry(date=f"2026-11-{number:02d}", outcome="published", reason="", minutes="2.0",
                   has_page=True, value=value, low=value - 0.01, high=value + 0.02),
        **fields,
    )  # fmt: skip


def test_the_index_links_the_nights_that_have_pages_newest_first():
    entries = [entry(3), entry(2, has_page=False, outcome="died"), entry(1, reason=EVIL)]
    html = render_index(entries, "Published is run r.", "ndcg@10", shown)
    found = Tags(html)
    links = [value for _, name, value in found.attributes if name == "href"]
    assert links == ["nightly-2026-11-03.html", "nightly-2026-11-01.html"]
    assert html.index("2026-11-03.html") < html.index("died") < html.index("2026-11-01.html")
    assert "script" not in found.names
    assert "0.1300 [0.1200, 0.1500]" in html


def test_the_chart_stays_within_its_borders_and_rises_with_the_metric():
    chart = draw_chart([entry(1), entry(2), entry(3, low=None, high=None), entry(4, value=None)])
    assert chart is not None
    points = chart["points"]
    assert [point["title"] for point in points] == [
        "2026-11-01: 0.1100", "2026-11-02: 0.1200", "2026-11-03: 0.1300"
    ]  # fmt: skip
    assert points[0]["y"] > points[1]["y"] > points[2]["y"]
    for point in points:
        assert 0 <= point["top"] <= point["y"] <= point["bottom"] <= chart["height"]
        assert 0 <= point["x"] <= chart["width"]


def test_a_chart_needs_two_values_and_bears_equal_ones():
    assert draw_chart([entry(1)]) is None
    same = [entry(n, value=0.0, low=0.0, high=0.0) for n in (1, 2)]
    assert draw_chart(same) is not None
    assert "svg" not in Tags(render_index([], "Nothing is published.", "ndcg@10", shown)).names


# ---- in a browser


@pytest.mark.programs
@pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium (or CHROMIUM=/path)")
@pytest.mark.parametrize("text", ["Toy Story (1995)", EVIL + LONG])
def test_a_phone_shows_every_section_without_scrolling_sideways(tmp_path, text):
    found = open_page(render_night(page(text), shown), tmp_path)
    assert found["title"] == "Night 2026-11-05: refused"
    assert {name: section["heading"] for name, section in found["sections"].items()} == dict(
        SECTIONS
    )
    assert all(section["height"] > 40 for section in found["sections"].values())
    assert found["width"] == PHONE_WIDTH
    assert found["scrolls_to"] <= PHONE_WIDTH
    assert not found["scripts_ran"]
    assert found["images"]
    assert all(is_loaded for is_loaded, _ in found["images"])


@pytest.mark.programs
@pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium (or CHROMIUM=/path)")
def test_a_phone_shows_the_index_with_its_chart(tmp_path):
    entries = [entry(number, reason=LONG) for number in range(9, 0, -1)]
    found = open_page(render_index(entries, "Published is run r.", "ndcg@10", shown), tmp_path)
    assert set(found["sections"]) == {"chart", "nights"}
    assert found["scrolls_to"] <= PHONE_WIDTH
    assert "svg" in found["elements"]
