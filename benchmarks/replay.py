"""Policies of training over 30 nights, by what users did the next day: nightly, weekly, refits.

    python -m benchmarks.replay --log ml-1m --data data/ml-1m.inter --work WORK
    python -m benchmarks.replay --log completejourney --data transactions.parquet --work WORK

What `submit.py backtest` does with real nights, this does in one process and without files, so that
30 nights of every policy take minutes of a processor. Each night has the log up to its date:

- ``nightly``: the judged model is trained from scratch (leave-one-out), its refit on everything;
- ``nightly, judged`` and ``nightly, continue``: lists of the judged model itself, and of one that
  goes on from it for an epoch on everything (``nightly.refit``: none, continue);
- ``nightly, judged by time``: the judged model of a temporal split, which has learnt the first nine
  tenths of the rows and knows no item that came later;
- ``weekly``: the refit of every seventh night is kept for the next six;
- ``weekly, warm``: so, too, but training begins with the judged model of the week before;
- ``popular`` and ``popular, 7 days``, without training.

Lists of ten for the users who come the next day and have a history are measured by their first item
of that day, and by any. Users without one get the popular items and are told apart. Users of all
nights are pooled; intervals are of a bootstrap over users, leads are paired. Interrupted, the same
command goes on after the last night that ended.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.refit import HELD_OUT, Made, fit, model_of, sequences_of
from benchmarks.replay_logs import (
    DAY,
    SOURCES,
    Day,
    Log,
    Source,
    first_moment,
    load_log,
    made_up_log,
    next_day,
    until,
)
from lightsans.arrays import Int64
from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.columns.segments import expand
from lightsans.config import RunConfig
from lightsans.config.file import load_config
from lightsans.dataset.sequences import UserSequences
from lightsans.model.network import LightSANs
from lightsans.model.warm_start import warm_weights
from pipelines.backtest.next_days import score
from pipelines.backtest.pooled import AT, NAMES, Gains, joined
from pipelines.train.identity import continue_config

WEEK = 7
BY_TIME = "nightly, judged by time"
RECIPE = (
    "model.attention=causal", "model.max_seq_len=50", "model.hidden_size=32", "model.n_layers=1",
    "model.inner_size=64", "model.n_heads=1", "model.k_interests=10",
    "model.hidden_dropout_prob=0.2", "model.attn_dropout_prob=0.2", "train.num_workers=1",
    "train.virtual_shards=1", "train.batch_size=32", "train.window_stride=50",
    "train.learning_rate=4e-3", "train.schedule=cosine", "train.patience=0",
)  # fmt: skip
SMOKE = (
    "model.max_seq_len=8",
    "model.hidden_size=8",
    "model.inner_size=16",
    "train.window_stride=4",
)


def newest(users: UserSequences, most: int) -> UserSequences:
    """Sequences of the newest items."""
    owner, rank = expand(users.lengths)
    is_kept = rank >= users.lengths[owner] - most
    offsets = np.concatenate([[0], np.cumsum(np.minimum(users.lengths, most))])
    return UserSequences(users.item_ids[is_kept], offsets)


def train_pair(
    config: RunConfig, users: UserSequences, num_items: int, begin: Made | None
) -> tuple[Made, Made]:
    """The judged model and its refit, from scratch or both from an earlier judged model."""
    weights = None if begin is None else grown(config, begin, num_items)
    judged = fit(config, users, num_items, weights)
    whole = replace(config, train=replace(config.train, refit_epochs=judged.epochs))
    return judged, fit(whole, users, num_items, weights)


def grown(config: RunConfig, made: Made, num_items: int) -> dict[str, torch.Tensor]:
    """Weights of a model, with new rows for items that it does not know."""
    mapping = np.arange(num_items + 1, dtype=np.int32)
    mapping[made.num_items + 1 :] = 0
    return warm_weights(model_of(config, made), config.model, num_items, mapping, 0, "before")


def lists_of(
    model: LightSANs, num_items: int, histories: list[Int64], remove_seen: bool
) -> list[list[str]]:
    """The model's lists; items that it does not know leave the histories, as in scoring."""
    known = [history[history <= num_items] for history in histories]
    lengths = torch.tensor([len(history) for history in known])
    table = torch.zeros(len(known), int(lengths.max()), dtype=torch.int64)
    for row, history in enumerate(known):
        table[row, : len(history)] = torch.from_numpy(history)
    items = model.recommend(table, lengths, AT, remove_seen).item_ids
    return [[str(item) for item in row if item] for row in items.tolist()]


