"""Searches on the driver for tests: small spaces, and trials that report given curves."""

from typing import Any

from ray.tune.schedulers import TrialScheduler

from lightsans.config import StorageConfig
from lightsans.config.file import load_config
from lightsans.search.space import build_space
from lightsans.storage.location import locate
from lightsans.storage.records import to_json
from lightsans.training.progress import EpochRow
from pipelines.tune.messages import TrialConfig
from pipelines.tune.records import TrialRecord, TrialStore
from pipelines.tune.search import Search

SPACE = {"k_interests": [1, 2, 3, 4, 5, 6]}


class Trial:
    """A trial as Ray Tune's schedulers and callbacks see it."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"trial-{number}"
        self.last_result: dict[str, Any] = {}
        self.config = to_json(TrialConfig(number=number, model_id="m", run={}))


def make_search(directory, *overrides: str, raw: dict[str, Any] | None = None) -> Search:
    config = load_config(None, ["tune.engine=random", "train.epochs=9", *overrides]).config
    space = build_space(raw or SPACE, config, "tune.space")
    return Search(space, store_of(directory), "dataset", lambda search, record: None)


def store_of(directory) -> TrialStore:
    return TrialStore(locate(str(directory), StorageConfig()))


def row(epoch: int, score: float) -> EpochRow:
    return EpochRow(
        epoch=epoch,
        valid={"ndcg@10": score, "hit@10": score},
        train_s=1.0,
        valid_s=0.5,
        loss=1.0,
        targets=1,
        distinct_targets=1,
    )


def run(search: Search, scores: list[list[float]], scheduler: Any = None) -> list[str]:
    """Run trials one after the other; how each ended."""
    ended = []
    for curve in scores:
        record = search.next()
        assert record is not None
        ended.append(run_trial(search, record, curve, scheduler))
    return ended


def run_trial(search: Search, record: TrialRecord, curve: list[float], scheduler: Any) -> str:
    trial = Trial(record.number)
    if scheduler is not None:
        scheduler.on_trial_add(None, trial)
    best = 0.0
    for epoch, score in enumerate(curve, 1):
        best = max(best, score)
        if epoch <= len(record.history) - 1:
            continue  # only the last epoch is told again
        search.report(record.number, row(epoch, score))
        result = {"epoch": epoch, "score": best}
        decision = TrialScheduler.CONTINUE
        if scheduler is not None:
            decision = scheduler.on_trial_result(None, trial, result)
        if decision == TrialScheduler.STOP or epoch == len(curve):
            finished = epoch == len(curve)
            if scheduler is not None:
                scheduler.on_trial_complete(None, trial, result)
            search.end(record.number, finished=finished)
            return "finished" if finished else f"stopped at {epoch}"
    raise AssertionError(record)
