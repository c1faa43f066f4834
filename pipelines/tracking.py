"""Learning curves for TensorBoard: ``tensorboard --logdir ROOT/models`` compares runs.

Needs the ``tracking`` extra; without it nothing is written, and training is the same.
"""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from lightsans.storage import Location


def write_scalars(history: list[dict[str, Any]], directory: Location) -> None:
    """Write the rows of a learning curve as TensorBoard events into ``directory``.

    Args:
        history: `lightsans.learning_curve.EpochRow` objects as dicts.
        directory: Where the event file goes; what it holds is replaced.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter  # seconds to import

    directory.delete()
    with tempfile.TemporaryDirectory(prefix="lightsans-tensorboard-") as path:
        with SummaryWriter(path) as writer:
            for row in history:
                scalars = {"loss": row["loss"], "targets_per_s": row["targets"] / row["train_s"]}
                scalars |= {f"valid/{name}": value for name, value in row["valid"].items()}
                for name, value in scalars.items():
                    writer.add_scalar(name, value, row["epoch"])
        for events in Path(path).iterdir():
            (directory / events.name).write_bytes(events.read_bytes())
