"""Records of a search: one small JSON file per trial, from which everything else follows.

    tune/<id>/  trials/0007.json   values, status, learning curve, error
                trials/0007/       its checkpoints, while it may still need them
                spent.json         how long the search has run so far

Trials that were running when a search was interrupted still say so; their curve is that of their
newest checkpoint.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from lightsans.search.proposals import Observation, Status
from lightsans.search.space import Values
from lightsans.storage.checkpoint_store import PROGRESS, complete_checkpoints
from lightsans.storage.location import Location
from lightsans.training.progress import Progress

SPENT = "spent.json"


@dataclass(slots=True, kw_only=True)
class TrialRecord:
    """One trial of a search."""

    number: int
    """Number of the trial, from 1, in the order of drawing."""
    values: Values
    model_id: str
    """Id of the training run that this trial is."""
    status: Status = "running"
    """stopped: by the scheduler; failed: with an error, after its retries."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """`lightsans.training.progress.EpochRow` objects as dicts."""
    error: str | None = None

    def best_row(self, metric: str) -> dict[str, Any] | None:
        """The epoch that the trial's model is: the first with the best valid metric."""
        return max(
            self.history, key=lambda row: (row["valid"][metric], -row["epoch"]), default=None
        )

    def score(self, metric: str) -> float | None:
        """The best valid metric; None before the first epoch."""
        row = self.best_row(metric)
        return None if row is None else float(row["valid"][metric])

    def curve(self, metric: str) -> dict[int, float]:
        """The best valid metric up to each epoch."""
        best, curve = 0.0, {}
        for row in self.history:
            best = max(best, row["valid"][metric])
            curve[int(row["epoch"])] = best
        return curve

    def observation(self, metric: str) -> Observation:
        """The trial as an engine sees it."""
        return Observation(self.values, self.status, self.curve(metric))

    @property
    def train_s(self) -> float:
        """Seconds of training and validation."""
        return float(sum(row["train_s"] + row["valid_s"] for row in self.history))


class TrialStore:
    """The records of one search, in its directory."""

    def __init__(self, directory: Location) -> None:
        self._directory = directory

    def trial_directory(self, number: int) -> Location:
        """Directory of a trial's checkpoints."""
        return self._directory / "trials" / f"{number:04d}"

    def save(self, record: TrialRecord) -> None:
        """Write one record, whole or not at all."""
        (self._directory / "trials" / f"{record.number:04d}.json").write_json(asdict(record))

    def load(self) -> list[TrialRecord]:
        """All records in the order of drawing; running trials with their newest checkpoint."""
        trials = self._directory / "trials"
        names = [name for name in trials.children() if name.endswith(".json")]
        records = [TrialRecord(**(trials / name).read_json()) for name in names]
        for record in records:
            if record.status == "running":
                progress = checkpointed_progress(self.trial_directory(record.number))
                record.history = [asdict(row) for row in progress.history]
        return sorted(records, key=lambda record: record.number)

    def load_spent(self) -> float:
        """Seconds that the search has run."""
        try:
            return float((self._directory / SPENT).read_json()["seconds"])
        except FileNotFoundError:
            return 0.0

    def save_spent(self, seconds: float) -> None:
        """Note how long the search has run."""
        (self._directory / SPENT).write_json({"seconds": round(seconds, 1)})


def newest_checkpoint(directory: Location) -> Location | None:
    """The last complete checkpoint of a trial."""
    names = complete_checkpoints(directory / "checkpoints")
    return directory / "checkpoints" / names[-1] if names else None


def checkpointed_progress(directory: Location) -> Progress:
    """Progress of a trial by its last complete checkpoint; at the beginning without one."""
    newest = newest_checkpoint(directory)
    if newest is None:
        return Progress()
    return Progress.from_json((newest / PROGRESS).read_bytes().decode())
