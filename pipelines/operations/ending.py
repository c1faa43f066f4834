"""The end of a night, whatever it was: it is recorded, and whoever wants to know is told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeVar

from lightsans.config import RunConfig
from lightsans.errors import ConfigError, LightSANsError
from lightsans.storage.location import Location
from pipelines.console.exit_status import ExitStatus, status_of
from pipelines.console.faults import explain_fault
from pipelines.console.interruption import received
from pipelines.console.logs import printable, redact
from pipelines.console.progress import say
from pipelines.operations.attempts import (
    Attempt,
    Outcome,
    begin_attempt,
    delete_attempt,
    ended,
    read_attempts,
    write_attempt,
)
from pipelines.operations.checks import check_text
from pipelines.operations.clean import clean_after_night
from pipelines.operations.figures import complete_figures
from pipelines.operations.gauges import night_samples, show_on_cluster, write_metrics_file
from pipelines.operations.notify import notify, require_secrets
from pipelines.operations.page import write_pages
from pipelines.session.clusters import is_cluster
from pipelines.session.stage_times import recorded_stages

CLEANED_AFTER = ("published", "kept", "refused", "failed")
"""Outcomes after which ``nightly.clean`` removes what is old."""
LONGEST_REASON = 2000
"""Characters of a reason that are kept."""


class NightEnd(Protocol):
    """Result of a night that ended well."""

    @property
    def outcome(self) -> Outcome:
        """``published`` or ``unchanged``, for example."""

    @property
    def reason(self) -> str:
        """Why it was kept; empty otherwise."""

    @property
    def run_id(self) -> str:
        """The recommendation run."""

    @property
    def instead_of(self) -> str | None:
        """The run that was published before."""

    @property
    def dataset_id(self) -> str:
        """Its dataset."""

    @property
    def model_id(self) -> str:
        """Its model."""


N = TypeVar("N", bound=NightEnd)
Teller = Callable[[Attempt], None]
"""Tells somebody about an attempt that has ended."""


def tellers_of(config: RunConfig, root: Location) -> list[Teller]:
    """Whoever is told how the nights of a configuration end, in this order."""
    try:
        require_secrets(config.nightly)
    except ConfigError as error:  # in time: a night takes hours, and must not fail by this
        say(f"WARNING: nightly: nobody will be told how this night ends: {error}")
    return [
        _say_decisions,
        lambda attempt: _write_pages(config, root, attempt),
        lambda attempt: notify(config.nightly, root, attempt),
        lambda attempt: _clean(config, attempt),
        lambda attempt: _measure(config, root, attempt),
    ]


def _measure(config: RunConfig, root: Location, attempt: Attempt) -> None:
    """Hand the figures to Prometheus; a night that found another one at work has none."""
    if attempt.outcome == "busy":
        return
    if config.nightly.metrics_file is None and not is_cluster():
        return
    samples = night_samples(root, attempt)
    try:
        write_metrics_file(config, samples)
    except Exception as error:  # a cluster's gauges are told all the same
        file = config.nightly.metrics_file
        say(f"WARNING: nightly.metrics_file={file} was not written: {reason_of(error)}")
    if attempt.outcome != "interrupted":
        show_on_cluster(samples)


def _say_decisions(attempt: Attempt) -> None:
    """Say what the gate measured; of a refused night its error says it."""
    checks = (attempt.report or {}).get("checks", [])
    if attempt.outcome in ("published", "kept") and checks:
        lines = "".join(f"\n  {check_text(check)}" for check in checks)
        say(f"nightly: every check passed:{lines}", checks=checks)


def _write_pages(config: RunConfig, root: Location, attempt: Attempt) -> None:
    """Write the night's page and the index; after a signal there is no time for it."""
    if attempt.outcome in ("interrupted", "busy"):
        return
    has_page = (root / "reports" / f"nightly-{attempt.date}.html").exists()
    if attempt.outcome != "unchanged" or not has_page or _is_news(root, attempt):
        say(f"nightly: page {write_pages(config, root, attempt.date)}")


