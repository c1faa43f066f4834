"""Figures of a night for Prometheus: a text file on this machine, and gauges of a Ray cluster.

The text file is for node_exporter's textfile collector; on a cluster Ray's own exporters have the
same gauges, with ``ray_`` in front, for as long as the process lives. ``cluster/alerts.yaml`` and
``cluster/dashboard.json`` are about these names.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

from lightsans.config import RunConfig
from lightsans.errors import LightSANsError
from lightsans.ranking.bootstrap import Estimate
from lightsans.storage.location import Location, locate
from pipelines.operations.attempts import Attempt, Outcome, night_dates, read_attempts
from pipelines.operations.listing import list_root
from pipelines.publish import read_published

GAUGES = {
    "lightsans_night_outcome": "1 for the outcome of the last night, 0 for the others.",
    "lightsans_night_exit_status": "Exit status of the last night.",
    "lightsans_night_end_timestamp_seconds": "Time at which the last night ended.",
    "lightsans_night_success_timestamp_seconds": "Time at which a night last ended with its run "
    "published.",
    "lightsans_night_as_of_timestamp_seconds": "Date of the last night.",
    "lightsans_night_duration_seconds": "Duration of the last night.",
    "lightsans_night_stage_seconds": "Seconds that a stage of the last night took.",
    "lightsans_night_stage_peak_bytes": "Most memory of a stage on the night's machine.",
    "lightsans_night_test_metric": "Test metric of the last night: value, low and high ends of its "
    "95 % interval.",
    "lightsans_night_failed_checks": "Checks of the gate that the last night failed.",
    "lightsans_night_users": "Users of the last night's dataset.",
    "lightsans_night_items": "Items of the last night's dataset.",
    "lightsans_night_rows_read": "Rows that were read for the last night's dataset.",
    "lightsans_night_rows_rejected": "Rows that were refused for the last night's dataset.",
    "lightsans_run_figure": "Figure of the last night's run, such as coverage.",
    "lightsans_published_as_of_timestamp_seconds": "Date of the published run.",
    "lightsans_published_timestamp_seconds": "Time at which the published run was published.",
    "lightsans_root_bytes": "Bytes below the root by kind.",
}
"""Every gauge with its description."""
SCRAPED_WITHIN_S = 12.0
"""Time for which a process of a cluster stays to have its gauges read: Ray reads them every ten."""
LOOKED_BACK = 60
"""Nights among which the last success is looked for, where the history does not say."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a gauge."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def night_samples(root: Location, attempt: Attempt) -> list[Sample]:
    """All values that are known at the end of an attempt; each has the root as a label.

    Args:
        root: Where all results lie.
        attempt: The attempt, which has ended.
    """
    found = [*_of_attempt(attempt), *_of_figures(attempt), *_of_root(root, attempt)]
    return [
        Sample(sample.name, sample.value, {"root": root.uri, **sample.labels})
        for sample in found
        if math.isfinite(sample.value)
    ]


def write_metrics_file(config: RunConfig, samples: list[Sample]) -> None:
    """Write ``nightly.metrics_file``: whoever reads it sees the old content or the new one."""
    if config.nightly.metrics_file is not None:
        file = locate(config.nightly.metrics_file, config.storage)
        file.write_bytes(exposition(samples).encode())


def exposition(samples: list[Sample]) -> str:
    """The samples in Prometheus' text format."""
    lines = []
    for name, description in GAUGES.items():
        ours = [sample for sample in samples if sample.name == name]
        if ours:
            lines += [f"# HELP {name} {description}", f"# TYPE {name} gauge"]
            lines += [f"{name}{{{_labels(s.labels)}}} {s.value!r}" for s in ours]
    return "\n".join(lines) + "\n"


