"""Results of commands on standard output: tables and JSON; everything else is standard error."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipelines.console.logs import dump_json, printable

if TYPE_CHECKING:  # it needs PyTorch, which commands without metrics do not wait for
    from lightsans.reports.evaluation_figures import EvaluationFigures

RESULT_MARK_VARIABLE = "LIGHTSANS_RESULT_MARK"
"""Set in jobs that were submitted with ``--json``: their log mixes both outputs."""


def open_closed_streams() -> None:
    """Lead standard streams that a caller has closed (``>&-``) nowhere.

    Left closed, their numbers would be those of the next files to be opened, and what a library
    prints would be written into these.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(descriptor, descriptor == number)
            setattr(sys, name, os.fdopen(descriptor, mode))


@contextmanager
def only_results_on_stdout() -> Iterator[None]:
    """Send whatever libraries print during the block to standard error."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    mark = os.environ.get(RESULT_MARK_VARIABLE, "")
    print(mark + dump_json(content))


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table for people; numbers are right-aligned, control characters become escapes."""
    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(header):
        is_number = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(printable(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    console.print(printable(title), style="italic")  # as the table's own it would wrap at its width
    console.print(table)


def print_metrics(found: "EvaluationFigures", protocol: str) -> None:
    """Print metrics with 95 % intervals, and a warning where the model does not beat a baseline."""
    names = ("hit@10", "ndcg@10", "mrr@10")
    rows = [
        [
            split,
            scorer,
            *(with_interval(values[split], found.intervals[scorer][split], n) for n in names),
        ]
        for split in ("valid", "test")
        for scorer, values in found.metrics.items()
        if split in values
    ]
    print_table("Ranking quality", ["split", "scorer", *names], rows)
    print(protocol)
    print(f"{found.users['test']:,} users on test; 95 % intervals in brackets")
    for scorer, differences in found.differences.items():
        lead = differences["test"].get("ndcg@10")
        if lead is not None and lead.low <= 0:
            word = "does not beat" if lead.value <= 0 else "is not surely better than"
            print(
                f"WARNING: the model {word} the baseline {scorer!r} on test ndcg@10: it leads by "
                f"{lead:.4f}"
            )


def with_interval(
    values: Mapping[str, float], intervals: Mapping[str, Sequence[float]], name: str
) -> str:
    """A metric with its 95 % interval, as tables show it; ``none`` where nobody was evaluated."""
    if name not in values:
        return "none"
    if name not in intervals:  # of an earlier version
        return f"{values[name]:.4f}"
    low, high = intervals[name]
    return f"{values[name]:.4f} [{low:.4f}, {high:.4f}]"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
