"""Times as inputs: gaps in classes, each twice as wide as the one before it, and a slow clock.

Times are microseconds, of any origin. The first item that a model reads has no gap, so windows and
whole histories that are cut to the newest items are the same to it.

Shapes: B sequences   L positions
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from lightsans.config import ModelConfig

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
NO_GAP: Final = 0
_BOUNDS: Final = 32
NUM_CLASSES: Final = 2 + _BOUNDS
"""No gap; less than a second; then from 1, 2, 4, ... 2**31 seconds on."""


def classes_of(gaps: Tensor) -> Tensor:
    """Class of each gap in microseconds, in the same shape; a negative one counts as none at all.

    Whole numbers are compared, so no rounding can tell two machines apart.
    """
    bounds = 2 ** torch.arange(_BOUNDS, device=gaps.device)
    seconds = gaps.clamp(min=0) // SECOND
    return 1 + torch.bucketize(seconds, bounds, right=True)


def gaps_before(timestamps_BL: Tensor) -> Tensor:
    """Class of the gap before each item, (B, L); the first has none."""
    classes = classes_of(timestamps_BL[:, 1:] - timestamps_BL[:, :-1])
    return functional.pad(classes, (1, 0), value=NO_GAP)


def clock_of(timestamps_BL: Tensor) -> Tensor:
    """Time of a slow clock at each item, (B, L) float32, 0 at the first.

    An item later it shows 1 + log(1 + minutes between) more: 1 within a visit, 8 after a day. It
    stays small, where minutes times a rate would be more than float32 can tell apart, and its
    differences do not depend on where a history begins.
    """
    minutes = (timestamps_BL[:, 1:] - timestamps_BL[:, :-1]).clamp(min=0).float() / MINUTE
    return functional.pad((1 + minutes.log1p()).cumsum(dim=1), (1, 0))


def gaps_to_request(now: Tensor, timestamps_BL: Tensor, newest_B: Tensor) -> Tensor:
    """Class of the gap from the newest item to the moment of the request, (B, Q).

    Args:
        now: (B,) one moment for each sequence, or (B, L), one for each prefix.
        timestamps_BL: Times of the items.
        newest_B: Position of each sequence's newest item.
    """
    if now.ndim == 1:
        timestamps_BL = timestamps_BL.gather(1, newest_B.unsqueeze(1))
        now = now.unsqueeze(1)
    return classes_of(now - timestamps_BL)


def check_times(
    timestamps: Tensor | None,
    now: Tensor | None,
    item_ids_BL: Tensor,
    config: ModelConfig,
    *,
    every_position: bool = False,
) -> None:
    """Return only if a model is given the times that it reads, and no others.

    Args:
        timestamps: Times of the items.
        now: Moments of the requests.
        item_ids_BL: The items.
        config: Settings of the model.
        every_position: Whether every prefix may have a request of its own.

    Raises:
        ValueError: The message says what to give, or to leave out.
    """
    if not config.reads_times and timestamps is None and now is None:
        return
    setting = "interest_decay" if config.fades_by_time and not config.reads_gaps else "gaps"
    reader = f"a model with {setting}={getattr(config, setting)!r}"
    shape = tuple(item_ids_BL.shape)
    wanted = {"timestamps": config.reads_times, "now": config.reads_now}
    meaning = {
        "timestamps": f"{shape} int64, the time of each item in microseconds, oldest first",
        "now": f"({shape[0]},) int64, the time of each request in microseconds",
    }
    for name, value in (("timestamps", timestamps), ("now", now)):
        if wanted[name] and value is None:
            raise ValueError(
                f"{reader} reads times and was given no {name}; give {name}, {meaning[name]}"
            )
        if not wanted[name] and value is not None:
            raise ValueError(
                f"{reader} does not read {name}; leave it out, or train one with "
                f"model.gaps={'request' if name == 'now' else 'input'}"
            )
    shapes = {"timestamps": [shape], "now": [shape[:1], shape] if every_position else [shape[:1]]}
    for name, value in (("timestamps", timestamps), ("now", now)):
        if value is None:
            continue
        if tuple(value.shape) not in shapes[name] or value.dtype != torch.int64:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)} and type {value.dtype}; expected "
                f"{meaning[name]}"
            )


def check_order(timestamps_BW: Tensor, lengths_B: Tensor, now_B: Tensor | None) -> None:
    """Return only if no time of a history falls, and no request comes before its newest item.

    Raises:
        ValueError: The message names the first row that is wrong.
    """
    W = timestamps_BW.shape[1]
    is_item_BW = torch.arange(W, device=timestamps_BW.device) < lengths_B.unsqueeze(1)
    falls_BW = (timestamps_BW[:, 1:] < timestamps_BW[:, :-1]) & is_item_BW[:, 1:]
    if bool(falls_BW.any()):
        row = int(falls_BW.any(dim=1).nonzero()[0])
        raise ValueError(
            f"timestamps of row {row} fall; put items and times oldest first, and pad on the right"
        )
    if now_B is None or W == 0:
        return
    newest_B1 = (lengths_B.long() - 1).clamp(min=0).unsqueeze(1)
    is_early_B = (now_B < timestamps_BW.gather(1, newest_B1).squeeze(1)) & (lengths_B > 0)
    if bool(is_early_B.any()):
        row = int(is_early_B.nonzero()[0])
        raise ValueError(
            f"now of row {row} is before its newest item; both are microseconds since the same "
            "moment, and items after the request are unknown to it: leave them out"
        )
