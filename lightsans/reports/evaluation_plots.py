"""The picture of an evaluation: metrics with their 95 % intervals; needs matplotlib, as `plots`."""

from typing import TYPE_CHECKING

from lightsans.ranking.bootstrap import Estimate
from lightsans.reports.evaluation_figures import MODEL, EvaluationFigures
from lightsans.reports.plots import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "ndcg@10"
_MOST_SEGMENTS, _LONGEST_LABEL = 16, 16


def draw_evaluation(found: EvaluationFigures, heading: str) -> bytes:
    """Draw scorers, the model's lead over each baseline, and its segments as a PNG file.

    Args:
        found: The figures.
        heading: Which model, on which dataset.
    """

    def fill(scorers: "Axes", leads: "Axes", segments: "Axes") -> None:
        for shift, split in ((-0.12, "valid"), (0.12, "test")):
            points = [
                Estimate(values[split][METRIC], *found.intervals[name][split][METRIC])
                for name, values in found.metrics.items()
                if values[split]
            ]
            if points:  # lists of somebody else come last, and have none on valid
                _intervals(scorers, list(found.metrics), points, shift, split)
        scorers.set(xlabel=METRIC, title="Scorers, with 95 % intervals")
        if any(found.users.values()):
            scorers.legend()
        paired = {
            f"over {name}": entry["test"][METRIC]
            for name, entry in found.differences.items()
            if entry["test"]
        }
        _intervals(leads, list(paired), list(paired.values()))
        leads.axvline(0, linestyle="--", color="grey")
        leads.set(xlabel=f"difference in test {METRIC}", title="The model's lead, paired")
        parts = {
            f"{_shortened(label)} ({segment.users:,})": segment.scorers[MODEL][METRIC]
            for labels in found.segments.values()
            for label, segment in labels.items()
        }
        names = list(parts)[:_MOST_SEGMENTS]
        _intervals(segments, names, [parts[name] for name in names])
        segments.set(xlabel=f"test {METRIC} of the model", title="Segments (users)")

    heading = f"{heading}: {found.users['test']:,} users on test"
    return picture(fill, panels=3, heading=heading, height=4.4, left=1.6)


def _shortened(label: str) -> str:
    """The beginning of a label that would reach into the next panel; `$` is no formula."""
    shown = label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
    return shown.replace("$", r"\$")


def _intervals(
    axes: "Axes",
    names: list[str],
    points: list[Estimate],
    shift: float = 0.0,
    label: str | None = None,
) -> None:
    """Draw a value with its interval in each row, the first one on top."""
    rows = [place + shift for place in range(len(points))]
    values = [point.value for point in points]
    # A value may lie outside by a rounding error.
    left = [max(0.0, point.value - point.low) for point in points]
    right = [max(0.0, point.high - point.value) for point in points]
    axes.errorbar(values, rows, xerr=[left, right], fmt="o", capsize=3, label=label)
    axes.set_yticks(range(len(names)), names)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
