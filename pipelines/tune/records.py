"""Records of a search: one small JSON file per trial, from which everything else follows.

    tune/<id>/  trials/0007.json   values, status, learning curve, error
                trials/0007/       its checkpoints, while it may still need them
                spent.json         how long the search has run so far

Trials that were running when a search was interrupted still say so; their curve is that of their
newest checkpoint.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lightsans.search.proposals import Observation, Status
from lightsans.search.space import Values
from lightsans.storage.checkpoint_store import PROGRESS, complete_checkpoints, remove_checkpoints
from lightsans.storage.location import Location
from lightsans.storage.manifests import Manifest
from lightsans.storage.records import always_written, from_json, to_json
from lightsans.training.progress import EpochRow, Progress

SPENT = "spent.json"


@dataclass(slots=True, kw_only=True)
class TrialRecord:
    """One trial of a search."""

    number: int
    """Number of the trial, from 1, in the order of drawing."""
    values: Values
    model_id: str
    """Id of the training run that this trial is."""
    status: Status = always_written("running")
    """stopped: by the scheduler; failed: with an error, after its retries."""
    history: list[EpochRow] = always_written(make=list)
    """The learning curve."""
    error: str | None = always_written(None)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; so it stands there after an interruption, too."""
        return self.status == "running"

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error, and takes part in nothing."""
        return self.status == "failed"

    def best_row(self, metric: str) -> EpochRow | None:
        """The epoch that the trial's model is: the first with the best valid metric."""
        return max(self.history, key=lambda row: (row.valid[metric], -row.epoch), default=None)

    def score(self, metric: str) -> float | None:
        """The best valid metric; None before the first epoch."""
        row = self.best_row(metric)
        return None if row is None else row.valid[metric]

    def curve(self, metric: str) -> dict[int, float]:
        """The best valid metric up to each epoch."""
        best, curve = 0.0, {}
        for row in self.history:
            best = max(best, row.valid[metric])
            curve[row.epoch] = best
        return curve

    def observation(self, metric: str) -> Observation:
        """The trial as an engine sees it."""
        return Observation(self.values, self.status, self.curve(metric))

    @property
    def train_s(self) -> float:
        """Seconds of training and validation."""
        return float(sum(row.train_s + row.valid_s for row in self.history))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Spent:
    """Content of ``spent.json``: how long a search has run, all its parts together."""

    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BestTrial:
    """The winner of a search."""

    trial: int
    """Number of the trial."""
    values: Values
    epochs: int
    """Epochs of the run that makes its model again."""
    model_id: str
    valid: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchManifest(Manifest):
    """Manifest of ``tune/<id>``."""

    kind: ClassVar = "search"

    id: str
    format_version: int
    dataset_id: str
    metric: str
    budget: Mapping[str, Any]
    """Settings that say when to end; with others, the search goes on."""
    trials: Mapping[str, int]
    """Number of trials by status."""
    epochs: int
    """Epochs of all trials together."""
    spent_s: float
    train_s: float
    slots: int
    """Number of trials that trained at a time."""
    importance: Mapping[str, float]
    """Share of each setting in the differences between trials."""
    best: BestTrial


class TrialStore:
    """The records of one search, in its directory.

    Args:
        directory: The search's directory.
        require_owner: Called before every change; raises where another process has taken over.
    """

    def __init__(
        self, directory: Location, require_owner: Callable[[], None] = lambda: None
    ) -> None:
        self._directory, self._require_owner = directory, require_owner

    def trial_directory(self, number: int) -> Location:
        """Directory of a trial's checkpoints."""
        return self._directory / "trials" / f"{number:04d}"

    def save(self, record: TrialRecord) -> None:
        """Write one record, whole or not at all."""
        self._require_owner()
        (self._directory / "trials" / f"{record.number:04d}.json").write_json(to_json(record))

    def delete_checkpoints(self, number: int) -> None:
        """Delete the checkpoints of a trial that needs them no more."""
        self._require_owner()
        remove_checkpoints(self.trial_directory(number) / "checkpoints")
        self.trial_directory(number).delete()

    def load(self) -> list[TrialRecord]:
        """All records in the order of drawing; running trials with their newest checkpoint."""
        trials = self._directory / "trials"
        names = [name for name in trials.children() if name.endswith(".json")]
        files = [trials / name for name in names]
        records = [from_json(TrialRecord, file.read_json(), str(file)) for file in files]
        for record in records:
            if record.is_running:
                progress = checkpointed_progress(self.trial_directory(record.number))
                record.history = progress.history
        return sorted(records, key=lambda record: record.number)

    def load_spent(self) -> float:
        """Seconds that the search has run."""
        file = self._directory / SPENT
        try:
            return from_json(_Spent, file.read_json(), str(file)).seconds
        except FileNotFoundError:
            return 0.0

    def save_spent(self, seconds: float) -> None:
        """Note how long the search has run."""
        self._require_owner()
        (self._directory / SPENT).write_json(to_json(_Spent(seconds=round(seconds, 1))))


def newest_checkpoint(directory: Location) -> Location | None:
    """The last complete checkpoint of a trial."""
    names = complete_checkpoints(directory / "checkpoints")
    return directory / "checkpoints" / names[-1] if names else None


def checkpointed_progress(directory: Location) -> Progress:
    """Progress of a trial by its last complete checkpoint; at the beginning without one."""
    newest = newest_checkpoint(directory)
    if newest is None:
        return Progress()
    file = newest / PROGRESS
    return Progress.from_json(file.read_bytes(), str(file))
