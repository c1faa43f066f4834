"""Options and report that all benchmarks share.

Every benchmark prints lines for people while it runs. With ``--json`` the last line is one object:
``benchmark``, ``machine``, ``date``, what the benchmark adds, and ``cases``. A case compares two
numbers and says what ratio is the goal.
"""

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightsans.reports.plots import picture

Case = dict[str, Any]


def make_parser(
    doc: str | None, smoke: str = "seconds: small, no goals"
) -> argparse.ArgumentParser:
    """The parser of a benchmark with ``--smoke`` and ``--json``; options of its own are added.

    Args:
        doc: Docstring of the module; its first line is the help.
        smoke: Help of ``--smoke``.
    """
    assert doc is not None
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help=smoke)
    parser.add_argument("--json", action="store_true", help="one JSON object, last")
    return parser


def add_clock(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads`` and ``--clock``, for benchmarks whose threads' time would add up."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; refuses processor time of several threads where `add_clock` was used."""
    options = parser.parse_args()
    if getattr(options, "clock", "wall") == "cpu" and getattr(options, "threads", 1) > 1:
        parser.error("--clock cpu adds up the time of all threads; it needs --threads 1")
    return options


def case(
    name: str,
    *,
    ours: float | None,
    peer: float | None,
    unit: str,
    ratio: float | None,
    goal: float | None,
    **more: Any,
) -> Case:
    """One comparison of the report.

    Args:
        name: Subject of the comparison.
        ours: Our figure.
        peer: The peer's; ``peer_name`` in ``more`` may say who that is.
        unit: Unit of both.
        ratio: How many times better ours is.
        goal: Least ratio that counts as done; None where nothing was promised.
        more: Further entries.
    """
    fixed = {"case": name, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "goal": goal}
    return fixed | more


def machine(where: str) -> str:
    """The processor, and how much of it was used."""
    return f"{platform.processor() or platform.machine()}, {where}"


def rates(
    turns: Mapping[str, Callable[[], object]],
    size: int,
    repeats: int,
    now: Callable[[], float],
    pause_s: float = 0.0,
) -> dict[str, float]:
    """Median units a second of each side, while all sides take turns.

    Args:
        turns: One call of each side, by its name.
        size: Units of a call.
        repeats: Calls of each side.
        now: A clock, in seconds.
        pause_s: Pause before each call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, call in turns.items():
            time.sleep(pause_s)
            started = now()
            call()
            seconds[name].append(now() - started)
    return {name: size / statistics.median(times) for name, times in seconds.items()}


def report(
    options: argparse.Namespace,
    benchmark: str,
    where: str,
    cases: Sequence[Case],
    **more: Any,
) -> None:
    """Print the report as one line of JSON where ``--json`` asks for it.

    Args:
        options: The command line.
        benchmark: Name of the module.
        where: The machine; see `machine`.
        cases: All comparisons.
        more: Further entries.
    """
    if options.json:
        date = datetime.date.today().isoformat()
        content = {"benchmark": benchmark, "machine": where, "date": date, **more}
        print(json.dumps(content | {"cases": list(cases)}))


def save_plot(
    path: str, panels: Sequence[tuple[str, str, Sequence[tuple[str, str, Sequence[Any]]]]]
) -> None:
    """Draw curves over doubly logarithmic axes, in the look of the project's pictures.

    Args:
        path: The PNG file.
        panels: Labels of x and y, and the curves: label, style of matplotlib, and points.
    """

    def fill(*axes: Any) -> None:
        for place, (x_label, y_label, curves) in zip(axes, panels, strict=True):
            for label, style, points in curves:
                if len(points):
                    place.loglog(*np.asarray(points, float).T, style, label=label)
            place.set(xlabel=x_label, ylabel=y_label)
        axes[0].legend()

    Path(path).write_bytes(picture(fill, panels=len(panels)))
