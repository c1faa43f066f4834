"""Pictures of datasets and runs in one look; needs matplotlib, which is imported when one is drawn.

A drawing function fills axes; `picture` supplies them, with the fonts, sizes and grid that every
picture of the project shares, and returns PNG.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from lightsans.reports.run_figures import DECILES, RunFigures, RunTotals, score_histograms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_WIDTH, HEIGHT, DPI = 5.2, 3.8, 110
"""Inches of a panel, and points an inch."""
LEFT, RIGHT, TOP, BOTTOM, HEADING = 0.75, 0.2, 0.4, 0.75, 0.35
"""Inches around the axes of each panel, and of the line above all panels."""
LOOK: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 10,
    "grid.alpha": 0.3,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
}


def picture(
    fill: "Callable[..., None]",
    *,
    panels: int = 1,
    heading: str | None = None,
    height: float = HEIGHT,
    left: float = LEFT,
) -> bytes:
    """A PNG file of panels side by side.

    Args:
        fill: Takes the axes of the panels, from left to right, and draws.
        panels: Their number.
        heading: A line above all panels.
        height: Inches, without the heading.
        left: Inches left of the axes, for long labels.
    """
    import matplotlib

    with matplotlib.rc_context(LOOK):
        figure = make_figure(fill, panels=panels, heading=heading, height=height, left=left)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI)
    return png.getvalue()


def make_figure(
    fill: "Callable[..., None]",
    *,
    panels: int = 1,
    heading: str | None = None,
    height: float = HEIGHT,
    left: float = LEFT,
) -> "Figure":
    """The figure behind `picture`, to be used inside its look."""
    from matplotlib.figure import Figure  # no pyplot: nothing global

    total = height + (HEADING if heading else 0.0)
    figure = Figure(figsize=(PANEL_WIDTH * panels, total))
    # Fixed places in inches: a layout engine takes longer than the drawing.
    width = 1 / panels
    axes = [
        figure.add_axes(
            (
                (number + left / PANEL_WIDTH) * width,
                BOTTOM / total,
                (1 - (left + RIGHT) / PANEL_WIDTH) * width,
                (height - TOP - BOTTOM) / total,
            )
        )
        for number in range(panels)
    ]
    if heading:
        figure.text(LEFT / PANEL_WIDTH * width, 1 - 0.27 / total, heading, fontsize=10)
    fill(*axes)
    return figure


# ---- a dataset -----------------------------------------------------------------------------------


def draw_dataset(report: Mapping[str, Any]) -> dict[str, bytes]:
    """PNG files of a dataset's report by name: lengths.png, popularity.png and time.png."""
    return {
        "lengths.png": picture(lambda axes: _lengths(axes, report["lengths"])),
        "popularity.png": picture(lambda axes: _popularity(axes, report["popularity"])),
        "time.png": picture(lambda axes: _time(axes, report["time"])),
    }


def _lengths(axes: "Axes", lengths: Mapping[str, Any]) -> None:
    for name, label in (("rows_per_user", "valid rows"), ("sequences", "sequence, after filters")):
        bins: Sequence[Mapping[str, int]] = lengths[name]["histogram"]
        # A wide bin holds many users because it is wide: show users per length.
        middle = [(b["from"] + b["to"]) / 2 for b in bins]
        density = [b["count"] / (b["to"] - b["from"] + 1) for b in bins]
        axes.plot(middle, density, marker=".", label=label)
    axes.set(xscale="symlog", yscale="log", xlabel="interactions of a user")
    axes.set_ylabel("users by length")
    axes.set_title("Users by number of interactions")
    axes.minorticks_off()
    axes.legend()


def _popularity(axes: "Axes", popularity: Mapping[str, Any]) -> None:
    ranks = popularity["count_by_rank"]
    axes.plot([r["rank"] for r in ranks], [r["count"] for r in ranks], marker=".")
    axes.set(xscale="log", yscale="log", xlabel="rank of the item", ylabel="interactions")
    share = popularity["top_1_percent_share"]
    axes.set_title(f"Items by popularity: the top 1 % have {share:.0%} of the interactions")
    axes.minorticks_off()


