"""Settings of evaluation."""

from dataclasses import dataclass

from lightsans.config.checks import at_least, require
from lightsans.config.marks import Mark, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """The protocol of the reported metrics: full ranking over all items."""

    ks: tuple[int, ...] = setting((5, 10, 20), Mark.CONTENT)
    """Cut-offs of hit, recall, precision, ndcg and mrr; 10 is always among them."""
    remove_seen: bool = setting(False, Mark.CONTENT, Mark.VALIDATES)
    """Leave the items before the target out of the ranking: true is SASRec's convention, false
    RecBole's."""
    batch_size: int = setting(512, Mark.NO_EFFECT)
    """Users ranked at once by a task."""

    def __post_init__(self) -> None:
        require(bool(self.ks), "evaluate.ks is empty; give at least one cut-off, such as 10")
        require(min(self.ks) >= 1, f"evaluate.ks={list(self.ks)} has a cut-off below 1")
        require(10 in self.ks, f"evaluate.ks={list(self.ks)} needs 10, by which models compare")
        at_least("evaluate", self, 1, "batch_size")
