"""The refit's worth: lists of the judged model and of refits, against what users did next.

    python -m benchmarks.refit --data data/ml-100k.inter [--split temporal] [--cuts .5 .7 .9]

A cut is a night: the log up to a share of its rows. The night's model is trained with held-out
items, its epoch chosen by valid; then `full` (from the start, for so many epochs) and `continue`
(from its weights, for 1, 2 or 4 epochs) are trained on all rows of the night. Each ranks, for every
user with a history, the first item after the cut; seen items are left out, and an item that the
model does not know is a miss. Users of all cuts are pooled; intervals are of a paired bootstrap.
One process, whose processor seconds are told. Items are numbered by their first row, so that the
vocabulary of any moment is a prefix.
"""

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.csv
import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.quality import RECIPES
from lightsans.arrays import Float64, Int64
from lightsans.config import RunConfig
from lightsans.config.file import load_config
from lightsans.dataset.held_out import HeldOut
from lightsans.dataset.sequences import NO_TARGET, Periods, UserSequences
from lightsans.model.network import LightSANs
from lightsans.model.warm_start import warm_weights
from lightsans.ranking.bootstrap import (
    Estimate,
    estimate_differences,
    estimate_means,
    resample,
)
from lightsans.ranking.evaluation import rank_targets, score_by_model
from lightsans.synthetic.logs import generate_log
from lightsans.training.trainer import Trainer
from pipelines.train.identity import continue_config

CONTINUED = (1, 2, 4)
HELD_OUT = (0.9, 0.95)
"""Shares of a night's rows at which a temporal split cuts it."""


class Rows(NamedTuple):
    """A log in order of time."""

    users: Int64
    items: Int64
    """Numbers from 1, by their first row."""


class Night(NamedTuple):
    """The log up to a moment, and what came next."""

    judged: UserSequences
    """The rows with held-out items."""
    judged_items: int
    full: UserSequences
    """The rows with nothing held out."""
    full_items: int
    next: HeldOut
    """The first item of each user after the moment, in the numbers of the whole log."""


class Made(NamedTuple):
    """A trained model."""

    weights: dict[str, Tensor]
    num_items: int
    epochs: int
    cpu_s: float


