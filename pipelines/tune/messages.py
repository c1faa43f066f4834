"""Records that pass through Ray Tune, which carries plain dicts from and to a trial."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightsans.storage.records import from_json, to_json
from lightsans.training.progress import EpochRow

SOURCE = "Ray Tune"
"""Name of the source of a message, for errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialConfig:
    """A trial as its process gets it: Ray Tune's configuration of the trial."""

    number: int
    model_id: str
    run: Mapping[str, Any]
    """The training run as plain dicts: see `lightsans.config.file.from_dict`."""

    @classmethod
    def of(cls, content: object) -> "TrialConfig":
        """Read the configuration that Ray Tune hands over."""
        return from_json(cls, content, SOURCE)


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """An epoch that ended, as Ray Tune's result."""

    epoch: int
    score: float
    """Best valid metric so far."""
    row: EpochRow
    finished: bool
    """Whether it is the last epoch."""

    def to_result(self) -> dict[str, Any]:
        """The result for Ray Tune, which ends a trial that is ``done``."""
        return {**to_json(self), "done": self.finished}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialFailure:
    """The end of a trial with an error that a retry would meet again, as Ray Tune's result."""

    error: str
    fault: str | None = None
    """Class of an error that is no fault of the trial: a store that nobody reaches, for example.
    It ends the search, and the trial goes on with the same command."""

    def to_result(self) -> dict[str, Any]:
        """The result for Ray Tune."""
        return {**to_json(self), "done": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class LastResult:
    """The last result of a trial that ended: of an `EpochReport`, a `TrialFailure` or neither."""

    finished: bool = False
    error: str | None = None
    fault: str | None = None

    @classmethod
    def of(cls, content: object) -> "LastResult":
        """Read the last result of a trial; an empty one where it reported nothing."""
        return from_json(cls, content, SOURCE)
