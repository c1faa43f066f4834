"""A data report as pictures; needs matplotlib."""

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_SIZE, _DPI = (7.0, 4.0), 100
_AXES = (0.12, 0.2, 0.85, 0.7)
"""Left, bottom, width and height, as shares of the picture."""


def draw_report(report: Mapping[str, Any]) -> dict[str, bytes]:
    """PNG files by name: lengths.png, popularity.png and time.png."""
    return {
        "lengths.png": _draw(lambda axes: _lengths(axes, report["lengths"])),
        "popularity.png": _draw(lambda axes: _popularity(axes, report["popularity"])),
        "time.png": _draw(lambda axes: _time(axes, report["time"])),
    }


def _draw(fill: Any) -> bytes:
    figure = Figure(figsize=_SIZE, dpi=_DPI)  # no pyplot: nothing global
    axes = figure.add_axes(_AXES)  # a fixed place: a layout engine takes longer than the drawing
    fill(axes)
    axes.minorticks_off()
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _lengths(axes: Axes, lengths: Mapping[str, Any]) -> None:
    for name, label in (("rows_per_user", "valid rows"), ("sequences", "sequence, after filters")):
        bins: Sequence[Mapping[str, int]] = lengths[name]["histogram"]
        # A wide bin holds many users because it is wide: show users per length.
        middle = [(b["from"] + b["to"]) / 2 for b in bins]
        density = [b["count"] / (b["to"] - b["from"] + 1) for b in bins]
        axes.plot(middle, density, marker=".", label=label)
    axes.set(xscale="symlog", yscale="log", xlabel="interactions of a user", ylabel="users")
    axes.set_title("Users by number of interactions")
    axes.legend()


def _popularity(axes: Axes, popularity: Mapping[str, Any]) -> None:
    ranks = popularity["count_by_rank"]
    axes.plot([r["rank"] for r in ranks], [r["count"] for r in ranks], marker=".")
    axes.set(xscale="log", yscale="log", xlabel="rank of the item", ylabel="interactions")
    share = popularity["top_1_percent_share"]
    axes.set_title(f"Items by popularity: the top 1 % have {share:.0%} of the interactions")


def _time(axes: Axes, time: Mapping[str, Any]) -> None:
    starts = [datetime.fromisoformat(b["from"]) for b in time["histogram"]]
    axes.step(starts, [b["count"] for b in time["histogram"]], where="post")  # type: ignore[arg-type]
    axes.set(xlabel="time (UTC)", ylabel="valid rows", title="Rows over time")
    for moment in time.get("cutoffs", {}).values():
        axes.axvline(datetime.fromisoformat(moment), linestyle="--", color="grey")  # type: ignore[arg-type]
    axes.tick_params(axis="x", rotation=30)