def load_rows(path: Path | None) -> Rows:
    """An ``.inter`` file; None makes a small log up."""
    if path is None:
        made = generate_log(60, 40, 1_500)
        users, items, times = made.user_ids, made.item_ids, made.timestamps
    else:
        table = pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter="\t"))
        users, items, _, times = (column.to_numpy() for column in table.columns[:4])
    order = np.argsort(times, kind="stable")
    _, first, codes = np.unique(items[order], return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(1, len(first) + 1)
    return Rows(users[order], number[codes])


def sequences_of(rows: Rows) -> tuple[UserSequences, Int64]:
    """The sequences of all users of some rows, and who they are."""
    users, lengths = np.unique(rows.users, return_counts=True)
    order = np.argsort(rows.users, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return UserSequences(rows.items[order].astype(np.int32), offsets), users


def cut(rows: Rows, share: float, split: str) -> Night:
    """The night at a share of the rows."""
    end = int(share * len(rows.users))
    full, users = sequences_of(Rows(rows.users[:end], rows.items[:end]))
    num_items = int(rows.items[:end].max())
    later, first = np.unique(rows.users[end:], return_index=True)
    place = np.searchsorted(users, later)
    is_known = (place < len(users)) & (users[np.minimum(place, len(users) - 1)] == later)
    chosen, targets = place[is_known], rows.items[end:][first[is_known]]
    after = HeldOut(full.item_ids, full.offsets[chosen], full.lengths[chosen], targets, chosen)
    if split == "leave_one_out":
        return Night(full, num_items, full, num_items, after)
    valid, test = (int(part * end) for part in HELD_OUT)
    known = int(rows.items[:valid].max())
    periods = _periods(rows, users, (valid, test, end), known)
    is_trained = periods.train_lengths > 0
    tape = np.repeat(is_trained, full.lengths)
    offsets = np.concatenate([[0], np.cumsum(full.lengths[is_trained])])
    # Items that came later are not in the vocabulary; they lie behind the cut-offs.
    items = np.where(full.item_ids[tape] <= known, full.item_ids[tape], 0)
    columns = (column[is_trained] for column in periods.columns())
    return Night(UserSequences(items, offsets, Periods(*columns)), known, full, num_items, after)


def _periods(rows: Rows, users: Int64, ends: tuple[int, int, int], known: int) -> Periods:
    counts = [
        np.bincount(np.searchsorted(users, rows.users[:e]), minlength=len(users)) for e in ends
    ]
    targets = []
    for begin, end in ((ends[0], ends[1]), (ends[1], ends[2])):
        found, first = np.unique(rows.users[begin:end], return_index=True)
        target = np.full(len(users), NO_TARGET)
        items = rows.items[begin:end][first]
        target[np.searchsorted(users, found)] = np.where(items <= known, items, 0)
        targets.append(target)
    return Periods(counts[0], counts[1], *targets)


def fit(
    config: RunConfig, users: UserSequences, num_items: int, begin: dict[str, Tensor] | None = None
) -> Made:
    """Train until the end; the weights of the best epoch."""
    started = time.process_time()
    trainer = Trainer(config, num_items, {0: users}, torch.device("cpu"), weights=begin)
    best = trainer.weights()
    while not trainer.finished:
        row = trainer.run_epoch()
        if trainer.progress.best_epoch == row.epoch:
            best = copy.deepcopy(trainer.weights())
    seconds = time.process_time() - started
    return Made(best, num_items, trainer.progress.best_epoch, round(seconds, 1))


def model_of(config: RunConfig, made: Made) -> LightSANs:
    """The network with these weights."""
    model = LightSANs(config.model, made.num_items)
    model.load_state_dict(made.weights)
    return model.eval()


def gains(config: RunConfig, made: Made, after: HeldOut) -> Float64:
    """(2, E) hit@10 and ndcg@10 of every user."""
    targets = np.where(after.target_ids <= made.num_items, after.target_ids, 0)
    # What the model does not know leaves the history, as in scoring.
    mapping = np.arange(int(after.item_ids.max()) + 1, dtype=np.int32)
    mapping[made.num_items + 1 :] = 0
    histories = [
        mapping[after.item_ids[start : start + length]]
        for start, length in zip(after.starts, after.lengths, strict=True)
    ]
    kept = [items[items > 0] for items in histories]
    lengths = np.array([len(items) for items in kept])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    known = HeldOut(np.concatenate(kept), starts, lengths, targets, after.users)
    model = model_of(config, made)
    scorer = score_by_model(model, torch.device("cpu"), config.model.max_seq_len)
    has_any = np.flatnonzero(lengths > 0)
    ranks = np.zeros(len(lengths), np.int64)
    ranks[has_any] = rank_targets(
        scorer, known.take(has_any), num_items=made.num_items, remove_seen=True, batch_size=256
    ).ranks
    is_hit = (ranks > 0) & (ranks <= 10)
    return np.stack([is_hit, np.where(is_hit, 1 / np.log2(np.maximum(ranks, 1) + 1), 0)])


def run_night(config: RunConfig, night: Night) -> dict[str, tuple[Made, Float64]]:
    """All models of a night, with the gains of its users."""
    judged = fit(config, night.judged, night.judged_items)
    whole = replace(config, train=replace(config.train, refit_epochs=judged.epochs))
    made = {"judged": judged, "full": fit(whole, night.full, night.full_items)}
    mapping = np.arange(night.full_items + 1, dtype=np.int32)
    mapping[night.judged_items + 1 :] = 0
    source = model_of(config, judged)
    for epochs in CONTINUED:
        begin = warm_weights(source, config.model, night.full_items, mapping, 0, "judged")
        going_on = continue_config(config, "judged", epochs)
        made[f"continue {epochs}"] = fit(going_on, night.full, night.full_items, begin)
    return {name: (each, gains(config, each, night.next)) for name, each in made.items()}


def replicate(values: Float64) -> tuple[Float64, Float64]:
    """Sums of metrics (2, E), each user a group, and their replicates."""
    sums = np.column_stack([np.ones(values.shape[1]), values.T])
    return sums, resample(sums)


def rounded(found: Estimate) -> list[float]:
    """A value and the ends of its interval."""
    return [round(each, 4) for each in (found.value, *found.interval)]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log, no goals")
    parser.add_argument("--data", type=Path, default=Path("data/ml-100k.inter"))
    parser.add_argument("--split", choices=("leave_one_out", "temporal"), default="leave_one_out")
    parser.add_argument("--cuts", nargs="+", type=float, default=[0.5, 0.6, 0.7, 0.8, 0.9])
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="overrides")
    return harness.parse(parser)


def main() -> None:
    """Parse, train every night's models and report."""
    options = parse()
    torch.set_num_threads(1)
    smoke = ["model.max_seq_len=8", "model.hidden_size=8", "model.inner_size=16", "train.epochs=2"]
    recipe = ["train.num_workers=1", "train.virtual_shards=1", *RECIPES["causal"]]
    recipe += ["train.window_stride=4", *smoke] if options.smoke else options.overrides
    config = load_config(None, recipe).config
    rows = load_rows(None if options.smoke else options.data)
    found: dict[str, list[Float64]] = {}
    seconds: dict[str, float] = {}
    for share in options.cuts[:1] if options.smoke else options.cuts:
        for name, (made, values) in run_night(config, cut(rows, share, options.split)).items():
            found.setdefault(name, []).append(values)
            seconds[name] = round(seconds.get(name, 0.0) + made.cpu_s, 1)
            note = {"cut": share, "model": name, "users": values.shape[1], "epochs": made.epochs}
            means = dict(zip(("hit@10", "ndcg@10"), values.mean(1).round(4).tolist(), strict=True))
            print(json.dumps({**note, "cpu_s": made.cpu_s, **means}), flush=True)
    pooled = {n: replicate(np.concatenate(values, axis=1)) for n, values in found.items()}
    judged, cases = estimate_means(*pooled["judged"]), []
    for name, sums in pooled.items():
        leads = estimate_differences(sums, pooled["judged"])
        for number, metric in enumerate(("hit@10", "ndcg@10")):
            shown = rounded(estimate_means(*sums)[number])
            cases.append(
                harness.case(
                    f"{options.split}: {name}, {metric}",
                    ours=shown[0],
                    peer=rounded(judged[number])[0],
                    unit=metric,
                    ratio=None,
                    goal=None,
                    interval=shown[1:],
                    lead_over_judged=rounded(leads[number]),
                    users=len(sums[0]),
                    cpu_s=seconds[name],
                )
            )
            print(json.dumps(cases[-1]), flush=True)
    harness.report(options, "refit", harness.machine("1 thread"), cases, settings=recipe)


if __name__ == "__main__":
    main()
