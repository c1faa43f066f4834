"""Ranks of all parts of a dataset, by Ray Data or a task, and the figures that follow from them.

Totals are summed over parts and divided once, so they do not depend on how users are spread. Ranks
are written by the processes that make them; sums over parts are added in a tree of tasks, and the
last one takes the statistics, so nothing that grows with users or items reaches the driver.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import vocabulary_mapping
from lightsans.reports.evaluation_figures import (
    RECOMMENDATIONS,
    EvaluationFigures,
    MatchedLists,
    Measured,
    add_measured,
    describe_evaluation,
    kept_for_pairs,
    measured_from_bytes,
    measured_to_bytes,
)
from lightsans.stages.evaluate_job import SPLITS, WORK, EvaluateJob
from lightsans.stages.given_lists import cut_lists, describe_matched
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.parts import SequencePart
from pipelines.console.progress import bar, say
from pipelines.evaluate.counts import collect_recent, count_transitions
from pipelines.session.ray_session import configure_ray_data
from pipelines.session.tasks import memory_for, merge_all, run_in_one_task

PAIRS = "pairs.npz"
"""Sums by which models are compared later."""
USERS_PER_ACTOR = 20_000
PARTS_PER_SUM = 8
"""Parts whose sums one task adds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankFile:
    """A file of ranks: see `lightsans.storage.schemas.ranks_schema`."""

    name: str
    rows: int


def evaluate_parts(
    job: EvaluateJob, parts: list[SequencePart], manifest: DatasetManifest, memory: int
) -> tuple[EvaluationFigures, tuple[RankFile, ...]]:
    """Write ranks and sums of all parts; the figures, and the files of ranks.

    Args:
        job: The evaluation.
        parts: Parts of the dataset's sequences.
        manifest: Manifest of the dataset.
        memory: Bytes that a process needs to rank parts.
    """
    # Fail on the driver, before anything is started.
    vocabulary_mapping(job.dataset, job.model, job.map_items)
    work = job.report / WORK
    count_transitions(job, parts, manifest)
    if job.window is not None:
        collect_recent(job, parts, manifest, job.window)
    matched = None
    if RECOMMENDATIONS in job.scorers:
        matched = ray.get(_cut_lists.remote(job, manifest))
    rows = {}
    with bar("evaluate", len(parts)) as progress:
        for row in _rank(job, parts, manifest, memory_for(memory)):
            rows[str(row["name"])] = int(row["rows"])
            progress.advance()
    names = [part.name for part in parts]
    summed = (
        _sum_parts.remote(work, names[first : first + PARTS_PER_SUM])
        for first in range(0, len(names), PARTS_PER_SUM)
    )
    found: EvaluationFigures = ray.get(_describe.remote(merge_all(_add, summed), job, matched))
    job.require_owner()
    if found.matched is not None:
        say(f"evaluate: {describe_matched(found.matched, found.users['test'])}")
    work.delete()
    return found, tuple(RankFile(name=name, rows=rows[name]) for name in names)


def _rank(
    job: EvaluateJob, parts: list[SequencePart], manifest: DatasetManifest, memory: int
) -> Iterator[dict[str, Any]]:
    """The name of each part's file of ranks and how many rows it has, as they are written."""
    inputs = [{"name": part.name} for part in parts]
    size, use_gpu = _num_actors(job.config, manifest), job.config.score.use_gpu
    if size == 1 and not use_gpu:
        yield from run_in_one_task(_evaluator, [job], inputs, memory)
        return
    import ray.data  # takes .4 s, which the tasks that count transitions are spared
    from ray.data import ActorPoolStrategy

    from lightsans.stages.part_evaluator import PartEvaluator

    configure_ray_data()
    ranked = ray.data.from_items(inputs).map_batches(
        PartEvaluator,
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=size),
        num_gpus=1 if use_gpu else 0,
        memory=memory,
        fn_constructor_args=(job,),
    )
    yield from ranked.iter_rows()


def _evaluator(job: EvaluateJob) -> Callable[[pa.Table], pa.Table]:
    from lightsans.stages.part_evaluator import PartEvaluator  # with PyTorch: not in the driver

    return PartEvaluator(job)


@ray.remote
def _sum_parts(work: Location, names: list[str]) -> Measured:
    return add_measured(measured_from_bytes((work / f"{n}.npz").read_bytes()) for n in names)


@ray.remote
def _add(*measured: Measured) -> Measured:
    return add_measured(measured)


@ray.remote
def _describe(
    measured: Measured, job: EvaluateJob, matched: MatchedLists | None
) -> EvaluationFigures:
    job.require_owner()
    (job.report / PAIRS).write_bytes(measured_to_bytes(kept_for_pairs(measured)))
    ks = tuple(job.config.evaluate.ks)
    return describe_evaluation(measured, job.scorers, SPLITS, ks, matched)


@ray.remote
def _cut_lists(job: EvaluateJob, manifest: DatasetManifest) -> MatchedLists:
    job.require_owner()
    return cut_lists(job.config, job.dataset, manifest, job.report / WORK)


def _num_actors(config: RunConfig, manifest: DatasetManifest) -> int:
    """Number of actors: as many as allowed, one for few users, as each takes seconds to start."""
    worthwhile = -(-manifest.users // USERS_PER_ACTOR)
    return max(1, min(len(manifest.parts), config.score.num_workers, worthwhile))
