"""Examples in documents can be run as they stand, and what documents point to is there."""

import doctest
import re

import pytest

from tests.commands import ROOT

DOCS = ROOT / "docs"
PAGES = sorted({*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("cluster/*.md")})
OURS = "lightsans|pipelines|benchmarks|tests|tools|cluster|docs"


@pytest.mark.parametrize("name", ["api.md", "recommendations.md", "serving.md"])
def test_the_examples_of_a_page_print_what_they_say(name):
    result = doctest.testfile(str(DOCS / name), module_relative=False, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_or_links_exists(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{OURS})/[\w./-]+\.\w+)`", text)
    linked = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [target for target in linked if not (page.parent / target).exists()]
    assert missing == []
