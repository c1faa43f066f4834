"""Replays the nights of a log under one policy or several, and lays them side by side.

    backtests/<id>/<policy>/                 a root of its own: datasets, models, runs, reports
    backtests/<id>/<policy>/backtest/*.json  what each night came to
    backtests/<id>/<policy>/backtest/*.next.parquet  metrics of users until the next night, no ids
    backtests/<id>/report.json, nights.csv, report.png

A policy is a name with settings. Each of its nights is the real one, `pipelines.nightly`, in order,
so what was refused stays unpublished for the next. Nights that have ended are not run again: an
interrupted backtest goes on where it was. A night's lists are measured as soon as the next night
has read what users did. With ``nightly.clean`` the root is cleaned after that, and nothing stays
for hours: nobody reads from a backtest, whose nights take minutes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightsans.columns.times import from_iso
from lightsans.config import RunConfig, to_dict
from lightsans.config.score import TableConfig
from lightsans.errors import GateError
from lightsans.lists.erased_users import share_erased
from lightsans.ranking.bootstrap import Estimate
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import content_id, remove_result, require_manifest
from lightsans.storage.records import from_json, to_json
from pipelines.backtest.next_days import NextDays, measure_next_days
from pipelines.backtest.pooled import write_gains
from pipelines.console.progress import say
from pipelines.nightly.dates import moment_of_night
from pipelines.nightly.inputs import report_name
from pipelines.nightly.stage import run_nightly
from pipelines.operations.attempts import Attempt, read_attempts
from pipelines.operations.clean import clean_after_night
from pipelines.operations.listing import list_root
from pipelines.operations.status import stage_minutes
from pipelines.preprocess.stage import PreprocessResult
from pipelines.publish import latest_run_id
from pipelines.refit.stage import full_dataset
from pipelines.session.clusters import is_cluster
from pipelines.session.process_tree import ProcessFigures, ProcessorClock, read_figures

FORMAT_VERSION = 2
Night = Callable[[RunConfig, str], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """A way to run nights."""

    name: str
    config: RunConfig
    """The run; its root is that of the whole backtest."""
    settings: tuple[str, ...]
    """Overrides that make it what it is, for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BacktestNight:
    """Outcome, figures and costs of one night under one policy."""

    policy: str
    date: str
    outcome: str
    reason: str
    published: str | None
    """The run that readers found from then on."""
    dataset_id: str | None
    """The dataset with held-out items."""
    full_dataset_id: str | None = None
    """The dataset with nothing held out, which knows the newest items; None where nothing
    was refitted."""
    metrics: Mapping[str, Estimate]
    """Test metrics of the night's model."""
    minutes: float
    stage_minutes: Mapping[str, float]
    processor_minutes: float | None = None
    """Processor time of this process, its Ray and the workers; None on a cluster, or where the
    system does not say."""
    root_bytes: int
    """Bytes of the policy's root after the night."""
    root_files: int = 0
    machine: ProcessFigures | None = None
    """Processes after the night: how many, their open files and memory."""
    next_users: int | None = None
    """Users with a history who did something until the next night; None for the last night."""
    next_others: int | None = None
    """Users without one who did."""
    next_metrics: Mapping[str, Estimate] | None = None
    """Metrics of the published lists by what the users did."""
    newcomer_metrics: Mapping[str, Estimate] | None = None
    """Metrics of the fallback, by what the others did."""
    judged_metrics: Mapping[str, Estimate] | None = None
    """Metrics of the judged model's lists, where a refit was published."""


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """All nights, by policy and date."""

    location: Location
    nights: tuple[BacktestNight, ...]


def backtest_config(config: RunConfig, *, incremental: bool | None = None) -> RunConfig:
    """The configuration of a backtest's nights: nobody is told of them.

    They write to no table, and dates are its own.

    Args:
        config: The run.
        incremental: Whether datasets are made from those before; None takes the configuration's.
    """
    nightly = replace(config.nightly, metrics_file=None, notify_url=None, notify_token=None)
    if incremental is not None:
        nightly = replace(nightly, incremental=incremental)
    score = replace(config.score, table=TableConfig())
    return replace(config, nightly=nightly, score=score, data=replace(config.data, as_of=None))


def backtest_location(policies: Sequence[Policy], first: str, every: str) -> Location:
    """Directory of a backtest; the same policies from the same night on find it again."""
    config = policies[0].config
    question = {
        "first": first,
        "every": every,
        "policies": {policy.name: _settings(policy.config) for policy in policies},
    }
    name = content_id("backtest", FORMAT_VERSION, question)
    return locate(config.root, config.storage) / "backtests" / name


def _settings(config: RunConfig) -> dict[str, object]:
    """All settings but those of places and machines."""
    places = ("root", "storage", "resources", "profile")
    values: dict[str, Any] = to_dict(config)
    del values["score"]["table"]  # a place, too, which a backtest does not write to
    del values["score"]["readers_hours"]  # it has none
    return {name: value for name, value in values.items() if name not in places}


def run_backtest(
    policies: Sequence[Policy], dates: Sequence[str], every: str, night: Night | None = None
) -> BacktestResult:
    """Run all nights of all policies, or what is left of them.

    Args:
        policies: They differ in their settings; their root and inputs are the same.
        dates: Dates of the nights, in order.
        every: Step between them, as it was given.
        night: Runs one night; `run_nightly` by default.
    """
    location = backtest_location(policies, dates[0], every)
    run = night or run_nightly
    nights: list[BacktestNight] = []
    for policy in policies:
        share_erased(locate(policy.config.root, policy.config.storage), location / policy.name)
        found: list[BacktestNight] = []
        for number, date in enumerate(dates, 1):
            root = location / policy.name
            config = replace(policy.config, root=root.uri)
            done, is_new = _read(root, config, date), False
            if done is None:
                say(f"backtest: {policy.name}, night {number} of {len(dates)}: {date}")
                done = _run_night(policy.name, config, date, run)
                is_new = True
            if found:
                found[-1] = _with_next_days(root, config, found[-1], done)
            found.append(_cleaned(root, config, done) if is_new else done)
        nights += found
    return BacktestResult(location, tuple(nights))


