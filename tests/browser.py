"""A real Chromium, driven by its command line: opens a page as a phone would, and measures it."""

import html
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

PHONE_WIDTH = 390
"""CSS pixels of a common phone."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")

_SCRIPT = """
<script>
const frame = document.getElementById("page");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  const sections = {};
  for (const section of page.querySelectorAll("section")) {
    const box = section.getBoundingClientRect();
    sections[section.id] = {
      heading: section.querySelector("h2").innerText,
      text: section.innerText,
      height: box.height,
      right: box.right,
    };
  }
  document.getElementById("measured").textContent = JSON.stringify({
    title: page.title,
    width: view.innerWidth,
    scrolls_to: page.documentElement.scrollWidth,
    sections: sections,
    scripts_ran: view.pwned === true || window.pwned === true,
    images: [...page.images].map((i) => [i.complete && i.naturalWidth > 0, i.alt]),
    elements: [...new Set([...page.querySelectorAll("body *")].map((e) => e.localName))],
  });
});
frame.srcdoc = document.getElementById("source").textContent;
</script>
"""


def find_chromium() -> str | None:
    """The path of a Chromium, if this machine has one; ``CHROMIUM`` names another."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def open_page(text: str, directory: Path, width: int = PHONE_WIDTH) -> dict[str, Any]:
    """Open a page in a window of a phone's width, and measure what is seen.

    Args:
        text: The page's HTML.
        directory: For the browser's files.
        width: CSS pixels.
    """
    chromium = find_chromium()
    assert chromium is not None
    wrapper = directory / "wrapper.html"
    wrapper.write_text(
        '<!DOCTYPE html><meta charset="utf-8"><pre id="measured"></pre>'
        f'<textarea id="source" hidden>{html.escape(text)}</textarea>'
        f'<iframe id="page" style="border:0;width:{width}px;height:800px"></iframe>{_SCRIPT}',
        encoding="utf-8",
    )
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--disable-dev-shm-usage", "--virtual-time-budget=10000", "--disable-extensions"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-sync"]
    command += [f"--user-data-dir={directory / 'profile'}", wrapper.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    measured = done.stdout.partition('<pre id="measured">')[2].partition("</pre>")[0]
    assert measured, done.stderr
    found: dict[str, Any] = json.loads(html.unescape(measured))
    return found
