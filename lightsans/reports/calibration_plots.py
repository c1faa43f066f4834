"""Picture of a calibration: promised probabilities against what came, by bins."""

from typing import TYPE_CHECKING, Protocol

from lightsans.probability.reliability import Reliability
from lightsans.reports.plots import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Calibrated(Protocol):
    """A temperature with its reliability on test, where there is one."""

    @property
    def temperature(self) -> float | None:
        """Temperature of the softmax."""

    @property
    def first(self) -> Reliability | None:
        """Reliability of the best item of each user."""

    @property
    def listed(self) -> Reliability | None:
        """Reliability of the best items of each user."""


def draw_calibration(found: Calibrated) -> bytes:
    """A PNG file: reliability of first places, and of whole lists."""
    panels = {"First places": found.first, "Lists": found.listed}

    def fill(first: "Axes", listed: "Axes") -> None:
        for axes, (title, reliability) in zip((first, listed), panels.items(), strict=True):
            axes.set(xlabel="probability", ylabel="share that came next", title=title)
            if reliability is None or not reliability.bins:
                continue
            promised = [each.probability for each in reliability.bins]
            came = [each.hit_share for each in reliability.bins]
            least = max(1e-6, min(promised))
            axes.plot([least, 1], [least, 1], linestyle="--", linewidth=1, label="as promised")
            axes.plot(promised, came, marker="o", label="test")
            axes.set_xscale("log")
            axes.set_yscale("symlog", linthresh=least)
            axes.legend()

    temperature = "none" if found.temperature is None else f"{found.temperature:.3f}"
    return picture(fill, panels=2, heading=f"temperature {temperature}")
