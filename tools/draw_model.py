"""Pictures of what a trained model reads: the groups and ages of the items that make its interests.

    python -m tools.draw_model MODEL DATASET --items FILE --group class --out docs

MODEL and DATASET are directories of a root. FILE is an item table, and the column that ``--group``
names has one or more words an item, such as genres. Histories are the newest ones of up to 500
users of the dataset that are as long as the model reads, or of the longest ones.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightsans.config import RunConfig, StorageConfig
from lightsans.dataset.loading import load_shards
from lightsans.dataset.samples import gather
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.lists.tables import open_table
from lightsans.model.kinds import Layout
from lightsans.model.layers import LightAttention
from lightsans.model.network import LightSANs
from lightsans.reading.columns import Wanted
from lightsans.reports.plots import picture
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest

USERS, GROUPS = 500, 14


def pooled_weights(model: LightSANs, item_ids: Tensor, lengths: Tensor) -> list[Tensor]:
    """Share of each item in each interest, (B, L, J), by layer: J are keys' and then values'.

    Args:
        model: A model whose attention masks padding.
        item_ids: (B, L), oldest first, right-padded with 0.
        lengths: (B,)
    """
    found: list[Tensor] = []

    def keep(layer: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        x_BLD, layout = given[0], given[2]
        assert isinstance(layer, LightAttention)
        assert isinstance(layout, Layout)
        found.append(layer.pooling_logits(x_BLD, layout).softmax(dim=1))

    layers = [module for module in model.modules() if isinstance(module, LightAttention)]
    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    try:
        model.encode(item_ids, lengths)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def group_lift(weights: Tensor, item_ids: Tensor, is_in_group: Tensor) -> Tensor:
    """How much more an interest weighs a group than the histories hold of it, (J, G).

    Args:
        weights: (B, L, J), of `pooled_weights`.
        item_ids: (B, L)
        is_in_group: (V, G) float, whether an item belongs to a group.
    """
    members_BLG = is_in_group[item_ids]
    of_interests_JG = torch.einsum("blj,blg->jg", weights, members_BLG) / len(item_ids)
    of_histories_G = members_BLG.sum((0, 1)) / (item_ids > 0).sum()
    return of_interests_JG / of_histories_G.clamp(min=1e-9)


def weight_by_age(weights: Tensor, lengths: Tensor) -> Tensor:
    """Mean share of an item by its age in positions, times the length: 1 is a plain mean, (L, J).

    Args:
        weights: (B, L, J), of `pooled_weights`.
        lengths: (B,), all the same.
    """
    return weights.flip(1).mean(0) * int(lengths[0])


def main() -> None:
    """Draw one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("--items", required=True, help="an item table")
    parser.add_argument("--group", required=True, help="a column of words, such as class")
    parser.add_argument("--separator", default=" ", help="what stands between words (a blank)")
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    model = LightSANs.from_pretrained(options.model)
    item_ids, lengths = _histories(options.dataset, model.config.max_seq_len)
    names, is_in_group = _groups(options, model.num_items)
    by_layer = pooled_weights(model, item_ids, lengths)
    by_age = [weight_by_age(weights, lengths).numpy() for weights in by_layer]
    lift = group_lift(by_layer[0], item_ids, is_in_group).numpy()
    pictures = {
        "model-groups.png": picture(
            lambda *axes: _draw_groups(axes, lift, names), panels=2, height=4.4
        ),
        "model-age.png": picture(lambda *axes: _draw_ages(axes, by_age), panels=len(by_age)),
    }
    for name, png in pictures.items():
        (options.out / name).write_bytes(png)
        print(options.out / name)


def _histories(directory: str, max_seq_len: int) -> tuple[Tensor, Tensor]:
    """Newest items of users, all of one length: (B, L) and (B,)."""
    dataset = locate(directory, StorageConfig())
    manifest = require_manifest(DatasetManifest, dataset, "name a dataset")
    users = load_shards(dataset, manifest, [0], 1)[0]
    length = min(max_seq_len, int(users.lengths.max()))
    chosen = np.flatnonzero(users.lengths >= length)[:USERS]
    starts = users.offsets[1:][chosen] - length
    lengths = np.full(len(chosen), length)
    return torch.from_numpy(gather(users.item_ids, starts, lengths)).long(), torch.from_numpy(
        lengths
    )


def _groups(options: argparse.Namespace, num_items: int) -> tuple[list[str], Tensor]:
    """The largest groups, and which items belong to them, (V, G)."""
    config = RunConfig()
    wanted = {
        "item": Wanted(config.data.columns.item, "data.columns.item"),
        "group": Wanted(options.group, "--group"),
    }
    read = open_table("--items", options.items, config).read(wanted)
    words = {
        item: (text or "").split(options.separator)
        for item, text in zip(read["item"].to_pylist(), read["group"].to_pylist(), strict=True)
    }
    vocabulary = load_vocabulary(locate(options.dataset, StorageConfig()))
    raw_ids = vocabulary.decode(np.arange(1, vocabulary.num_items + 1, dtype=np.int32)).to_pylist()
    found = [words.get(str(raw), []) for raw in raw_ids]
    every = [word for row in found for word in row if word]
    names = sorted(sorted(set(every)), key=every.count, reverse=True)[:GROUPS]
    is_in_group = torch.zeros(num_items + 1, len(names))
    for number, row in enumerate(found, 1):
        for group, name in enumerate(names):
            is_in_group[number, group] = float(name in row)
    return names, is_in_group


def _draw_groups(axes: tuple[Any, ...], lift_JG: Any, names: list[str]) -> None:
    for panel, title, part in zip(axes, ("keys", "values"), np.split(lift_JG, 2), strict=True):
        shown = np.log2(np.maximum(part, 1e-3))
        panel.imshow(shown, aspect="auto", cmap="RdBu_r", vmin=-2, vmax=2)
        panel.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
        panel.set_yticks(range(len(part)), range(1, len(part) + 1))
        panel.set_title(f"interests of the {title}: red weighs more, blue less (1/4 to 4)")
        panel.grid(visible=False)


def _draw_ages(axes: tuple[Any, ...], by_age: list[Any]) -> None:
    for layer, (panel, weight_LJ) in enumerate(zip(axes, by_age, strict=True), 1):
        values_LK = np.split(weight_LJ, 2, axis=1)[1]
        panel.plot(np.arange(1, len(values_LK) + 1), np.maximum(values_LK, 1e-3))
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("age of an item: 1 is the newest")
        panel.set_ylabel("weight, 1 is a plain mean")
        panel.set_title(f"layer {layer}, a line an interest (values)")


if __name__ == "__main__":
    main()
