"""Differences of `reference` and `masked`, one by one: each alone, and all together.

    make bench NAME=reference_parts ARGS="[--smoke] [--json] [--data data/ml-100k.inter]
        [--variants reference mask …] [--seeds 2020 …] [--lines FILE] [--set NAME=VALUE …]"

RecBole's released code lets padding take part in attention, spreads the weights of interests and of
positions over the positions that read, not over what is read, and trains padding's item vector,
which it reads and ranks. The paper, our `masked`, does none of it. The variants between the two are
of use for this comparison alone, so they live here. Everything else, loss and optimizer included,
is the same for all. Recipe and clock as in `benchmarks/quality.py`; valid chooses the epoch.

Shapes: as in `lightsans.model.attention`
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.movielens import SMOKE, Log, load_log, smoke_log
from benchmarks.quality import METRIC, make_config
from benchmarks.training import Trained, finish
from lightsans.config import RunConfig
from lightsans.model.attention import Positions, Unmapped, masked_logits, take_positions
from lightsans.model.causal import Dropout
from lightsans.model.kinds import AttentionCode, Layout
from lightsans.model.layers import EncoderLayer, LightAttention
from lightsans.model.network import LightSANs
from lightsans.training.trainer import Trainer


class Parts(NamedTuple):
    """Parts of the paper that a variant has; the released code has none of them."""

    masks: bool = False
    """Padding takes no part in attention."""
    by_interest: bool = False
    """Weights of a position are a softmax over what it reads, interests and positions."""
    zero_row: bool = False
    """Padding's item vector is zero, is not trained and not ranked."""


VARIANTS = {
    "reference": Parts(),
    "mask": Parts(masks=True),
    "softmax": Parts(by_interest=True),
    "zero-row": Parts(zero_row=True),
    "all-but-mask": Parts(by_interest=True, zero_row=True),
    "all-but-softmax": Parts(masks=True, zero_row=True),
    "all-but-zero-row": Parts(masks=True, by_interest=True),
    "masked": Parts(masks=True, by_interest=True, zero_row=True),
}


def every_position(parts: Parts, x: Unmapped, layout: Layout, dropout: Dropout) -> Tensor:
    """Context of every position, (B, L, D), written for clearness rather than speed."""
    q, k, v = (maps.by_head(x.x).transpose(1, 2) for maps in (x.query, x.key, x.value))
    key_weights, value_weights = x.logits.softmax(dim=1).chunk(2, dim=-1)
    keys, values = (
        weights_BLK.transpose(1, 2).unsqueeze(1) @ of_items
        for weights_BLK, of_items in ((key_weights, k), (value_weights, v))
    )
    scores_BNLK = q @ keys.transpose(-1, -2) / q.shape[-1] ** 0.5
    assert isinstance(x.positions, Positions)
    (logits_NLL,) = x.positions.matrix
    logits_BNLL = logits_NLL.expand(len(q), -1, -1, -1)
    readers_B1L1, read_B11L = layout.is_item[:, None, :, None], layout.is_item[:, None, None, :]
    if parts.masks and parts.by_interest:
        logits_BNLL = logits_BNLL.masked_fill(~read_B11L, -torch.inf)
    elif parts.masks:  # nor may padding have a share of what is spread over the readers
        scores_BNLK = scores_BNLK.masked_fill(~readers_B1L1, -torch.inf)
        logits_BNLL = logits_BNLL.masked_fill(~readers_B1L1, -torch.inf)
    axis = -1 if parts.by_interest else 2
    probs_BNLK, weights_BNLL = scores_BNLK.softmax(dim=axis), logits_BNLL.softmax(dim=axis)
    if parts.masks and not parts.by_interest:
        weights_BNLL = weights_BNLL.masked_fill(~read_B11L, 0.0)
    context_BNLH = dropout(probs_BNLK) @ values + weights_BNLL @ v
    return context_BNLH.transpose(1, 2).flatten(2)


def newest(parts: Parts, x: Unmapped, layout: Layout, dropout: Dropout) -> Tensor:
    """The same at the newest item alone, (B, 1, D)."""
    return take_positions(every_position(parts, x, layout, dropout), layout.newest).unsqueeze(1)