def _is_news(root: Location, attempt: Attempt) -> bool:
    """Whether no earlier attempt at the night tells that its run is published.

    The one that published it may have died, or failed, before it could say so.
    """
    earlier = [each for each in read_attempts(root, attempt.date) if each.id != attempt.id]
    return bool(earlier) and not any(each.has_succeeded for each in earlier)


def _clean(config: RunConfig, attempt: Attempt) -> None:
    """Clean the root after a night that has left something there."""
    if config.nightly.clean and attempt.outcome in CLEANED_AFTER:
        clean_after_night(config)


def record_night(
    root: Location,
    date: str,
    moment: datetime,
    tellers: list[Teller],
    night: Callable[[], N],
    given: str = "",
) -> N:
    """Run a night, and record how it ends.

    Args:
        root: Where all results lie.
        date: Name of the night, as in ``nightly-<date>.json``.
        moment: Its moment.
        tellers: Called with the attempt once it has ended; their errors are warnings.
        night: Runs the night.
        given: The moment as it was given.

    Raises:
        AccessError: The root cannot be written to.
    """
    root.require_directory()  # else there is nowhere to record anything
    attempt = begin_attempt(date, moment, given)
    _try("recorded", lambda: write_attempt(root, attempt))
    with recorded_stages() as stages:
        try:
            result = night()
        except BaseException as error:
            outcome, status = outcome_of(error)
            failed = replace(attempt, stages=tuple(stages))
            _end(root, ended(failed, outcome, reason_of(error), status), tellers)
            raise
    done = replace(
        attempt,
        stages=tuple(stages),
        run_id=result.run_id,
        instead_of=result.instead_of,
        dataset_id=result.dataset_id,
        model_id=result.model_id,
    )
    _end(root, ended(done, result.outcome, result.reason, ExitStatus.DONE), tellers)
    return result


def reason_of(error: BaseException) -> str:
    """The reason of an end, as it may be kept and sent: secrets redacted, controls as escapes."""
    own = error if isinstance(error, LightSANsError) else explain_fault(error)
    if own is not None:
        text = str(own)
    elif isinstance(error, KeyboardInterrupt | SystemExit):
        text = f"ended by signal {received()}" if received() else type(error).__name__
    else:
        text = f"{type(error).__name__}: {error}"
    return printable(redact(text), keep="\n")[:LONGEST_REASON]


def outcome_of(error: BaseException) -> tuple[Outcome, int]:
    """How a night ended by an error, and the exit status."""
    number = received()
    if number is not None or isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted", 128 + number if number else int(ExitStatus.INTERRUPTED)
    own = error if isinstance(error, LightSANsError) else explain_fault(error)
    status = ExitStatus.FAILED if own is None else status_of(own)
    outcomes: dict[ExitStatus, Outcome] = {
        ExitStatus.USAGE: "wrong",
        ExitStatus.GATE: "refused",
        ExitStatus.BUSY: "busy",
    }
    return outcomes.get(status, "failed"), status


def _end(root: Location, attempt: Attempt, tellers: list[Teller]) -> None:
    """Record the end; after a signal there are only seconds for it."""

    def record() -> None:
        is_told = attempt.outcome == "unchanged" and not _is_news(root, attempt)
        if is_told:  # the same date again changes nothing
            delete_attempt(root, attempt)
        else:
            write_attempt(root, attempt)

    def add_figures() -> None:
        nonlocal attempt
        attempt = complete_figures(root, attempt)

    if attempt.outcome != "interrupted":
        _try("described", add_figures)
    _try("recorded", record)
    for tell in tellers:
        _try("told", lambda tell=tell: tell(attempt))  # type: ignore[misc]


def _try(what: str, do: Callable[[], None]) -> None:
    """Do what must not change how a night ends."""
    try:
        do()
    except Exception as error:
        say(f"WARNING: nightly: the end of this night was not {what}: {reason_of(error)}")