def _time(axes: "Axes", time: Mapping[str, Any]) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    starts = [datetime.fromisoformat(b["from"]) for b in time["histogram"]]
    axes.step(starts, [b["count"] for b in time["histogram"]], where="post")  # type: ignore[arg-type]
    axes.set(xlabel="time (UTC)", ylabel="valid rows", title="Rows over time")
    for moment in time.get("cutoffs", {}).values():
        axes.axvline(datetime.fromisoformat(moment), linestyle="--", color="grey")  # type: ignore[arg-type]
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


# ---- a run ---------------------------------------------------------------------------------------


def draw_run(run_id: str, described: RunFigures, totals: RunTotals) -> bytes:
    """A PNG file of a run: popularity of what it recommends, scores, how often items come up."""
    shares = {name: described.figures[name] for name in ("fallback_share", "coverage", "overlap")}
    words = [f"run {run_id}: {described.figures['users']:,} users"]
    words += [
        f"{name.replace('_', ' ')} {share:.1%}"
        for name, share in shares.items()
        if share is not None
    ]

    def fill(popularity: "Axes", scores: "Axes", items: "Axes") -> None:
        _run_popularity(popularity, described.popularity)
        _run_scores(scores, totals)
        _run_items(items, totals)

    return picture(fill, panels=3, heading=", ".join(words))


def _run_popularity(axes: "Axes", popularity: Mapping[str, Sequence[float]]) -> None:
    tenths = np.arange(1, DECILES + 1)
    for shift, name in ((-0.2, "recommendations"), (0.2, "interactions")):
        axes.bar(tenths + shift, popularity[name], 0.4, label=name)
    axes.set_xticks(tenths)
    axes.set(xlabel="tenth of the items, most popular first", ylabel="share")
    axes.set_title("Recommendations by popularity")
    axes.legend()


def _run_scores(axes: "Axes", totals: RunTotals) -> None:
    edges, densities = score_histograms(totals.best_scores, totals.all_scores)
    for name, density in zip(("best of a list", "all"), densities, strict=True):
        if density.any():
            axes.stairs(density, edges, label=name)
    axes.set(xlabel="score", ylabel="share of the scores per unit", title="Scores of the model")
    if any(density.any() for density in densities):
        axes.legend()


def _run_items(axes: "Axes", totals: RunTotals) -> None:
    counts = np.sort(totals.item_counts[1:])[::-1]
    counts = counts[counts > 0]
    # At most a thousand points, however many items there are.
    ranks = np.unique(np.geomspace(1, max(1, len(counts)), 1000).astype(int))
    if len(counts):
        axes.loglog(ranks, counts[ranks - 1])
    axes.set(xlabel="rank of the item", ylabel="recommendations")
    axes.set_title("How often items are recommended")


# ---- a search ------------------------------------------------------------------------------------


def draw_history(trials: Sequence[tuple[int, float, str]], metric: str) -> bytes:
    """A PNG file of a search: the score of each trial, and the best so far.

    Args:
        trials: Number, score and status (finished, stopped or running) of each, by number.
        metric: Name of the metric that the scores are.
    """
    colours = {"finished": "tab:blue", "stopped": "tab:grey", "running": "tab:orange"}

    def fill(axes: "Axes") -> None:
        numbers = [number for number, _, _ in trials]
        scores = np.array([score for _, score, _ in trials])
        axes.step(
            numbers,
            np.maximum.accumulate(scores),
            where="post",
            color="tab:red",
            label="best so far",
        )
        for status, colour in colours.items():
            chosen = [(number, score) for number, score, at in trials if at == status]
            places, heights = [number for number, _ in chosen], [score for _, score in chosen]
            axes.scatter(places, heights, s=18, color=colour, label=status)
        axes.locator_params(axis="x", integer=True)
        axes.set(xlabel="trial", ylabel=f"best valid {metric}", title="Trials")
        axes.legend()

    return picture(fill)


def draw_importance(shares: Mapping[str, float], metric: str) -> bytes:
    """A PNG file of what makes trials good: a bar for the share of each setting, largest first."""

    def fill(axes: "Axes") -> None:
        axes.barh(list(shares)[::-1], list(shares.values())[::-1])
        axes.set(xlabel=f"share in {metric} (PED-ANOVA)", title="Importance of the settings")

    longest = max(len(name) for name in shares)
    return picture(fill, height=1.4 + 0.3 * len(shares), left=max(LEFT, 0.25 + 0.075 * longest))
