"""The night: preprocess, train, evaluate, decide, refit, score, publish; and nothing twice.

    reports/nightly-<date>.json           every decision and check (`pipelines.nightly.report`)
    reports/nightly-<date>.inputs.json    the files it read (`pipelines.nightly.inputs`)
    reports/nights/<date>/                every attempt, and how it ended (`pipelines.operations`)
    locks/nightly.json                    who is at work (`pipelines.session.lease`)

Every stage finds its own result by id, so the same date again does nothing, also when files have
arrived since, and a run that was interrupted anywhere goes on from there. What fails the gate is
neither refitted nor scored, and what was published stays published.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, cast

from lightsans.config import RunConfig
from lightsans.errors import ConfigError, GateError
from lightsans.reports.run_figures import require_known_figures
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import RunManifest
from pipelines.console.progress import say
from pipelines.evaluate.stage import EvaluateResult, protocol_dict, run_evaluate
from pipelines.nightly.age import newest_before
from pipelines.nightly.candidate import Candidate, find_candidate
from pipelines.nightly.comparison import (
    comparable_scored_users,
    dataset_users,
    measure_quality,
)
from pipelines.nightly.dates import moment_of_night, require_past
from pipelines.nightly.draft import ReportDraft
from pipelines.nightly.gate import (
    Quality,
    check_age,
    check_data,
    check_quality,
    check_refit,
    check_scored,
)
from pipelines.nightly.inputs import pin_inputs, report_name
from pipelines.nightly.report import Outcome, refit_record, report_file, reports_of_night
from pipelines.nightly.yardstick import Yardstick
from pipelines.operations.ending import outcome_of, reason_of, record_night, tellers_of
from pipelines.preprocess.stage import PreprocessResult, run_preprocess
from pipelines.publish import judged_model_id, publish_run
from pipelines.refit.checks import measure_refit
from pipelines.refit.stage import full_dataset, require_test, run_refit
from pipelines.score.stage import ScoreResult, run_score
from pipelines.score.table import write_to_table
from pipelines.session.lease import Lease, hold
from pipelines.session.stage import wait_setting
from pipelines.train.stage import run_train


@dataclass(frozen=True, slots=True)
class NightlyResult:
    """Outcome of a nightly run."""

    outcome: Literal["published", "unchanged", "kept"]
    """unchanged: this run was the published one already. kept: it was made and checked, and is not
    published by a rule."""
    as_of: str
    """Moment of the run, in UTC."""
    run_id: str
    instead_of: str | None
    """The run that was published before."""
    dataset_id: str
    """The dataset with held-out items."""
    model_id: str
    """The model that was judged by them."""
    full_dataset_id: str | None
    """The dataset that was recommended from; None where nothing was refitted."""
    refit_model_id: str | None
    """The model that was recommended with; None where nothing was refitted."""
    location: Location
    report: Location
    reason: str = ""
    """Why it was kept."""


def run_nightly(
    config: RunConfig,
    as_of: str | None = None,
    *,
    force: bool = False,
    before_publish: Callable[[], None] = lambda: None,
    now: datetime | None = None,
) -> NightlyResult:
    """Publish the recommendations of a date, unless they are or should not be.

    Args:
        config: The run; ``nightly`` says what is good enough.
        as_of: ISO date or time up to which the log is read; None takes ``data.as_of``.
        force: Run a date that is older than the published one, without publishing it, or that is
            still to come; publish after a rollback, also the very run that was rolled back.
        before_publish: Called once everything else is done.
        now: The time; None for that of the clock.

    Raises:
        ConfigError: There is no date, it is still to come, a newer one is published, or this run
            was rolled back.
        GateError: The run is not good enough; what was published still is.
        LeaseError: Another nightly run is at work, or took over.
        PublishError: Somebody published by hand meanwhile.
        NotFoundError: The published run cannot be compared with, because it was removed.
    """
    data = replace(config.data, as_of=as_of or config.data.as_of)
    moment, config = moment_of_night(data), replace(config, data=data)
    if not force:
        require_past(data, moment, now or datetime.now(UTC))
    root = locate(config.root, config.storage)
    return record_night(
        root,
        report_name(data.as_of or "", moment),
        moment,
        tellers_of(config, root),
        lambda: _run_alone(config, root, moment, force, before_publish),
        data.as_of or "",
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
    require_test(config)
    owner = f"nightly --as-of {config.data.as_of}"
    # Not waited for unless asked to: whoever comes second would only find everything done.
    lock, lease_s, wait_s = root / "locks" / "nightly.json", config.nightly.lease_s, wait_setting(0)
    with hold(lock, owner, lease_s, wait_s) as lease:
        night = _Night(config, root, moment, lease, force)
        try:
            return night.run(before_publish)
        except BaseException as error:
            night.write_end(error)
            raise


class _Night:
    """One night at work: what was published when it began, and what it found out since."""

    def __init__(
        self, config: RunConfig, root: Location, moment: datetime, lease: Lease, force: bool
    ) -> None:
        self._config, self._root, self._moment = config, root, moment
        self._lease, self._force = lease, force
        self._candidate: Candidate | None = None
        self.yardstick = Yardstick(config, root, moment)
        name = self._name = report_name(config.data.as_of or "", moment)
        file = report_file(root, name, self.yardstick.before)
        self._inputs = root / "reports" / f"nightly-{name}.inputs.json"
        self.draft = ReportDraft(file, moment, self.yardstick.run_id, protocol_dict(config))

    def run(self, before_publish: Callable[[], None]) -> NightlyResult:
        """Make the night's run, and publish it if that may be."""
        run, reason = self.make_run(), ""
        published = self.yardstick.run_id
        outcome: Literal["published", "unchanged", "kept"] = "published"
        if run.run_id == published:
            outcome = "unchanged"
            say(f"nightly: run {run.run_id} is published already; nothing to do")
        else:
            before_publish()
            self._require_not_withdrawn(run.run_id)
            reason = self._why_kept()
            if reason:
                outcome = "kept"
                self.draft.write("kept", reason)
                say(f"WARNING: nightly: run {run.run_id} is kept and not published: {reason}")
            else:
                self._publish(run.run_id)
        if outcome != "kept":  # again, too: the night before may have ended between the two
            write_to_table(self._config, run.run_id)
        report, is_refit = self.draft.report, run.manifest.judged is not None
        return NightlyResult(
            outcome=outcome,
            as_of=self._moment.isoformat(),
            run_id=run.run_id,
            instead_of=published,
            dataset_id=report.dataset_id or run.manifest.dataset_id,
            model_id=judged_model_id(run.manifest),
            full_dataset_id=run.manifest.dataset_id if is_refit else None,
            refit_model_id=run.manifest.model_id if is_refit else None,
            location=run.location,
            report=self._file_of(run.run_id) if outcome == "unchanged" else self.draft.file,
            reason=reason,
        )

    def _file_of(self, run_id: str) -> Location:
        """The report of this night that tells of a run; the next one where none does."""
        for file, report in reports_of_night(self._root, self._name).items():
            if report is not None and report.run_id == run_id:
                return file
        return self.draft.file

    def write_end(self, error: BaseException) -> None:
        """Write the report of a night that ended by an error."""
        if isinstance(error, GateError):  # the gate has written it
            return
        outcome, _ = outcome_of(error)
        try:
            self.draft.write(cast(Outcome, outcome), reason_of(error))
        except Exception as fault:  # it must not hide how the night ended
            say(f"WARNING: nightly: no report was written: {reason_of(fault)}")

    def make_run(self) -> ScoreResult:
        """Recommendations that passed the gate."""
        if not self._force:
            self.yardstick.require_newest()
        draft, nightly = self.draft, self._config.nightly
        published = self.yardstick.manifest()
        pinned = pin_inputs(self._config, self._inputs, self._moment)
        config = self._config = self.yardstick.with_base(published, pinned)
        dataset = run_preprocess(config)
        draft.note(dataset_id=dataset.dataset_id)
        users = dataset.manifest.users
        # Before training, which may take hours.
        draft.require(check_data(nightly, users, dataset_users(published) if published else None))
        if nightly.max_age is not None:
            newest = newest_before(dataset.location, self._moment)
            draft.require(check_age(nightly, newest, self._moment))
        run = self._keep(dataset) or self._train(published, dataset)
        draft.note(run_id=run.run_id)
        if published is not None and run.run_id != self.yardstick.run_id:
            before = comparable_scored_users(run.manifest, published)
            if before is None:
                draft.leave_out(["scored users: only one of the two runs is of a segment"])
            draft.require(check_scored(nightly, run.manifest.users, before))
        return run

    def _keep(self, dataset: PreprocessResult) -> ScoreResult | None:
        """The lists of the model that is published, for today's histories; None to train."""
        if not self._config.nightly.train.goes_by_earlier:
            self.draft.decide("train", "a new model", "nightly.train.every_nights is 1")
            return None
        found, reason = find_candidate(
            self._root, self.yardstick.before, self._moment, dataset.manifest
        )
        self._candidate = found
        full = dataset
        if found is not None:
            reason = found.why_train(self._config, self._moment) or ""
        if found is not None and not reason:  # what costs more is asked last
            if found.refit != "none":
                full = full_dataset(self._config, dataset)
            new_items = found.why_new_items(self._config, full.location)
            reason = new_items or self._why_worse(found, dataset)
        if found is None or reason:
            self.draft.decide("train", "a new model", reason)
            return None
        trained = found.trained.isoformat()
        self.draft.decide("train", f"model {found.model.name} is kept", f"it is of {trained}")
        self._lease.renew()
        self.draft.note(model_id=found.judged.name)
        if found.refit != "none":
            self.draft.note(full_dataset_id=full.dataset_id, refit_model_id=found.model.name)
        return run_score(
            self._config, full.dataset_id, found.model.name, map_items=True, since=found.run_id
        )

    def _why_worse(self, found: Candidate, dataset: PreprocessResult) -> str:
        """Reason to train because of tonight's held-out items; empty where there is none."""
        self._lease.renew()
        tonight = run_evaluate(self._config, dataset.dataset_id, found.judged.name, map_items=True)
        quality = measure_quality(self._config, tonight, None)
        reason = found.why_worse(self._config, quality.metrics)
        checks = check_quality(self._config.nightly, quality)
        failed = [check for check in checks if not check.passed]
        if reason is None and failed:
            reason = "the published model does not pass the gate: " + "; ".join(map(str, failed))
        if reason is None:
            self._note_quality(quality, tonight)
            self.draft.require(checks)
        return reason or ""

    def _train(self, published: RunManifest | None, dataset: PreprocessResult) -> ScoreResult:
        """The lists of a model that is trained tonight and has passed the gate, or of its refit."""
        config = self._begin_with(dataset)
        compared = None
        if published is not None:
            compared, left_out = self.yardstick.model(published, dataset.manifest, config)
            self.draft.leave_out(left_out)
        self._lease.renew()
        model = run_train(config, dataset.dataset_id).model_id
        self.draft.note(model_id=model)
        quality = self._judge(dataset.dataset_id, model, compared)
        self.draft.require(check_quality(config.nightly, quality))
        scored = self._refit(config, dataset, model)
        self._lease.renew()
        return run_score(config, *scored)

    def _begin_with(self, dataset: PreprocessResult) -> RunConfig:
        """The configuration of tonight's training, which may begin with a model's weights."""
        if self._config.nightly.train.start == "scratch":
            return self._config
        found = self._candidate
        if found is None:
            self.draft.decide("train from", "scratch", "there is no earlier model to begin with")
            return self._config
        config, reason = found.begin_with(self._config, dataset.location)
        decided = f"model {found.judged.name}" if reason is None else "scratch"
        self.draft.decide("train from", decided, reason or "nightly.train.start is warm")
        return config

    def _why_kept(self) -> str:
        """Reason why a run is not published, good as it is; empty where it may be."""
        if self.yardstick.is_backfill:
            return (
                f"a newer night is published, run {self.yardstick.run_id}; `submit.py publish "
                "RUN_ID` publishes any run"
            )
        waiting = self.yardstick.before.waiting
        if waiting is None or self._force:
            return ""
        return (
            f"run {waiting.instead_of} was rolled back at {waiting.published_at}, and nights "
            "publish again after `submit.py resume`, or `submit.py publish RUN_ID`"
        )

    def _publish(self, run_id: str) -> None:
        """Move LATEST."""
        before = self.yardstick.before
        self.draft.write("published")
        self._lease.renew()
        publish_run(before, run_id, "nightly")
        say(f"nightly: published run {run_id}, before {before.run_id or 'none'}")

    def _require_not_withdrawn(self, run_id: str) -> None:
        rollback = self.yardstick.before.withdrawn(run_id)
        if rollback is not None and not self._force:
            raise ConfigError(
                f"run {run_id} was rolled back at {rollback.published_at} and is not published "
                "again; change what was wrong with it, or insist with --force"
            )

    def _judge(self, dataset_id: str, model: str, compared: str | None) -> Quality:
        """Figures of tonight's model on held-out items, beside those of the published one."""
        self._lease.renew()
        tonight, other = run_evaluate(self._config, dataset_id, model), None
        if compared is not None:
            other = run_evaluate(self._config, dataset_id, compared, map_items=True)
        quality = measure_quality(self._config, tonight, other)
        self._note_quality(quality, tonight, other)
        return quality

    def _note_quality(
        self, quality: Quality, tonight: EvaluateResult, other: EvaluateResult | None = None
    ) -> None:
        self.draft.note(
            metrics=dict(quality.metrics),
            intervals=dict(quality.intervals),
            evaluations=tuple(each.location.name for each in (tonight, other) if each),
        )

    def _refit(self, config: RunConfig, dataset: PreprocessResult, model: str) -> tuple[str, str]:
        """Dataset and model to recommend from: those that have learnt everything, or as judged."""
        if config.nightly.refit == "none":
            self.draft.decide("refit", "none", "nightly.refit is none")
            return dataset.dataset_id, model
        self._lease.renew()
        refit = run_refit(config, dataset, model)
        self._lease.renew()
        figures = measure_refit(config, refit)
        self.draft.decide("refit", refit.judged.method, "the judged model has passed the gate")
        self.draft.note(
            full_dataset_id=refit.dataset.dataset_id,
            refit_model_id=refit.model.model_id,
            refit=refit_record(refit, figures),
        )
        self.draft.require(check_refit(self._config.nightly, figures))
        return refit.dataset.dataset_id, refit.model.model_id