def show_on_cluster(samples: list[Sample]) -> None:
    """Set the same gauges in Ray's exporters, where this process runs on a cluster."""
    import ray

    from pipelines.session.clusters import is_cluster

    if not (is_cluster() and ray.is_initialized()):
        return
    from ray.util.metrics import Gauge

    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    for name, ours in by_name.items():
        labels = tuple(ours[0].labels)
        gauge = _gauges.setdefault(name, Gauge(name, description=GAUGES[name], tag_keys=labels))
        for sample in ours:
            gauge.set(sample.value, dict(sample.labels))
    time.sleep(SCRAPED_WITHIN_S)


_gauges: dict[str, Any] = {}
"""Gauges of this process by name: Ray forgets one that nobody holds."""


def _of_attempt(attempt: Attempt) -> Iterator[Sample]:
    for outcome in get_args(Outcome):
        labels = {"outcome": outcome}
        yield Sample("lightsans_night_outcome", float(outcome == attempt.outcome), labels)
    yield Sample("lightsans_night_as_of_timestamp_seconds", _seconds(attempt.as_of))
    if attempt.ended_at is not None and attempt.seconds is not None:
        yield Sample("lightsans_night_end_timestamp_seconds", _seconds(attempt.ended_at))
        yield Sample("lightsans_night_duration_seconds", attempt.seconds)
    if attempt.exit_status is not None:
        yield Sample("lightsans_night_exit_status", float(attempt.exit_status))
    seconds: dict[str, float] = {}
    peaks: dict[str, int] = {}
    for stage in attempt.stages:
        seconds[stage.stage] = seconds.get(stage.stage, 0.0) + stage.seconds
        peaks[stage.stage] = max(peaks.get(stage.stage, 0), stage.peak_bytes)
    for name, value in seconds.items():
        yield Sample("lightsans_night_stage_seconds", value, {"stage": name})
        yield Sample("lightsans_night_stage_peak_bytes", float(peaks[name]), {"stage": name})
    yield Sample("lightsans_night_failed_checks", float(len(attempt.failed_checks)))


def _of_figures(attempt: Attempt) -> Iterator[Sample]:
    figures = attempt.figures
    scorers = {"model": figures.metrics, "published": figures.published_metrics}
    for scorer, metrics in {**scorers, **(figures.baselines or {})}.items():
        for metric, estimate in (metrics or {}).items():
            yield from _of_estimate(scorer, metric, estimate)
    counts = {
        "users": figures.users,
        "items": figures.items,
        "rows_read": figures.rows_read,
        "rows_rejected": figures.rows_rejected,
    }
    for name, count in counts.items():
        if count is not None:
            yield Sample(f"lightsans_night_{name}", float(count))
    for name, value in (figures.run or {}).items():
        if value is not None:
            yield Sample("lightsans_run_figure", float(value), {"figure": name})


def _of_estimate(scorer: str, metric: str, estimate: Estimate) -> Iterator[Sample]:
    ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    for end, value in ends.items():
        labels = {"scorer": scorer, "metric": metric, "end": end}
        yield Sample("lightsans_night_test_metric", value, labels)


def _of_root(root: Location, attempt: Attempt) -> Iterator[Sample]:
    try:
        current = read_published(root).current
    except LightSANsError:
        current = None
    if current is not None:
        yield Sample("lightsans_published_timestamp_seconds", _seconds(current.published_at))
        if current.as_of is not None:
            yield Sample("lightsans_published_as_of_timestamp_seconds", _seconds(current.as_of))
    success = attempt.ended_at if attempt.has_succeeded else _last_success(root)
    if success is not None:
        yield Sample("lightsans_night_success_timestamp_seconds", _seconds(success))
    if attempt.outcome == "interrupted":  # there is no time to list everything
        return
    for kind, size in list_root(root).sizes().items():
        yield Sample("lightsans_root_bytes", float(size["bytes"]), {"kind": kind})


def _last_success(root: Location) -> str | None:
    """Time at which a night last ended with its run published."""
    for date in night_dates(root)[:LOOKED_BACK]:
        ends = [each.ended_at for each in read_attempts(root, date) if each.has_succeeded]
        if ends:
            return max(end for end in ends if end is not None)
    return None


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
