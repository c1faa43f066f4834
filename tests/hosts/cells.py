"""The table stage by fault: kept as JSON lines, a line for each cell, shown in cluster/README.md.

python -m tests.hosts.cells, after cells were added, writes the table there.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Record of a fault that befell a stage."""

    stage: str
    fault: str
    status: int
    """Exit status of the command that was disturbed."""
    again: int | None
    """Exit status of the same command afterwards; None where it was not needed."""
    same_rows: bool
    """Whether the results are those of an undisturbed run: `tests.hosts.outcomes`."""
    lost_min: float
    """Minutes that both took longer than the undisturbed command."""
    requests: int
    """Requests to storage beyond those of the undisturbed command."""
    said: str
    """Last line that the disturbed command told."""
    date: str
    commit: str
    """Last commit then that changed the product."""
    left_s: float | None = None
    """Seconds from the fault's beginning to the stage's result; None where it was not noted."""

    @property
    def is_good(self) -> bool:
        """Whether it ended by itself with the same results, or clearly and then a rerun did."""
        ended = self.status == 0 or (self.status not in (124, 137) and self.again == 0)
        return ended and self.same_rows


def read_cells(file: Path) -> list[Cell]:
    """Cells of the table so far."""
    if not file.exists():
        return []
    return [Cell(**json.loads(line)) for line in file.read_text().splitlines()]


def add_cell(file: Path, cell: Cell) -> None:
    """Put a cell into the table."""
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(cell)) + "\n")


CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
RECORDS = CLUSTER / "faults.jsonl"
BEGIN, END = "<!-- table of faults -->", "<!-- end of the table -->"
STAGES = ("preprocess", "train", "evaluate", "score", "tune", "nightly")
"""Columns of the table."""


def table(cells: Iterable[Cell]) -> str:
    """A row for each fault, a column for each stage; empty where none was tried.

    A cell has the exit status, that of the same command afterwards where it was needed, minutes
    lost and requests to storage beyond those of an undisturbed command.
    """
    found = {(cell.fault, cell.stage): cell for cell in cells}
    lines = [f"| fault | {' | '.join(STAGES)} |", "|---" * (1 + len(STAGES)) + "|"]
    for fault in sorted({fault for fault, _ in found}):
        words = [_words(found.get((fault, stage))) for stage in STAGES]
        lines.append(f"| {fault} | {' | '.join(words)} |")
    return "\n".join(lines)


def _words(cell: Cell | None) -> str:
    if cell is None:
        return ""
    status = f"{cell.status}" if cell.again is None else f"{cell.status}, then {cell.again}"
    return f"{status}; {cell.lost_min} min; {cell.requests:+,}"


def with_table(page: str, cells: Iterable[Cell]) -> str:
    """A page whose table between the marks is that of the cells."""
    written, times = re.subn(
        f"{BEGIN}.*?{END}", f"{BEGIN}\n\n{table(cells)}\n\n{END}", page, flags=re.DOTALL
    )
    assert times == 1, f"the page needs {BEGIN} and {END}, once"
    return written


if __name__ == "__main__":
    page = CLUSTER / "README.md"
    page.write_text(with_table(page.read_text(), read_cells(RECORDS)))