def popular_lists(counts: Int64, histories: list[Int64], remove_seen: bool) -> list[list[str]]:
    """The most frequent items; of equally frequent ones the first that were known."""
    order = np.argsort(-counts, kind="stable")
    found = []
    for history in histories:
        seen = set(history.tolist()) if remove_seen else set()
        listed = (int(item) for item in order if item and item not in seen)
        found.append([str(item) for item, _ in zip(listed, range(AT), strict=False)])
    return found


def measure(day: Day, lists: list[list[str]], chosen: Int64, all_users: Int64) -> Gains:
    """Metrics of some users of a day; a user's days lie in one group of the bootstrap."""
    values = [score(listed, day.items[n]) for listed, n in zip(lists, chosen, strict=True)]
    groups = np.searchsorted(all_users, day.users[chosen]) % NUM_BUCKETS
    return Gains(groups.astype(np.int64), np.array(values).reshape(-1, len(NAMES)))


class Replay:
    """Nights in order; what later nights need of earlier ones, and what was measured."""

    def __init__(self, config: RunConfig, log: Log, source: Source) -> None:
        self._config, self._log, self._source = config, log, source
        self._all_users = np.unique(log.rows.users)
        self._first = first_moment(source)
        self.kept: dict[str, Made] = {}
        self.gains: dict[str, list[Gains]] = {}
        self.seconds: dict[str, list[float]] = {}
        self.nights = 0

    def run_night(self) -> None:
        """Train what each policy trains tonight, and measure its lists by the next day."""
        moment = self._first + DAY * self.nights
        rows, num_items, end = until(self._log, moment)
        sequences, users = sequences_of(rows)
        models = self._train(newest(sequences, self._source.newest), num_items)
        models[BY_TIME] = self._judged_by_time(end, models["nightly"].epochs)
        day = next_day(self._log, moment)
        place = np.searchsorted(users, day.users)
        has_history = users[np.minimum(place, len(users) - 1)] == day.users
        known, new = np.flatnonzero(has_history), np.flatnonzero(~has_history)
        histories = [
            sequences.item_ids[sequences.offsets[n] : sequences.offsets[n + 1]].astype(np.int64)
            for n in place[known]
        ]
        remove = self._source.remove_seen
        counts = np.bincount(rows.items, minlength=num_items + 1)
        week = int(np.searchsorted(self._log.times, moment - WEEK * DAY))
        late = self._log.rows.items[week:end]
        recent = np.bincount(late[(late > 0) & (late <= num_items)], minlength=num_items + 1)
        lists = {
            name: lists_of(model_of(self._config, made), made.num_items, histories, remove)
            for name, made in models.items()
        }
        lists["popular"] = popular_lists(counts, histories, remove)
        lists["popular, 7 days"] = popular_lists(recent, histories, remove)
        for name, found in lists.items():
            made = measure(day, found, known, self._all_users)
            self.gains.setdefault(name, []).append(made)
        fallback = popular_lists(counts, [np.zeros(0, np.int64)] * len(new), remove)
        newcomers = measure(day, fallback, new, self._all_users)
        self.gains.setdefault("newcomers: popular", []).append(newcomers)
        self.nights += 1

    def _train(self, users: UserSequences, num_items: int) -> dict[str, Made]:
        config, is_week = self._config, self.nights % WEEK == 0
        judged, full = train_pair(config, users, num_items, None)
        going_on = continue_config(config, "judged", 1)
        more = fit(going_on, users, num_items, grown(config, judged, num_items))
        self._spend("nightly", judged, full)
        self._spend("nightly, judged", judged)
        self._spend("nightly, continue", judged, more)
        if is_week:
            # From scratch, tonight's models are those of `nightly`.
            self.kept["weekly"] = full
            self._spend("weekly", judged, full)
            before = self.kept.get("warm, judged")
            warm = (
                (judged, full) if before is None else train_pair(config, users, num_items, before)
            )
            self._spend("weekly, warm", *warm)
            self.kept["warm, judged"], self.kept["weekly, warm"] = warm
        return {
            "nightly": full,
            "nightly, judged": judged,
            "nightly, continue": more,
            "weekly": self.kept["weekly"],
            "weekly, warm": self.kept["weekly, warm"],
        }

    def _judged_by_time(self, end: int, epochs: int) -> Made:
        """The model of the rows before the cut-off of valid, as a temporal split has it."""
        cut_off = float(self._log.times[int(HELD_OUT[0] * end)])
        rows, num_items, _ = until(self._log, cut_off)
        users = newest(sequences_of(rows)[0], self._source.newest)
        whole = replace(self._config, train=replace(self._config.train, refit_epochs=epochs))
        made = fit(whole, users, num_items)
        self._spend(BY_TIME, made)
        return made

    def _spend(self, name: str, *made: Made) -> None:
        self.seconds.setdefault(name, []).extend(each.cpu_s for each in made)

    def save(self, file: Path) -> None:
        """Write all that goes on from here."""
        state = {
            "nights": self.nights,
            "seconds": self.seconds,
            "kept": {name: made._asdict() for name, made in self.kept.items()},
            "gains": {
                name: [(each.buckets, each.values) for each in nights]
                for name, nights in self.gains.items()
            },
        }
        aside = file.with_suffix(".aside")
        torch.save(state, aside)
        os.replace(aside, file)

    def load(self, file: Path) -> None:
        """Go on from what `save` wrote."""
        state = torch.load(file, weights_only=False)  # this benchmark's own file
        self.nights, self.seconds = state["nights"], state["seconds"]
        self.kept = {name: Made(**made) for name, made in state["kept"].items()}
        self.gains = {
            name: [Gains(*each) for each in nights] for name, nights in state["gains"].items()
        }