def change(model: LightSANs, parts: Parts) -> None:
    """Let the layers of a new model compute a variant."""
    code = AttentionCode(
        partial(every_position, parts), partial(newest, parts), masked_logits, True
    )
    model._masks_padding = parts.masks and parts.zero_row
    for layer in model.layers:
        assert isinstance(layer, EncoderLayer)
        attention: LightAttention = layer.attention
        attention._code, attention._masks_padding = code, parts.masks


def configure(parts: Parts, seed: int, overrides: list[str]) -> RunConfig:
    """The recipe of both kinds; ``masked`` brings a row of zeros that is not ranked."""
    return make_config("masked" if parts.zero_row else "reference", seed, overrides)


def train_variant(
    log: Log, parts: Parts, seed: int, minutes: float, overrides: list[str]
) -> Trained:
    """Train one variant and test the epoch that valid chooses."""
    config = configure(parts, seed, overrides)
    trainer = Trainer(config, log.num_items, {0: log.users}, torch.device("cpu"))
    change(trainer.model, parts)
    if trainer.model is not (kept := trainer._step.kept):
        change(kept, parts)
    return finish(trainer, log, config, minutes, "cpu")


def describe(name: str, seed: int, run: Trained) -> dict[str, Any]:
    """A line of a finished run."""
    return {
        "variant": name,
        "seed": seed,
        "best_epoch": run.best_epoch,
        "cpu_minutes": round(run.seconds[-1] / 60, 1),
        "valid": round(run.best.valid[METRIC], 5),
        "test": {metric: round(run.test[metric], 5) for metric in ("hit@10", METRIC)},
        "curve": [round(row.valid[METRIC], 4) for row in run.curve],
    }


def table(runs: list[dict[str, Any]]) -> list[str]:
    """A line for each variant, means over its seeds, in the order of `VARIANTS`."""
    lines = ["| variant | seeds | valid ndcg@10 | test hit@10 | test ndcg@10 | minutes |"]
    lines.append("|---|---|---|---|---|---|")
    for name in VARIANTS:
        own = [run for run in runs if run["variant"] == name]
        if own:
            figures = [
                statistics.mean(values)
                for values in (
                    [run["valid"] for run in own],
                    [run["test"]["hit@10"] for run in own],
                    [run["test"][METRIC] for run in own],
                )
            ]
            cost = statistics.mean(run["cpu_minutes"] for run in own)
            shown = " | ".join(f"{figure:.4f}" for figure in figures)
            lines.append(f"| {name} | {len(own)} | {shown} | {cost:.1f} |")
    return lines


def parse() -> argparse.Namespace:
    """The command line."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log, no goals")
    parser.add_argument("--data", type=Path, default=Path("data/ml-100k.inter"))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020])
    parser.add_argument("--minutes", type=float, default=30.0, help="limit of each run")
    parser.add_argument("--lines", type=Path, help="finished runs, a line each; not run again")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="overrides")
    return harness.parse(parser)


def main() -> None:
    """Train what is not there yet, and print the table."""
    options = parse()
    torch.set_num_threads(1)
    log = smoke_log() if options.smoke else load_log(options.data)
    overrides = list(SMOKE) if options.smoke else options.overrides
    runs: list[dict[str, Any]] = []
    if options.lines is not None and options.lines.exists():
        runs = [json.loads(line) for line in options.lines.read_text().splitlines()]
    done = {(run["variant"], run["seed"]) for run in runs}
    for seed in options.seeds:
        for name in options.variants:
            if (name, seed) in done:
                continue
            print(f"{name}, seed {seed}", flush=True)
            run = train_variant(log, VARIANTS[name], seed, options.minutes, overrides)
            runs.append(describe(name, seed, run))
            if options.lines is not None:
                with options.lines.open("a") as lines:
                    lines.write(json.dumps(runs[-1]) + "\n")
    print("\n".join(table(runs)))
    where = harness.machine("1 thread")
    harness.report(options, "reference_parts", where, [], runs=runs, settings=overrides)


if __name__ == "__main__":
    main()
