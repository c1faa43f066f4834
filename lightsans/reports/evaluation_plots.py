"""The picture of an evaluation: metrics with their 95 % intervals; needs matplotlib, as `plots`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightsans.reports.plots import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "ndcg@10"
_MOST_SEGMENTS = 16


def draw_evaluation(found: Mapping[str, Any], heading: str) -> bytes:
    """Draw scorers, the model's lead over each baseline, and its segments as a PNG file.

    Args:
        found: Figures by `describe_evaluation`.
        heading: Which model, on which dataset.
    """
    metrics, intervals = found["metrics"], found["intervals"]

    def fill(scorers: "Axes", leads: "Axes", segments: "Axes") -> None:
        for shift, split in ((-0.12, "valid"), (0.12, "test")):
            points = [
                (values[split][METRIC], *intervals[name][split][METRIC])
                for name, values in metrics.items()
                if values[split]
            ]
            if points:
                _intervals(scorers, list(metrics), points, shift, split)
        scorers.set(xlabel=METRIC, title="Scorers, with 95 % intervals")
        if any(found["users"].values()):
            scorers.legend()
        paired = {
            f"over {name}": tuple(entry["test"][METRIC].values())
            for name, entry in found["differences"].items()
            if entry["test"]
        }
        _intervals(leads, list(paired), list(paired.values()))
        leads.axvline(0, linestyle="--", color="grey")
        leads.set(xlabel=f"difference in test {METRIC}", title="The model's lead, paired")
        parts = {
            f"{label} ({entry['users']:,})": tuple(entry["model"][METRIC].values())
            for labels in found["segments"].values()
            for label, entry in labels.items()
        }
        names = list(parts)[:_MOST_SEGMENTS]
        _intervals(segments, names, [parts[name] for name in names])
        segments.set(xlabel=f"test {METRIC} of the model", title="Segments (users)")

    users = found["users"]
    heading = f"{heading}: {users['test']:,} users on test"
    return picture(fill, panels=3, heading=heading, height=4.4, left=1.6)


def _intervals(
    axes: "Axes",
    names: list[str],
    points: list[tuple[float, ...]],
    shift: float = 0.0,
    label: str | None = None,
) -> None:
    """Draw a value with its interval in each row, the first one on top."""
    rows = [place + shift for place in range(len(names))]
    values = [value for value, _, _ in points]
    # A value may lie outside by a rounding error.
    left = [max(0.0, value - low) for value, low, _ in points]
    right = [max(0.0, high - value) for value, _, high in points]
    axes.errorbar(values, rows, xerr=[left, right], fmt="o", capsize=3, label=label)
    axes.set_yticks(range(len(names)), names)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
