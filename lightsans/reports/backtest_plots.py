"""The picture of a backtest: metrics and costs of the nights, a line for each policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightsans.ranking.bootstrap import Estimate
from lightsans.reports.plots import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyCurve:
    """The nights of one policy, in order."""

    name: str
    tested: Sequence[Estimate | None]
    """Test metric of each night's model."""
    next_days: Sequence[Estimate | None]
    """Metric of the published lists by what users did next."""
    minutes: Sequence[float]
    published: Sequence[bool]
    """Whether the night moved what is published."""


def draw_backtest(curves: Sequence[PolicyCurve], tested: str, next_days: str) -> bytes:
    """A PNG file of a backtest: test metric, next days, minutes so far.

    Args:
        curves: A curve for each policy.
        tested: Name of the test metric.
        next_days: Name of the metric of the next days.
    """

    def fill(left: "Axes", middle: "Axes", right: "Axes") -> None:
        for curve in curves:
            _line(left, curve.name, curve.tested)
            refused = [n for n, is_published in enumerate(curve.published) if not is_published]
            values = [curve.tested[n] for n in refused]
            known = [(n, v.value) for n, v in zip(refused, values, strict=True) if v is not None]
            left.plot([n for n, _ in known], [v for _, v in known], "x", color="tab:red")
            _line(middle, curve.name, curve.next_days)
            total, sums = 0.0, []
            for minutes in curve.minutes:
                total += minutes
                sums.append(total)
            right.plot(sums, label=curve.name)
        left.set(title=f"Test {tested} (x: not published)", xlabel="night")
        middle.set(title=f"Published lists: {next_days}", xlabel="night")
        right.set(title="Minutes so far", xlabel="night")
        for axes in (left, middle, right):
            axes.locator_params(axis="x", integer=True)
            axes.legend(loc="upper left")

    return picture(fill, panels=3)


def _line(axes: "Axes", name: str, estimates: Sequence[Estimate | None]) -> None:
    known: Mapping[int, Estimate] = {n: e for n, e in enumerate(estimates) if e is not None}
    places, values = list(known), [estimate.value for estimate in known.values()]
    [line] = axes.plot(places, values, marker=".", label=name)
    low, high = [e.low for e in known.values()], [e.high for e in known.values()]
    axes.fill_between(places, low, high, alpha=0.15, color=line.get_color())
