"""Missed nights: which they are, which are made up for, and which are passed over.

A night is missed when it lies between the newest published one and tonight, a whole number of
days before tonight, and no report says how it ended (failures are no end). A later date that was
published by mistake, and rolled back, is not the newest. Of the missed ones the
newest ``nightly.catch_up`` are run, the oldest first; older ones are passed over, and their reports
say so: tonight's log holds all that theirs would have held. Before the first publication none is
missed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lightsans.config import RunConfig
from lightsans.errors import ConfigError, GateError
from lightsans.storage.location import Location, locate
from pipelines.console.progress import say
from pipelines.evaluate.stage import protocol_dict
from pipelines.nightly.dates import moment_of_night, require_past
from pipelines.nightly.draft import ReportDraft
from pipelines.nightly.inputs import report_name
from pipelines.nightly.report import NightReport, report_file, reports_of_night
from pipelines.nightly.stage import NightlyResult, run_nightly
from pipelines.publish import Published, read_published

LOOKS_BACK = 366
"""Most nights before tonight that are looked at."""
ENDED = frozenset({"published", "kept", "refused", "skipped"})
"""Outcomes of nights that are not run again by themselves."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Nights before tonight that were not made, oldest first, by their dates as given."""

    to_skip: tuple[str, ...]
    to_run: tuple[str, ...]


def night_before(as_of: str, days: int) -> str:
    """The date so many days before another one, written alike.

    Args:
        as_of: ISO date or time.
        days: Number of days.
    """
    text = as_of.strip()
    earlier = datetime.fromisoformat(text.replace("Z", "+00:00")) - timedelta(days=days)
    return earlier.date().isoformat() if len(text) == len("2026-11-05") else earlier.isoformat()


def has_ended(report: NightReport | None, published: Published) -> bool:
    """Whether a night is over, by its report; early versions wrote one of passed or refused.

    One that says it was published may have been killed before LATEST moved.
    """
    if report is None or report.outcome is None:
        return report is not None
    runs = {entry.run_id for entry in published.reached}
    return report.outcome in ENDED and (report.outcome != "published" or report.run_id in runs)


def find_missed(
    as_of: str,
    published: Published,
    moment_of: Callable[[str], datetime],
    reports_of: Callable[[str], Mapping[Location, NightReport | None]],
    most: int,
) -> Missed:
    """The nights that were missed before tonight's.

    Args:
        as_of: Date of tonight, as given.
        published: State of publishing.
        moment_of: Moment of a date.
        reports_of: Reports of the night of a date, by file.
        most: Missed nights to run; older ones are passed over.
    """
    tonight = moment_of(as_of)
    dates = {e: datetime.fromisoformat(e.as_of) for e in published.reached if e.as_of is not None}
    before = [
        moment
        for entry, moment in dates.items()
        if moment < tonight or published.withdrawn(entry.run_id) is None
    ]
    if not before or max(before) >= tonight:
        return Missed((), ())
    missed = []
    for days in range(1, LOOKS_BACK + 1):
        date = night_before(as_of, days)
        if moment_of(date) <= max(before):
            break
        if not any(has_ended(report, published) for report in reports_of(date).values()):
            missed.append(date)
    oldest_first = tuple(reversed(missed))
    cut = max(0, len(oldest_first) - most)
    return Missed(oldest_first[:cut], oldest_first[cut:])


def run_missed_nights(
    config: RunConfig,
    as_of: str | None = None,
    *,
    force: bool = False,
    run: Callable[[RunConfig, str], NightlyResult] = run_nightly,
) -> list[NightlyResult]:
    """Make up for the nights that were missed before a date; the results of those that passed.

    A missed night that the gate refuses is reported like any other and holds up no later one.

    Args:
        config: The run; ``nightly.catch_up`` says how many are run.
        as_of: Date of tonight, which is not run here; None takes ``data.as_of``.
        force: The date may be still to come.
        run: Runs one night.

    Raises:
        ConfigError: There is no date, it is still to come, or it is no ISO date or time.
    """
    date = as_of or config.data.as_of or ""

    def moment_of(text: str) -> datetime:
        return moment_of_night(replace(config.data, as_of=text or None))

    def name_of(text: str) -> str:
        return report_name(text, moment_of(text))

    tonight = moment_of(date)  # its mistakes are told first
    if not force:
        require_past(replace(config.data, as_of=date), tonight, datetime.now(UTC))
    root = locate(config.root, config.storage)
    published = read_published(root)
    try:
        missed = find_missed(
            date,
            published,
            moment_of,
            lambda text: reports_of_night(root, name_of(text)),
            config.nightly.catch_up,
        )
    except ValueError as error:
        raise ConfigError(
            f"--catch-up counts days back from --as-of {date!r}, which needs an ISO date or time, "
            "such as 2026-11-05"
        ) from error
    for text in missed.to_skip:
        _skip(config, root, text, moment_of(text), published)
    if missed.to_run:
        say(f"nightly: catching up with {len(missed.to_run)} nights: {', '.join(missed.to_run)}")
    found = []
    for text in missed.to_run:
        try:
            found.append(run(config, text))
        except GateError as error:
            say(f"WARNING: nightly: the missed night of {text} was refused: {error}")
    return found


def _skip(
    config: RunConfig, root: Location, as_of: str, moment: datetime, published: Published
) -> None:
    """Report a night that is passed over."""
    file = report_file(root, report_name(as_of, moment), published)
    draft = ReportDraft(file, moment, published.run_id, protocol_dict(config))
    draft.write(
        "skipped",
        f"missed, and older than the newest {config.nightly.catch_up} missed nights, which "
        "nightly.catch_up runs",
    )
    say(f"nightly: the missed night of {as_of} is passed over")
