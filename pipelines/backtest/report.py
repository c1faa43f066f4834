"""Report of a backtest: all nights as JSON and csv, a summary of each policy, a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lightsans.ranking.bootstrap import Estimate
from lightsans.reports.backtest_plots import PolicyCurve, draw_backtest
from lightsans.storage.location import Location
from lightsans.storage.records import to_json
from pipelines.backtest.pooled import NAMES, Estimates, Gains, joined, read_gains
from pipelines.backtest.stage import BacktestNight, BacktestResult, Policy, gains_file
from pipelines.session.process_tree import ProcessFigures

REPORT, NIGHTS, PICTURE = "report.json", "nights.csv", "report.png"
FIRST_HIT = NAMES[0]


def write_report(result: BacktestResult, policies: Sequence[Policy], metric: str) -> dict[str, Any]:
    """Write the report of a backtest; its JSON object.

    Args:
        result: All nights.
        policies: The policies, in order.
        metric: Test metric that nights are compared by.
    """
    nights = {p.name: [n for n in result.nights if n.policy == p.name] for p in policies}
    pooled = {
        policy.name: _read_pooled(result.location / policy.name, policy, nights[policy.name])
        for policy in policies
    }
    content = {
        "metric": metric,
        "policies": {
            policy.name: {
                "settings": list(policy.settings),
                **_costs(nights[policy.name]),
                **pooled[policy.name].figures(pooled[policies[0].name]),
            }
            for policy in policies
        },
        "nights": [to_json(night) for night in result.nights],
    }
    (result.location / REPORT).write_json(content)
    (result.location / NIGHTS).write_bytes(_csv(result.nights, metric).encode())
    curves = [_curve(name, some, metric) for name, some in nights.items()]
    (result.location / PICTURE).write_bytes(draw_backtest(curves, metric, FIRST_HIT))
    return content


def night_rows(nights: Sequence[BacktestNight], metric: str) -> list[list[str]]:
    """A row of texts for each night."""
    return [
        [
            night.date,
            night.policy,
            night.outcome,
            text_of(night.metrics.get(metric)),
            text_of((night.next_metrics or {}).get(FIRST_HIT)),
            f"{night.minutes:.2f}",
            _minutes(night.processor_minutes),
            f"{night.root_bytes / 2**20:,.1f}",
            night.reason.splitlines()[0] if night.reason else "",
        ]
        for night in nights
    ]


HEADER = (
    "night", "policy", "outcome", "test", "next days", "minutes", "processor", "MiB", "reason"
)  # fmt: skip
SUMMARY = ("published", "minutes", "processor", "MiB", "files")
MEASURED = ("lists", "users", *NAMES)


def summary_rows(content: Mapping[str, Any]) -> list[list[str]]:
    """Costs of each policy of a report, a row of texts."""
    return [
        [
            name,
            f"{told['published']} of {told['nights']}",
            f"{told['minutes']:.2f}",
            _minutes(told["processor_minutes"]),
            f"{told['root_bytes'] / 2**20:,.1f}",
            f"{told['root_files']:,}",
        ]
        for name, told in content["policies"].items()
    ]


def measured_rows(content: Mapping[str, Any]) -> list[list[str]]:
    """Metrics of lists until the next night, pooled over all nights; rows of texts."""
    first = next(iter(content["policies"]))
    kinds = (
        ("next_metrics", "published", "next_users"),
        ("lead_over_first", f"published, lead over {first}", "next_users"),
        ("newcomer_metrics", "fallback, of users without history", "next_others"),
        ("judged_metrics", "judged model", "judged_users"),
        ("lead_over_judged", "published, lead over judged model", "judged_users"),
    )
    return [
        [name, shown, f"{told[users]:,}", *(_of_json(told[kind][each]) for each in NAMES)]
        for name, told in content["policies"].items()
        for kind, shown, users in kinds
        if told[kind]
    ]


def text_of(estimate: Estimate | None) -> str:
    """A metric with its interval; empty where there is none."""
    return "" if estimate is None else f"{estimate:.4f}"


def _of_json(estimate: Mapping[str, float]) -> str:
    return text_of(Estimate(**estimate))


def _minutes(found: float | None) -> str:
    return "" if found is None else f"{found:.2f}"


def _costs(nights: Sequence[BacktestNight]) -> dict[str, Any]:
    """Sums over the nights of a policy."""
    processor = [night.processor_minutes for night in nights]
    known = [each for each in processor if each is not None]
    return {
        "nights": len(nights),
        "published": sum(night.outcome == "published" for night in nights),
        "minutes": round(sum(night.minutes for night in nights), 2),
        "processor_minutes": round(sum(known), 2) if known and len(known) == len(nights) else None,
        "stage_minutes": {
            stage: round(sum(night.stage_minutes.get(stage, 0.0) for night in nights), 2)
            for stage in sorted({name for night in nights for name in night.stage_minutes})
        },
        "root_bytes": nights[-1].root_bytes if nights else 0,
        "root_files": nights[-1].root_files if nights else 0,
    }


@dataclass(frozen=True, slots=True)
class _Pooled:
    """Metrics of the users of all nights of a policy."""

    published: Gains
    newcomers: Gains
    judged: Gains
    refits: Gains
    """The published lists of the nights that have lists of a judged model beside them."""

    def figures(self, first: "_Pooled") -> dict[str, Any]:
        """Entries of the report.

        Args:
            first: Metrics of the first policy.
        """
        leads = {} if first is self else self.published.leads(first.published)
        return {
            "next_users": len(self.published),
            "next_others": len(self.newcomers),
            "judged_users": len(self.judged),
            "next_metrics": _to_json(self.published.means()),
            "newcomer_metrics": _to_json(self.newcomers.means()),
            "judged_metrics": _to_json(self.judged.means()),
            "lead_over_first": _to_json(leads),
            "lead_over_judged": _to_json(self.refits.leads(self.judged)),
        }


def _read_pooled(root: Location, policy: Policy, nights: Sequence[BacktestNight]) -> _Pooled:
    dates = [night.date for night in nights if night.next_users is not None]
    gains = [read_gains(gains_file(root, policy.config, date)) for date in dates]

    def pool(name: str, beside: str | None = None) -> Gains:
        return joined([each[name] for each in gains if {name, beside or name} <= each.keys()])

    return _Pooled(
        published=pool("published"),
        newcomers=pool("newcomers"),
        judged=pool("judged"),
        refits=pool("published", "judged"),
    )


def _to_json(estimates: Estimates) -> dict[str, Any]:
    return {name: to_json(estimate) for name, estimate in estimates.items()}


def _csv(nights: Sequence[BacktestNight], metric: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("value", "low", "high")
    shown = [metric, *NAMES]
    costs = ("minutes", "processor_minutes", "root_bytes", "root_files")
    machine = [field.name for field in fields(ProcessFigures)]
    names = ("date", "policy", "outcome", "published", *costs, *machine, "next_users")
    writer.writerow([*names, *(f"{name} {end}" for name in shown for end in ends)])
    for night in nights:
        found = {metric: night.metrics.get(metric), **(night.next_metrics or {})}
        figures = [
            "" if (each := found.get(name)) is None else getattr(each, end)
            for name in shown
            for end in ends
        ]
        plain = (night.date, night.policy, night.outcome, night.published)
        paid = [getattr(night, name) for name in costs]
        seen = [None if night.machine is None else getattr(night.machine, n) for n in machine]
        writer.writerow([*plain, *paid, *seen, night.next_users, *figures])
    return text.getvalue()


def _curve(name: str, nights: Sequence[BacktestNight], metric: str) -> PolicyCurve:
    return PolicyCurve(
        name=name,
        tested=[night.metrics.get(metric) for night in nights],
        next_days=[(night.next_metrics or {}).get(FIRST_HIT) for night in nights],
        minutes=[night.minutes for night in nights],
        published=[night.outcome in ("published", "unchanged") for night in nights],
    )