def cases_of(replay: Replay, log: str) -> list[dict[str, Any]]:
    """A case for each policy and metric, with its lead over `nightly`."""
    cases, first = [], joined(replay.gains["nightly"])
    for name, nights in replay.gains.items():
        pooled, seconds = joined(nights), replay.seconds.get(name, [])
        leads = {} if pooled is first else pooled.leads(first)
        for metric, found in pooled.means().items():
            lead = leads.get(metric)
            cases.append(
                harness.case(
                    f"{log}: {name}, {metric}",
                    ours=round(found.value, 4),
                    peer=round(first.means()[metric].value, 4),
                    unit=metric,
                    ratio=None,
                    goal=None,
                    interval=[round(each, 4) for each in found.interval],
                    lead_over_nightly=lead
                    and [round(each, 4) for each in (lead.value, *lead.interval)],
                    users=len(pooled),
                    trainings=len(seconds),
                    processor_minutes=round(sum(seconds) / 60, 2),
                    longest_training_s=max(seconds, default=0),
                )
            )
    return cases


def parse() -> argparse.Namespace:
    """The command line."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log, no goals")
    parser.add_argument("--log", choices=list(SOURCES), default="ml-1m")
    parser.add_argument("--data", type=Path, default=Path("data/ml-1m.inter"))
    parser.add_argument("--work", type=Path, help="directory to go on from after an interruption")
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--share", type=int, default=3, help="of households, one of so many")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="overrides")
    return harness.parse(parser)


def main() -> None:
    """Parse, replay the nights and report."""
    options = parse()
    torch.set_num_threads(1)
    if options.smoke:
        (log, source), options.nights = made_up_log(), 2
    else:
        source = SOURCES[options.log]
        log = load_log(options.log, options.data, options.share)
    settings = [*RECIPE, f"train.epochs={source.epochs}", *options.overrides]
    config = load_config(None, [*settings, *(SMOKE if options.smoke else ())]).config
    replay = Replay(config, log, source)
    file = None if options.work is None else options.work / f"{options.log}.pt"
    if file is not None and file.exists():
        replay.load(file)
    while replay.nights < options.nights:
        replay.run_night()
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            replay.save(file)
        print(json.dumps({"nights": replay.nights, **_totals(replay)}), flush=True)
    cases = cases_of(replay, options.log)
    for case in cases:
        print(json.dumps(case), flush=True)
    harness.report(options, "replay", harness.machine("1 thread"), cases, settings=settings)


def _totals(replay: Replay) -> dict[str, Any]:
    users = len(joined(replay.gains["nightly"]))
    return {"users": users, "processor_s": round(sum(replay.seconds["nightly"]), 1)}


if __name__ == "__main__":
    main()
