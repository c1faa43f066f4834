"""The report of a night while it is at work: checks, decisions and results as they come."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lightsans.errors import GateError
from lightsans.storage.location import Location
from pipelines.console.progress import say
from pipelines.nightly.gate import Check
from pipelines.nightly.report import (
    Decision,
    NightReport,
    Outcome,
    check_record,
    write_night_report,
)


class ReportDraft:
    """Report of a night, in the making.

    Args:
        file: Where it is written.
        as_of: Date of the night, in UTC.
        published: The run that was published when it began.
        protocol: Split and settings that the metrics are of.
    """

    def __init__(
        self, file: Location, as_of: datetime, published: str | None, protocol: dict[str, Any]
    ) -> None:
        self.file, self._published = file, published or "nothing"
        self._checks: list[Check] = []
        self.is_written = False
        now = _now()
        self.report = NightReport(
            as_of=as_of.isoformat(),
            created_at=now,
            started_at=now,
            passed=True,
            published_before=published,
            protocol=protocol,
            evaluations=(),
            not_compared=(),
            checks=(),
        )

    def note(self, **fields: Any) -> None:
        """Fill fields of the report."""
        self.report = replace(self.report, **fields)

    def decide(self, subject: str, decided: str, reason: str) -> None:
        """Note a decision, and say it."""
        made = Decision(subject=subject, decided=decided, reason=reason)
        self.note(decisions=(*self.report.decisions, made))
        say(f"nightly: {subject}: {decided}: {reason}")

    def leave_out(self, reasons: Sequence[str]) -> None:
        """Note comparisons that cannot be made, and say so."""
        self.note(not_compared=(*self.report.not_compared, *reasons))
        for reason in reasons:
            say(f"WARNING: nightly: not compared with published run {self._published}: {reason}")

    def require(self, checks: Sequence[Check]) -> None:
        """Note checks; one that failed ends the night, with its report.

        Raises:
            GateError: One of these failed.
        """
        self._checks += checks
        failed = [check for check in checks if not check.passed]
        if failed:
            report = self.write("refused", "; ".join(map(str, failed)))
            raise GateError(
                f"{len(failed)} of {len(self._checks)} checks failed, nothing was published and "
                f"{self._published} stays published ({self.file})"
                + "".join(f"\n  {check}" for check in failed),
                report,
            )

    def write(self, outcome: Outcome, reason: str | None = None) -> dict[str, Any]:
        """Write the report; its JSON object."""
        self.note(
            created_at=_now(),
            outcome=outcome,
            reason=reason,
            passed=all(check.passed for check in self._checks),
            checks=tuple(map(check_record, self._checks)),
        )
        self.is_written = True
        return write_night_report(self.file, self.report)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
