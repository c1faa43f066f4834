"""Report of a backtest: all nights as JSON and csv, a summary of each policy, a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from lightsans.ranking.bootstrap import Estimate
from lightsans.reports.backtest_plots import PolicyCurve, draw_backtest
from lightsans.storage.records import to_json
from pipelines.backtest.next_days import NAMES
from pipelines.backtest.stage import BacktestNight, BacktestResult, Policy

REPORT, NIGHTS, PICTURE = "report.json", "nights.csv", "report.png"
FIRST_HIT = NAMES[0]


def write_report(result: BacktestResult, policies: Sequence[Policy], metric: str) -> dict[str, Any]:
    """Write the report of a backtest; its JSON object.

    Args:
        result: All nights.
        policies: The policies, in order.
        metric: Test metric that nights are compared by.
    """
    content = {
        "metric": metric,
        "policies": {
            policy.name: {
                "settings": list(policy.settings),
                **_summary([n for n in result.nights if n.policy == policy.name]),
            }
            for policy in policies
        },
        "nights": [to_json(night) for night in result.nights],
    }
    (result.location / REPORT).write_json(content)
    (result.location / NIGHTS).write_bytes(_csv(result.nights, metric).encode())
    curves = [
        _curve(policy.name, [n for n in result.nights if n.policy == policy.name], metric)
        for policy in policies
    ]
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
            f"{night.root_bytes / 2**20:,.1f}",
            night.reason.splitlines()[0] if night.reason else "",
        ]
        for night in nights
    ]


HEADER = ("night", "policy", "outcome", "test", "next days", "minutes", "MiB", "reason")


SUMMARY = ("published", "minutes", "MiB", "users of next days", *NAMES)


def summary_rows(content: Mapping[str, Any]) -> list[list[str]]:
    """A row of texts for each policy of a report."""
    return [
        [
            name,
            f"{told['published']} of {told['nights']}",
            f"{told['minutes']:.2f}",
            f"{told['root_bytes'] / 2**20:,.1f}",
            f"{told['next_users']:,}",
            *(f"{told['next_means'][each]:.4f}" if told["next_means"] else "" for each in NAMES),
        ]
        for name, told in content["policies"].items()
    ]


def text_of(estimate: Estimate | None) -> str:
    """A metric with its interval; empty where there is none."""
    return "" if estimate is None else f"{estimate:.4f}"


def _summary(nights: Sequence[BacktestNight]) -> dict[str, Any]:
    """Sums over the nights of a policy; means are over the users of all nights together."""
    measured = [night for night in nights if night.next_users]
    users = sum(night.next_users or 0 for night in measured)
    means = {
        name: sum(
            (night.next_metrics or {})[name].value * (night.next_users or 0) for night in measured
        )
        / users
        for name in NAMES
    } if users else {}  # fmt: skip
    return {
        "nights": len(nights),
        "published": sum(night.outcome == "published" for night in nights),
        "minutes": round(sum(night.minutes for night in nights), 2),
        "stage_minutes": {
            stage: round(sum(night.stage_minutes.get(stage, 0.0) for night in nights), 2)
            for stage in sorted({name for night in nights for name in night.stage_minutes})
        },
        "root_bytes": nights[-1].root_bytes if nights else 0,
        "next_users": users,
        "next_others": sum(night.next_others or 0 for night in nights),
        "next_means": means,
    }


def _csv(nights: Sequence[BacktestNight], metric: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("value", "low", "high")
    shown = [metric, *NAMES]
    names = ("date", "policy", "outcome", "published", "minutes", "root_bytes", "next_users")
    writer.writerow([*names, *(f"{name} {end}" for name in shown for end in ends)])
    for night in nights:
        found = {metric: night.metrics.get(metric), **(night.next_metrics or {})}
        figures = [
            "" if (each := found.get(name)) is None else getattr(each, end)
            for name in shown
            for end in ends
        ]
        users = "" if night.next_users is None else night.next_users
        known = (night.date, night.policy, night.outcome, night.published or "", night.minutes)
        writer.writerow([*known, night.root_bytes, users, *figures])
    return text.getvalue()


def _curve(name: str, nights: Sequence[BacktestNight], metric: str) -> PolicyCurve:
    return PolicyCurve(
        name=name,
        tested=[night.metrics.get(metric) for night in nights],
        next_days=[(night.next_metrics or {}).get(FIRST_HIT) for night in nights],
        minutes=[night.minutes for night in nights],
        published=[night.outcome in ("published", "unchanged") for night in nights],
    )
