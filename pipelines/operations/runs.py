"""List of the finished runs, as people read it."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightsans.errors import ConfigError, InputError
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import RunManifest
from lightsans.storage.manifests import finished_directories
from lightsans.storage.parts import read_metrics
from pipelines.console.progress import say_passed_over
from pipelines.publish import judged_model_id, latest_run_id, read_as_of, read_published


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run, as a list of runs shows it."""

    id: str
    created_at: str | None
    dataset_id: str
    model_id: str
    users: int
    popular_users: int
    metrics: Mapping[str, float]
    """Test metrics of its model; empty where it has none, or was removed."""
    intervals: Mapping[str, tuple[float, float]]
    """95 % intervals of the metrics; empty where an earlier version evaluated the model."""
    as_of: str | None
    """Moment up to which the log was read; None when it was read to its end."""
    published: bool


def list_runs(root: Location) -> list[FinishedRun]:
    """The finished runs, newest first."""
    published, dates = latest_run_id(root), _dates_of_publications(root)
    found = []
    runs = finished_directories(RunManifest, root / "recommendations", say_passed_over)
    for name, manifest in runs[::-1]:
        metrics, intervals = _test_metrics(root / "models" / judged_model_id(manifest))
        made = FinishedRun(
            id=name,
            created_at=manifest.created_at,
            dataset_id=manifest.dataset_id,
            model_id=manifest.model_id,
            users=manifest.users,
            popular_users=manifest.popular_users,
            metrics=metrics,
            intervals=intervals,
            as_of=dates.get(name) or read_as_of(root / "datasets" / manifest.dataset_id),
            published=name == published,
        )
        found.append(made)
    return found


def _test_metrics(
    model: Location,
) -> tuple[Mapping[str, float], Mapping[str, tuple[float, float]]]:
    """Test metrics of a model and their intervals."""
    try:
        found = read_metrics(model)
    except InputError:  # `submit.py models` says what is wrong with it
        return {}, {}
    return found.test or {}, (found.intervals or {}).get("test", {})


def _dates_of_publications(root: Location) -> dict[str, str | None]:
    """Moments up to which published runs read the log: known also when their datasets are gone."""
    try:
        return {entry.run_id: entry.as_of for entry in read_published(root).history}
    except (ConfigError, InputError):
        return {}
