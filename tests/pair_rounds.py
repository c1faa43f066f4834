"""Rounds of pairs of which one is killed: kept as JSON lines, shown as a table.

python -m tests.pair_rounds FILE
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

Victim = Literal["holder", "waiting", "starting", "ended"]
"""Who was killed: who had the lease, who waited for it, who had not come so far (nobody had it
yet), or who had ended by itself, so that nobody was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Events of one round."""

    stage: str
    storage: str
    number: int
    victim: Victim
    moment_s: float
    """Time from the start at which it was killed."""
    length_s: float
    """Time that an undisturbed run took."""
    victim_status: int
    survivor_status: int
    survivor: Literal["made", "found"]
    """Whether the survivor wrote the manifest itself."""
    same_content: bool
    """Whether there is one finished result, equal to the undisturbed one."""
    commit: str

    @property
    def is_good(self) -> bool:
        return self.survivor_status == 0 and self.same_content

    @property
    def took_over(self) -> bool:
        """Whether the survivor finished what the victim had begun."""
        return self.victim == "holder" and self.survivor == "made"


def read_rounds(file: Path | None) -> list[Round]:
    if file is None or not file.exists():
        return []
    return [Round(**json.loads(line)) for line in file.read_text().splitlines()]


def add_round(file: Path | None, made: Round) -> None:
    if file is not None:
        with file.open("a") as lines:
            lines.write(json.dumps(asdict(made)) + "\n")


def table(rounds: Iterable[Round]) -> str:
    """A row for each stage and storage."""
    cells: dict[tuple[str, str], list[Round]] = {}
    for one in rounds:
        cells.setdefault((one.stage, one.storage), []).append(one)
    titles = ["Stage", "Storage", "Rounds", "Holder killed", "Killed while waiting"]
    titles += ["Killed before anybody began", "Had ended", "Taken over", "Survivor's status 0"]
    lines = [_row([*titles, "Same content"]), "|---" * (len(titles) + 1) + "|"]
    for (stage, storage), some in cells.items():
        counts = [sum(one.victim == who for one in some) for who in get_args(Victim)]
        counts.append(sum(one.took_over for one in some))
        counts.append(sum(one.survivor_status == 0 for one in some))
        counts.append(sum(one.same_content for one in some))
        lines.append(_row([stage, storage, str(len(some)), *map(str, counts)]))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table(read_rounds(Path(sys.argv[1]))))
