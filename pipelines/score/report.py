"""The report of a scoring run: ``report.json`` and ``report.png`` beside its parts.

The parts are read back and counted by tasks, whose totals are added in a tree, so nothing that
grows with the users reaches the driver.
"""

import functools
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from lightsans.columns.hashing import bucket_range
from lightsans.dataset.bucket_cursor import overlapping_parts
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.recommendations.eligible_items import EligibleItems
from lightsans.recommendations.reader import RunRows, wide_schema
from lightsans.reports.plots import draw_run
from lightsans.reports.run_figures import (
    ReportedFigures,
    RunReport,
    RunTotals,
    describe,
    find_warnings,
    measure,
    no_totals,
)
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import RunManifest, changed_id_types
from lightsans.storage.manifests import read_manifest
from lightsans.storage.parts import part_index
from lightsans.storage.records import from_json, to_json
from pipelines.console.progress import say
from pipelines.publish import latest_run_id
from pipelines.score.job import ScoreJob
from pipelines.session.cpus import cpus_per_task
from pipelines.session.tasks import merge_all

REPORT, PICTURE = "report.json", "report.png"
TASKS = 64
"""Most of them: each has counts of all items."""
_AT_ONCE = 16_384
"""Users whose lists are decoded at once."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run with all its parts; it need not have its manifest yet."""

    location: Location
    manifest: RunManifest


def previous_run(job: ScoreJob) -> Run | None:
    """The run to compare with: the one that rows came from, or else the published one."""
    if job.earlier is not None:
        return Run(job.earlier.run, job.earlier.manifest)
    runs = job.run.parent
    name = latest_run_id(runs.parent)
    if name is None or name == job.run.name:
        return None
    manifest = read_manifest(RunManifest, runs / name)
    # Rows of other versions of this program may lie elsewhere.
    if manifest is None or not (runs / name / REPORT).exists():
        return None
    for difference in changed_id_types(manifest, job.dataset_manifest).values():
        say(f"WARNING: score: not compared with the published run {name}: {difference}")
        return None
    return Run(runs / name, manifest)


def write_report(
    job: ScoreJob, eligible: EligibleItems | None, content: RunManifest, previous: Run | None
) -> list[str]:
    """Write the report of a run, all of whose parts are there; its warnings.

    Args:
        job: The run.
        eligible: The only items that may be recommended; None for all.
        content: Its manifest, which is not written yet.
        previous: Run to compare it with.
    """
    items = load_vocabulary(job.dataset)
    is_eligible = items.is_offered.copy()
    if eligible is not None:
        is_listed = np.zeros(items.num_items, bool)
        is_listed[eligible.item_ids(items) - 1] = True
        is_eligible &= is_listed
    totals = _count(Run(job.run, content), previous, job.dataset)
    before = None if previous is None else _reported(previous.location / REPORT).figures
    described = describe(totals, items, is_eligible, before)
    score = job.config.score
    warnings = find_warnings(described.figures, score.warn_below, score.warn_above)
    report = RunReport(
        run_id=job.run.name,
        previous_run=None if previous is None else previous.location.name,
        described=described,
        warnings=tuple(warnings),
    )
    (job.run / PICTURE).write_bytes(draw_run(job.run.name, described, totals))
    (job.run / REPORT).write_json(to_json(report))
    return warnings


def _reported(file: Location) -> ReportedFigures:
    return from_json(ReportedFigures, file.read_json(), str(file))


def _count(run: Run, previous: Run | None, dataset: Location) -> RunTotals:
    names = [part.name for part in run.manifest.parts]
    shared = ray.put((run, previous, dataset))
    size, cpus = -(-len(names) // TASKS), cpus_per_task()
    counted = (
        _count_parts.options(num_cpus=cpus).remote(shared, names[first : first + size])
        for first in range(0, len(names), size)
    )
    merged: Any = ray.get(merge_all(_add_totals.options(num_cpus=cpus), counted))
    totals: RunTotals = merged
    return totals


@ray.remote
def _count_parts(shared: tuple[Run, Run | None, Location], names: list[str]) -> RunTotals:
    run, previous, dataset = shared
    items = load_vocabulary(dataset)
    items.keep_index()
    no_users = wide_schema(run.manifest).empty_table()
    users = {part.name: part.users for part in run.manifest.parts}
    totals = no_totals(items.num_items)
    for name in names:
        rows = RunRows(run.location, run.manifest, [name], _AT_ONCE)
        theirs = None if previous is None else _rows_beside(name, run, previous)
        begin, end = bucket_range(part_index(name), run.manifest.num_parts)
        step = max(1, (end - begin) * _AT_ONCE // max(1, users[name]))
        for first in range(begin, end, step):
            last = min(end, first + step) - 1
            before = no_users if theirs is None else theirs.between(first, last)
            totals += measure(rows.between(first, last), before, items)
    return totals


def _rows_beside(name: str, run: Run, previous: Run) -> RunRows:
    """Rows of the run before, of users of one part."""
    theirs = [part.name for part in previous.manifest.parts]
    counts = run.manifest.num_parts, previous.manifest.num_parts
    return RunRows(
        previous.location,
        previous.manifest,
        overlapping_parts(name, counts[0], theirs, counts[1]),
        _AT_ONCE,
    )


@ray.remote
def _add_totals(*totals: RunTotals) -> RunTotals:
    return functools.reduce(operator.add, totals)
