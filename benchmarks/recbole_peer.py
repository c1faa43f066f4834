"""RecBole 1.2.1 as a peer: its configuration, data and models, for the benchmarks that need them.

It is installed by `make bench-env` alone, in an environment of its own: it asks for versions of
numpy, pandas and Ray that nothing else here can use. Everything imports it inside functions, so the
benchmarks run without it.
"""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

MISSING = "RecBole is missing: it comes with `make bench-env`, run by .venv-bench/bin/python"
RENAMED = {
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
    "bool8": np.bool_,
}
"""Names that RecBole 1.2.1 uses and numpy 2 no longer has."""


class Log(NamedTuple):
    """A RecBole dataset: its directory, whose name it bears, and what to keep of it."""

    directory: Path
    rating_from: float | None = None
    """Rows with lower ratings are left out; None keeps all."""


class Prepared(NamedTuple):
    """Objects that RecBole makes of a configuration and a log."""

    config: Any
    train: Any
    valid: Any
    test: Any


def is_installed() -> bool:
    """Whether this environment has RecBole."""
    return importlib.util.find_spec("recbole") is not None


def link_log(inter_file: Path, directory: Path) -> Log:
    """An ``.inter`` file where RecBole looks for it: ``directory/NAME/NAME.inter``."""
    target = directory / inter_file.stem / inter_file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to(inter_file.resolve())
    return Log(target.parent)


def prepare(log: Log, model: str, settings: dict[str, Any]) -> Prepared:
    """Configuration and loaders of RecBole's own pipeline, its random numbers seeded.

    The split is that of `pipelines/configs/quickstart.yaml`: rows in order of time, ties in order
    of the file, a user's last interaction for test, the one before for valid; all items ranked,
    seen ones included. They differ for users with three interactions, whom RecBole does not
    validate.

    Args:
        log: The log.
        model: ``LightSANs`` or ``SASRec``.
        settings: Settings of RecBole, over its defaults.
    """
    _restore_numpy_names()
    from recbole.config import Config
    from recbole.data import (
        create_dataset,
        data_preparation,
    )
    from recbole.utils import init_seed

    fixed: dict[str, Any] = {
        "data_path": str(log.directory.parent),
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "eval_args": {
            "split": {"LS": "valid_and_test"},
            "order": "TO",
            "group_by": "user",
            "mode": "full",
        },
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "use_gpu": False,
        "show_progress": False,
        "metrics": ["Hit", "NDCG", "MRR"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 6,
    }
    if log.rating_from is not None:
        fixed["val_interval"] = {"rating": f"[{log.rating_from},inf)"}
    chosen = fixed | settings
    # RecBole reads the command line, too.
    config = Config(model=model, dataset=log.directory.name, config_dict=chosen)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    return Prepared(config, train, valid, test)


def make_model(name: str, settings: dict[str, Any], num_items: int) -> Any:
    """A model of RecBole with its own initial weights, without a log to read.

    Args:
        name: ``LightSANs`` or ``SASRec``.
        settings: Over RecBole's defaults; ``MAX_ITEM_LIST_LENGTH`` gives L.
        num_items: Items without padding.
    """
    _restore_numpy_names()
    from recbole.config import Config
    from recbole.model import sequential_recommender

    class Catalogue:
        def num(self, field: str) -> int:
            return num_items + 1

    with tempfile.TemporaryDirectory() as nowhere:
        fixed = {"data_path": nowhere, "use_gpu": False, "train_neg_sample_args": None}
        config = Config(model=name, dataset="none", config_dict=fixed | settings)
    return getattr(sequential_recommender, name)(config, Catalogue())


def interaction(item_ids_BL: Tensor, lengths_B: Tensor, target_B: Tensor) -> Any:
    """A batch as RecBole's models take it; ids are right-padded with 0."""
    from recbole.data.interaction import Interaction

    return Interaction({"item_id_list": item_ids_BL, "item_length": lengths_B, "item_id": target_B})


def _restore_numpy_names() -> None:
    for name, new in RENAMED.items():
        if not hasattr(np, name):
            setattr(np, name, new)
