"""Nights for tests: a log, commands that find everything done, and looks at a root."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lightsans.config import RunConfig
from lightsans.config.file import dump_yaml
from lightsans.storage.location import locate
from pipelines.publish import Published, read_published
from tests.commands import ROOT

FIRST, SECOND, THIRD = "2025-11-05", "2025-11-06", "2025-11-07"
WITHOUT_RAY = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
"""For processes that find everything done: with work to do, they could not connect."""


def write_log(path: Path) -> None:
    """Users go round two circles of items by turns, an item each twelve hours.

    What comes next is the successor of the last item but one, which nobody sees who looks at the
    last item alone.
    """
    rng = random.Random(0)
    begin = datetime(2025, 11, 1, tzinfo=UTC)
    rows = []
    for user in range(500):
        starts = rng.randrange(20), rng.randrange(20)
        # Some do nothing any more after the fifth day.
        for step in range(rng.randrange(8), 10 if user % 10 == 0 else 14):
            time = begin + timedelta(hours=12 * step, seconds=user)
            circle = step % 2
            rows.append((time, user, 100 * circle + (starts[circle] + step // 2) % 20))
    lines = [f"{user},{item},{time.isoformat()}\n" for time, user, item in sorted(rows)]
    path.write_text("user_id,item_id,timestamp\n" + "".join(lines))


def latest(root: Path) -> str | None:
    pointer = root / "recommendations" / "LATEST"
    return pointer.read_text() if pointer.exists() else None


def state_of(root: Path) -> dict[str, int]:
    """When each file was last changed; locks, pointers and pages apart."""
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file()
        and not (path.suffix == ".html" or path.parent.name in ("locks", "recommendations"))
    }


def published_of(config: RunConfig, root: Path) -> Published:
    return read_published(locate(str(root), config.storage))


def with_nightly(config: RunConfig, **settings: Any) -> RunConfig:
    return replace(config, nightly=replace(config.nightly, **settings))


def run_submit(
    config: RunConfig, tmp_path: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """``submit.py`` in a process of its own, which finds no Ray."""
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(config))
    command = [sys.executable, "submit.py", *arguments, "--config", str(path)]
    return subprocess.run(
        command, cwd=ROOT, env=WITHOUT_RAY, capture_output=True, text=True, timeout=120
    )


def unpublished(config: RunConfig) -> Path:
    """The root of a configuration, with all that nights made, none of them published."""
    path = Path(config.root)
    for name in ("LATEST", "history.json"):
        (path / "recommendations" / name).unlink(missing_ok=True)
    for report in (path / "reports").glob("nightly-*.json"):
        report.unlink()
    return path
