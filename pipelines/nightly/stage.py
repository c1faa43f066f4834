"""The night: preprocess, train, evaluate, decide, score, publish; and nothing twice.

    reports/nightly-<date>.json           every decision of the gate, with value and bound
    reports/nightly-<date>.inputs.json    the files it read (`pipelines.nightly.inputs`)
    reports/nights/<date>/                every attempt, and how it ended (`pipelines.operations`)
    locks/nightly.json                    who is at work (`pipelines.session.lease`)

Every stage finds its own result by id, so the same date again does nothing, also when files have
arrived since, and a run that was interrupted anywhere goes on from there. What fails the gate is
not scored, and what was published stays published.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from lightsans.columns.times import to_datetime
from lightsans.config import DataConfig, RunConfig
from lightsans.errors import ConfigError, GateError, NotFoundError
from lightsans.reports.run_figures import require_known_figures
from lightsans.stages.filters import resolve_as_of
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest
from lightsans.storage.manifests import is_finished, read_manifest
from pipelines.console.progress import say
from pipelines.evaluate.stage import protocol_dict, run_evaluate
from pipelines.nightly.comparison import (
    changed_id_types,
    comparable_scored_users,
    dataset_users,
    measure_quality,
    why_models_differ,
)
from pipelines.nightly.gate import Check, check_data, check_quality, check_scored
from pipelines.nightly.inputs import pin_inputs, report_name
from pipelines.operations.ending import record_night, tellers_of
from pipelines.preprocess.parts import FORMAT_VERSION
from pipelines.preprocess.stage import run_preprocess
from pipelines.publish import publish_run, read_published
from pipelines.score.stage import ScoreResult, run_score
from pipelines.session.lease import Lease, hold
from pipelines.session.stage import wait_setting
from pipelines.train.stage import model_id, run_train


@dataclass(frozen=True, slots=True)
class NightlyResult:
    """Outcome of a nightly run."""

    outcome: Literal["published", "unchanged"]
    """unchanged: this run was the published one already."""
    as_of: str
    """Moment of the run, in UTC."""
    run_id: str
    instead_of: str | None
    """The run that was published before."""
    dataset_id: str
    model_id: str
    location: Location
    report: Location


def run_nightly(
    config: RunConfig,
    as_of: str | None = None,
    *,
    force: bool = False,
    before_publish: Callable[[], None] = lambda: None,
) -> NightlyResult:
    """Publish the recommendations of a date, unless they are or should not be.

    Args:
        config: The run; ``nightly`` says what is good enough.
        as_of: ISO date or time up to which the log is read; None takes ``data.as_of``.
        force: Publish even if a newer date is, or if this very run was rolled back.
        before_publish: Called once everything else is done.

    Raises:
        ConfigError: There is no date, a newer one is published, or this run was rolled back.
        GateError: The run is not good enough; what was published still is.
        LeaseError: Another nightly run is at work, or took over.
        PublishError: Somebody published by hand meanwhile.
        NotFoundError: The published run cannot be compared with, because it was removed.
    """
    data = replace(config.data, as_of=as_of or config.data.as_of)
    moment, config = _to_moment(data), replace(config, data=data)
    root = locate(config.root, config.storage)
    return record_night(
        root,
        report_name(data.as_of or "", moment),
        moment,
        tellers_of(config, root),
        lambda: _run_alone(config, root, moment, force, before_publish),
    )


def _run_alone(
    config: RunConfig,
    root: Location,
    moment: datetime,
    force: bool,
    before_publish: Callable[[], None],
) -> NightlyResult:
    """Run the night under the lease of nights."""
    require_known_figures(config.score)  # not after hours of training
    data, owner = config.data, f"nightly --as-of {config.data.as_of}"
    # Not waited for unless asked to: whoever comes second would only find everything done.
    lock, lease_s, wait_s = root / "locks" / "nightly.json", config.nightly.lease_s, wait_setting(0)
    with hold(lock, owner, lease_s, wait_s) as lease:
        night = _Night(config, root, moment, lease, force)
        run = night.make_run()
        if run.run_id == night.before.run_id:
            say(f"nightly: run {run.run_id} of {data.as_of} is published already; nothing to do")
        else:
            before_publish()
            night.publish(run.run_id)
        return NightlyResult(
            outcome="unchanged" if run.run_id == night.before.run_id else "published",
            as_of=moment.isoformat(),
            run_id=run.run_id,
            instead_of=night.before.run_id,
            dataset_id=run.manifest.dataset_id,
            model_id=run.manifest.model_id,
            location=run.location,
            report=night.report,
        )


class _Night:
    """One night at work: what was published when it began, and what it found out since."""

    def __init__(
        self, config: RunConfig, root: Location, moment: datetime, lease: Lease, force: bool
    ) -> None:
        self._config, self._root, self._moment, self._lease = config, root, moment, lease
        self._force = force
        self.before = read_published(root)
        self._checks: list[Check] = []
        self._ids: dict[str, str] = {}
        self._not_compared: list[str] = []
        self._evaluations: list[str] = []
        name = report_name(config.data.as_of or "", moment)
        self.report = root / "reports" / f"nightly-{name}.json"
        self._inputs = root / "reports" / f"nightly-{name}.inputs.json"

    def make_run(self) -> ScoreResult:
        """Recommendations that passed the gate."""
        self._require_newest()
        nightly = self._config.nightly
        published = self._published_manifest()
        pinned = pin_inputs(self._config, self._inputs, self._moment)
        config = self._config = self._with_base(published, pinned)
        dataset = run_preprocess(config)
        self._ids["dataset_id"] = dataset.dataset_id
        users = dataset.manifest.users
        # Before training, which may take hours.
        self._require(check_data(nightly, users, dataset_users(published) if published else None))
        judged = self._published_model(published, dataset.manifest)
        self._lease.renew()
        model = run_train(config, dataset.dataset_id)
        self._ids["model_id"] = model.model_id
        self._lease.renew()
        tonight = run_evaluate(config, dataset.dataset_id, model.model_id)
        compared = None
        if judged is not None:
            compared = run_evaluate(config, dataset.dataset_id, judged, map_items=True)
        quality = measure_quality(config, tonight, compared)
        self._evaluations = [each.location.name for each in (tonight, compared) if each]
        self._require(check_quality(nightly, quality))
        self._lease.renew()
        run = run_score(config, dataset.dataset_id, model.model_id)
        if published is not None and run.run_id != self.before.run_id:
            before = comparable_scored_users(run.manifest, published)
            if before is None:
                self._leave_out("scored users: only one of the two runs is of a segment")
            self._require(check_scored(nightly, run.manifest.users, before))
        return run

    def publish(self, run_id: str) -> None:
        """Move LATEST, if this run still may."""
        rollback = self.before.withdrawn(run_id)
        if rollback is not None and not self._force:
            raise ConfigError(
                f"run {run_id} was rolled back at {rollback.published_at} and is not published "
                "again; change what was wrong with it, or insist with --force"
            )
        self._write_report()
        self._lease.renew()
        publish_run(self.before, run_id, "nightly")
        say(f"nightly: published run {run_id}, before {self.before.run_id or 'none'}")

    @property
    def _is_backfill(self) -> bool:
        """Whether a newer date is published."""
        current = self.before.current
        if current is None or current.as_of is None:
            return False
        return self._moment < datetime.fromisoformat(current.as_of)

    def _require_newest(self) -> None:
        """Refuse a date before the published one: a backfill must not replace newer results."""
        current = self.before.current
        if current is not None and self._is_backfill and not self._force:
            raise ConfigError(
                f"--as-of {self._config.data.as_of} is before {current.as_of}, the date of the "
                f"published run {current.run_id}; `submit.py pipeline --set data.as_of=...` makes "
                "a run without publishing it, --force publishes it all the same"
            )

    def _published_manifest(self) -> RunManifest | None:
        """The manifest of the published run, if there is one."""
        if self.before.run_id is None:
            return None
        run = self.before.runs / self.before.run_id
        manifest = read_manifest(RunManifest, run)
        nightly = self._config.nightly
        if manifest is None and (nightly.max_user_drop, nightly.max_relative_drop) != (None, None):
            raise NotFoundError(
                f"{run}: this run is published but was removed, so there is nothing to compare "
                "with; publish another run, or set nightly.max_user_drop and "
                "nightly.max_relative_drop to null for once"
            )
        return manifest

    def _with_base(self, published: RunManifest | None, config: RunConfig) -> RunConfig:
        """The configuration, its dataset made from the published one where that is asked for."""
        if not config.nightly.incremental or published is None:
            return config
        manifest = read_manifest(DatasetManifest, self._root / "datasets" / published.dataset_id)
        as_of = self.before.current.as_of if self.before.current is not None else None
        base = base_of_night(manifest, as_of, self._moment)
        return replace(config, data=replace(config.data, base=base))

    def _published_model(
        self, published: RunManifest | None, dataset: DatasetManifest
    ) -> str | None:
        """The model to compare tonight's with on tonight's dataset; None leaves that out.

        Decided before training: whoever waits for it should know what it will be compared with.
        """
        if published is None:
            return None
        types = changed_id_types(published, dataset)
        if "user" in types:
            self._leave_out(f"lists of users: {types['user']}")
        if self._config.nightly.max_relative_drop is None:
            return None
        if published.model_id == model_id(self._config, dataset.id):
            return None
        if self._is_backfill:
            self._leave_out("models: the published one has learnt from a later log")
            return None
        model = self._root / "models" / published.model_id
        if not is_finished(model):
            raise NotFoundError(
                f"{model}: this model of the published run {self.before.run_id} was removed, so "
                "there is nothing to compare with; set nightly.max_relative_drop to null for once"
            )
        reason = why_models_differ(published, model, dataset)
        if reason is not None:
            self._leave_out(f"models: {reason}")
            return None
        return str(model.name)

    def _leave_out(self, reason: str) -> None:
        """Go on without a comparison, and say so."""
        self._not_compared.append(reason)
        say(f"WARNING: nightly: not compared with published run {self.before.run_id}: {reason}")

    def _require(self, checks: list[Check]) -> None:
        """End the night, with a report, if one of these failed."""
        self._checks += checks
        failed = [check for check in checks if not check.passed]
        if failed:
            report = self._write_report()
            raise GateError(
                f"{len(failed)} of {len(self._checks)} checks failed, nothing was published and "
                f"{self.before.run_id or 'nothing'} stays published ({self.report})"
                + "".join(f"\n  {check}" for check in failed),
                report,
            )

    def _write_report(self) -> dict[str, Any]:
        """Write every decision that was made."""
        report = {
            "as_of": self._moment.isoformat(),
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "passed": all(check.passed for check in self._checks),
            "published_before": self.before.run_id,
            **self._ids,
            "protocol": protocol_dict(self._config),
            "evaluations": self._evaluations,
            "not_compared": self._not_compared,
            "checks": [{**asdict(check), "passed": check.passed} for check in self._checks],
        }
        self.report.write_json(report)
        return report


def base_of_night(
    manifest: DatasetManifest | None, as_of: str | None, moment: datetime
) -> str | None:
    """Id of the dataset that an incremental night adds to; None when it reads everything.

    Args:
        manifest: Manifest of the published run's dataset; None when it was removed.
        as_of: Date of the published run.
        moment: Date of this night.
    """
    if manifest is None or as_of is None or moment < datetime.fromisoformat(as_of):
        return None
    if manifest.format_version != FORMAT_VERSION:  # an earlier release made it
        return None
    if moment == datetime.fromisoformat(as_of):  # the same night again finds its own dataset
        return manifest.base
    return manifest.id


def _to_moment(data: DataConfig) -> datetime:
    micros = resolve_as_of(data)
    if micros is None:
        raise ConfigError(
            "which night? Give its date, such as --as-of 2026-11-05, or set data.as_of"
        )
    return to_datetime(micros)
