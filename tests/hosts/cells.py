"""The table stage by fault: kept as JSON lines, a line for each cell, shown as a table.

python -m tests.hosts.cells FILE
"""

import json
import sys
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
    """Whether the lists are those of an undisturbed run."""
    lost_min: float
    """Minutes that both took longer than the undisturbed command."""
    requests: int
    """Requests to storage beyond those of the undisturbed command."""
    said: str
    """Last line that the disturbed command told."""
    date: str
    commit: str

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


def table(cells: Iterable[Cell]) -> str:
    """A row for each cell, those of a fault together."""
    lines = ["| Fault | During | Status | Run again | Same lists | Minutes lost | Requests more |"]
    lines.append("|---" * 7 + "|")
    for cell in sorted(cells, key=lambda cell: cell.fault):
        words = [cell.fault, cell.stage, cell.status, "-" if cell.again is None else cell.again]
        words += ["yes" if cell.same_rows else "no", cell.lost_min, cell.requests]
        lines.append(f"| {' | '.join(map(str, words))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(read_cells(Path(sys.argv[1]))))
