"""How recbole_tiny.* were made: one epoch of RecBole 1.2.1's LightSANs on a made-up log.

Run in an environment that has recbole 1.2.1 (pandas below 2.3, torch 2.13), in an empty directory.
"""

import shutil
from pathlib import Path

import numpy as np
import torch

# RecBole 1.2.1 uses names that numpy 2 no longer has.
for name, new in {
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
    "bool8": np.bool_,
}.items():
    if not hasattr(np, name):
        setattr(np, name, new)

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.sequential_recommender import LightSANs  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402

SETTINGS = {
    "data_path": "data",
    "checkpoint_dir": "saved",
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    "val_interval": {"rating": "[2,inf)"},
    "eval_args": {
        "split": {"LS": "valid_and_test"},
        "order": "TO",
        "group_by": "user",
        "mode": "full",
    },
    "epochs": 1,
    "train_batch_size": 64,
    "learning_rate": 0.01,
    "loss_type": "CE",
    "train_neg_sample_args": None,
    "MAX_ITEM_LIST_LENGTH": 8,
    "k_interests": 3,
    "hidden_size": 8,
    "inner_size": 12,
    "hidden_dropout_prob": 0.2,
    "initializer_range": 0.3,
}


def write_log(path: Path) -> None:
    """40 users, 28 items rated 2 or better, rows in no order."""
    random = np.random.default_rng(3)
    rows = []
    for user in range(40):
        time = 0
        for _ in range(int(random.integers(5, 14))):
            time += int(random.integers(1, 9))
            item = int(random.zipf(1.4)) % 30
            rows.append((f"u{user}", f"i{item:02d}", int(random.integers(1, 6)), time))
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    lines += ["\t".join(map(str, rows[index])) for index in random.permutation(len(rows))]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    log = Path("data/tiny/tiny.inter")
    log.parent.mkdir(parents=True)
    write_log(log)
    config = Config(model="LightSANs", dataset="tiny", config_dict=SETTINGS)
    init_seed(1, True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = LightSANs(config, train.dataset)
    Trainer(config, model).fit(train, valid, saved=True, show_progress=False)
    model.eval()
    batches = [interaction for interaction, *_ in test]
    with torch.no_grad():
        scores = [model.full_sort_predict(batch).view(len(batch), -1) for batch in batches]
    np.savez_compressed(
        "recbole_tiny.npz",
        item_ids=torch.cat([batch["item_id_list"] for batch in batches]).numpy().astype(np.int32),
        lengths=torch.cat([batch["item_length"] for batch in batches]).numpy().astype(np.int32),
        scores=torch.cat(scores).numpy(),
        tokens=np.array([str(token) for token in dataset.field2id_token["item_id"]]),
    )
    shutil.copy(log, "recbole_tiny.inter")
    shutil.copy(next(Path("saved").glob("*.pth")), "recbole_tiny.pth")


if __name__ == "__main__":
    main()
