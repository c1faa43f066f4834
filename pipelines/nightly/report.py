"""The report of a night, ``reports/nightly-<date>.json``: what it made, checked and decided."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from lightsans.storage.location import Location
from lightsans.storage.records import from_json, to_json
from pipelines.nightly.gate import Check, Rule
from pipelines.publish import Published
from pipelines.refit.checks import RefitFigures
from pipelines.refit.stage import Refit

Outcome = Literal[
    "published", "kept", "refused", "skipped", "wrong", "failed", "interrupted", "busy"
]
"""published: LATEST moved, or was about to. kept: made and checked, but not published by a rule.
refused: a check failed, what was published stays. skipped: missed, and passed over. wrong: a
setting or an input. busy: another process had the lease, or published first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRecord:
    """One check of the gate: see `pipelines.nightly.gate.Check`."""

    name: str
    value: float
    bound: float
    setting: str
    rule: Rule = "at least"
    low: float | None = None
    high: float | None = None
    passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Something that a night decided by itself, and why."""

    subject: str
    """Question, such as ``refit``."""
    decided: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RefitRecord:
    """Figures of a refit beside the judged model, over a sample of users."""

    method: str
    epochs: int
    users: int = 0
    overlap: float | None = None
    items: int | None = None
    """Different items in its lists."""
    judged_items: int | None = None
    """Different items in those of the judged model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NightReport:
    """Content of ``reports/nightly-<date>.json``; early versions wrote fewer fields."""

    as_of: str
    """Date of the night, in UTC."""
    created_at: str
    """ISO time of the report."""
    started_at: str | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    """Why it ended so; None where it was published."""
    passed: bool
    """Whether every check that was made has passed."""
    run_id: str | None = None
    """The recommendations that it made; None where it did not come so far."""
    published_before: str | None
    """The run that was published when the night began."""
    dataset_id: str | None = None
    """The dataset with held-out items, by which models are judged."""
    model_id: str | None = None
    """The judged model, of which the metrics are."""
    full_dataset_id: str | None = None
    """The dataset that was recommended from; None where nothing was refitted."""
    refit_model_id: str | None = None
    """The model that was recommended with; None where nothing was refitted."""
    refit: RefitRecord | None = None
    protocol: Mapping[str, Any]
    """Protocol of the metrics: split and section ``evaluate``."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Test metrics of the judged model."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Their 95 % intervals."""
    evaluations: tuple[str, ...]
    """Directories below ``reports/``: tonight's model, then the one it was compared with."""
    not_compared: tuple[str, ...]
    """Comparisons that could not be made, with the reason."""
    checks: tuple[CheckRecord, ...]
    decisions: tuple[Decision, ...] = ()


def refit_record(refit: Refit, figures: RefitFigures) -> RefitRecord:
    """A refit and its figures as a report holds them."""
    record = RefitRecord(method=refit.judged.method, epochs=refit.model.manifest.epochs)
    lists = figures.lists
    if lists is None or not lists.users:
        return record
    return replace(
        record,
        users=lists.users,
        overlap=lists.overlap,
        items=lists.items,
        judged_items=lists.items_before,
    )


def check_record(check: Check) -> CheckRecord:
    """A check as a report holds it."""
    return CheckRecord(**asdict(check), passed=check.passed)


def write_night_report(file: Location, report: NightReport) -> dict[str, Any]:
    """Write a report; its JSON object."""
    content = to_json(report)
    file.write_json(content)
    return content


def read_night_report(file: Location) -> NightReport | None:
    """The report in a file; None where there is no such file.

    Raises:
        InputError: The file is damaged.
    """
    try:
        return from_json(NightReport, file.read_json(), str(file))
    except FileNotFoundError:
        return None


def reports_of_night(root: Location, name: str) -> dict[Location, NightReport | None]:
    """The reports of a night by file: of its first attempt, then of later ones; None where free.

    The last entry is always free, or may be written over.

    Args:
        root: Where all results lie.
        name: Name of the night in file names.
    """
    found: dict[Location, NightReport | None] = {}
    number = 1
    while True:
        suffix = "" if number == 1 else f".{number}"
        file = root / "reports" / f"nightly-{name}{suffix}.json"
        found[file] = read_night_report(file)
        if found[file] is None:
            return found
        number += 1


def report_file(root: Location, name: str, published: Published) -> Location:
    """The file for the report of an attempt: never that of a night which was published.

    Args:
        root: Where all results lie.
        name: Name of the night in file names.
        published: State of publishing.
    """
    runs = {entry.run_id for entry in published.history}
    for file, report in reports_of_night(root, name).items():
        if report is None or not _was_published(report, runs):
            return file
    raise AssertionError("the last file is free")


def _was_published(report: NightReport, runs: set[str]) -> bool:
    if report.outcome is None:  # an early version: it wrote no run
        return report.passed
    # One that says so, of a run that is not in the history, was ended before LATEST moved.
    return report.outcome == "published" and report.run_id in runs
