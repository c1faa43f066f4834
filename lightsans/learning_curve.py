"""What a training run tells about itself: epochs, where it stands, news in the middle of an epoch.

Apart from the training loop, so that whoever only watches a run need not load PyTorch.
"""

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """One line of the learning curve."""

    epoch: int
    """From 1."""
    loss: float
    """Mean over the epoch's targets."""
    targets: int
    """Targets of the epoch, over all workers; overlapping windows count theirs again."""
    distinct_targets: int
    train_s: float
    valid_s: float
    valid: dict[str, float]


@dataclass(slots=True)
class Progress:
    """Where a run stands between two epochs; JSON-able."""

    history: list[EpochRow] = field(default_factory=list)
    best_epoch: int = 0
    stopped: bool = False

    def to_json(self) -> str:
        """As text, for the checkpoint."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """From the text of `to_json`."""
        content = json.loads(text)
        history = [EpochRow(**row) for row in content["history"]]
        return cls(history, content["best_epoch"], content["stopped"])


@dataclass(frozen=True, slots=True)
class StepNews:
    """What a person watching would like to know in the middle of an epoch."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    targets_per_s: float
