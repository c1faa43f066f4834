"""Nights that were killed and run again: kept as JSON lines, shown as a table.

python -m tests.night_rounds FILE
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NightRound:
    """Events of one round."""

    number: int
    moment_s: float
    """Time from the start at which the night was killed."""
    length_s: float
    """Time that an undisturbed night took."""
    during: str
    """The stage that had begun last, or ``end`` where the night had ended by itself."""
    status: int
    """Exit status of the same command afterwards."""
    same_rows: bool
    """Whether the same rows are published as after an undisturbed night, once."""
    commit: str

    @property
    def is_good(self) -> bool:
        return self.status == 0 and self.same_rows


def read_rounds(file: Path | None) -> list[NightRound]:
    if file is None or not file.exists():
        return []
    return [NightRound(**json.loads(line)) for line in file.read_text().splitlines()]


def add_round(file: Path | None, made: NightRound) -> None:
    if file is not None:
        with file.open("a") as lines:
            lines.write(json.dumps(asdict(made)) + "\n")


def table(rounds: Iterable[NightRound]) -> str:
    """A row for each stage in which nights were killed."""
    by_stage: dict[str, list[NightRound]] = {}
    for one in rounds:
        by_stage.setdefault(one.during, []).append(one)
    lines = ["| Killed during | Nights | Status 0 afterwards | Same published rows |"]
    lines.append("|---" * 4 + "|")
    for stage, some in by_stage.items():
        counts = (len(some), sum(one.status == 0 for one in some), sum(o.same_rows for o in some))
        lines.append(f"| {stage} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(read_rounds(Path(sys.argv[1]))))