def _run_night(policy: str, config: RunConfig, date: str, run: Night) -> BacktestNight:
    """Run a night and keep what it came to; an error but the gate's ends the backtest."""
    root = locate(config.root, config.storage)
    later = replace(config.nightly, clean=False)  # once the lists of the night before are measured
    with ProcessorClock().watching() as clock:
        try:
            run(_without_readers(replace(config, nightly=later)), date)
        except GateError as error:
            say(f"backtest: {policy}, {date}: refused: {str(error).splitlines()[0]}")
    seconds = None if is_cluster() else clock.seconds
    attempt, listing = _attempt(root, config, date), list_root(root)
    made = BacktestNight(
        policy=policy,
        date=date,
        outcome="unchanged" if attempt is None else attempt.outcome,
        reason="" if attempt is None else attempt.reason,
        published=latest_run_id(root),
        dataset_id=None if attempt is None else attempt.dataset_id,
        full_dataset_id=None if attempt is None else (attempt.report or {}).get("full_dataset_id"),
        metrics={} if attempt is None else attempt.figures.metrics or {},
        minutes=0.0 if attempt is None else round((attempt.seconds or 0.0) / 60, 3),
        stage_minutes={} if attempt is None else stage_minutes(attempt),
        processor_minutes=None if seconds is None else round(seconds / 60, 3),
        root_bytes=listing.total_bytes(),
        root_files=len(listing.files),
        machine=None if is_cluster() else read_figures(),
    )
    _file(root, config, date).write_json(to_json(made))
    return made


def _without_readers(config: RunConfig) -> RunConfig:
    """The configuration of a root that nobody reads from: what is old need not stay for hours."""
    score = replace(config.score, readers_hours=0)
    return replace(config, score=score, clean=replace(config.clean, min_age_hours=0))


def _cleaned(root: Location, config: RunConfig, night: BacktestNight) -> BacktestNight:
    """The night with the size of its root after cleaning, where ``nightly.clean`` asks for that."""
    if not config.nightly.clean:
        return night
    clean_after_night(_without_readers(config))
    listing = list_root(root)
    night = replace(night, root_bytes=listing.total_bytes(), root_files=len(listing.files))
    _file(root, config, night.date).write_json(to_json(night))
    return night


def _attempt(root: Location, config: RunConfig, date: str) -> Attempt | None:
    """The newest attempt at a night that has ended."""
    attempts = [a for a in read_attempts(root, _name(config, date)) if a.ended_at is not None]
    return attempts[-1] if attempts else None


def _read(root: Location, config: RunConfig, date: str) -> BacktestNight | None:
    file = _file(root, config, date)
    try:
        return from_json(BacktestNight, file.read_json(), str(file))
    except FileNotFoundError:
        return None


def _file(root: Location, config: RunConfig, date: str) -> Location:
    return root / "backtest" / f"{_name(config, date)}.json"


def _name(config: RunConfig, date: str) -> str:
    return report_name(date, moment_of_night(replace(config.data, as_of=date)))


def gains_file(root: Location, config: RunConfig, date: str) -> Location:
    """File with the metrics of users until the night after this one."""
    return root / "backtest" / f"{_name(config, date)}.next.parquet"


def _with_next_days(
    root: Location, config: RunConfig, night: BacktestNight, following: BacktestNight
) -> BacktestNight:
    """The night with the figures that only the data of the next one tells."""
    if night.next_users is not None or night.published is None or following.dataset_id is None:
        return night
    told = _measure(root, config, night, following)
    gains = {"published": told.published, "newcomers": told.newcomers}
    if told.judged is not None:
        gains["judged"] = told.judged
    write_gains(gains_file(root, config, night.date), gains)
    night = replace(
        night,
        next_users=len(told.published),
        next_others=len(told.newcomers),
        next_metrics=told.published.means(),
        newcomer_metrics=told.newcomers.means(),
        judged_metrics=None if told.judged is None else told.judged.means(),
    )
    _file(root, config, night.date).write_json(to_json(night))
    return night


def _measure(
    root: Location, config: RunConfig, night: BacktestNight, following: BacktestNight
) -> NextDays:
    """Measure a night's lists with the dataset of the next night that knows all items.

    A night that was refused, or publishes no refit, has made none under a temporal split; then one
    is made and removed again, so that every policy is measured by the same items.
    """
    since = moment_of_night(replace(config.data, as_of=night.date))
    assert night.published is not None
    assert following.dataset_id is not None
    dataset_id, made = following.full_dataset_id, None
    if dataset_id is None:
        judged = root / "datasets" / following.dataset_id
        manifest = require_manifest(
            DatasetManifest, judged, "this dataset of the backtest was removed"
        )
        found = PreprocessResult(following.dataset_id, judged, True, manifest)
        data = replace(config.data, as_of=following.date)
        full = full_dataset(replace(config, data=data), found)
        dataset_id = full.dataset_id
        made = None if full.skipped or full.location == judged else full.location
    try:
        return measure_next_days(
            config, root, night.published, dataset_id, from_iso(since.isoformat())
        )
    finally:
        if made is not None:
            remove_result(made)
