"""A ladder under a split by time: rungs, baselines and RecTools' SASRec for the same users.

    make bench NAME=temporal ARGS="[--smoke] [--json] [--log ml-1m] [--data data/ml-1m.inter]
        [--rungs plain …] [--seeds 2020 …] [--epochs 8] [--test] [--peer-minutes 15]
        [--work DIRECTORY]"

Cut-offs leave .8, .1 and .1 of the rows for training, valid and test. A user's targets are the next
item after a cut-off, and the next ten; the request is made at the cut-off. Valid chooses the epoch
by ndcg@10 of the next item and, between rungs, the setting. ``--test`` measures all seeds of the
chosen rung and the baselines on test, twice: as they were trained before the first cut-off
(``judged``, RecTools' SASRec beside them, with the epoch that valid chooses, and the plain model of
the same seed, where it was trained), and trained again, for as many epochs, on everything before
the second one (``refit``), as a nightly pipeline does. Ours is measured once more with what is
popular now: to each score is added a weight, which valid chooses, times the logarithm of 1 + the
item's rows of the last seven days, as by a boost of ``score.rules``. Leads are paired, their 95 %
intervals of a bootstrap over users. Time is the processor time of one thread. Finished runs are
lines of ``benchmarks/temporal.jsonl``; weights, and the peer's lists, stay in ``--work``.

CompleteJourney is that of `benchmarks.replay_logs`; what was bought may be recommended again.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import harness
from benchmarks.ladder import PLAIN, RUNGS, finished
from benchmarks.movielens import SMOKE, Log
from benchmarks.peer_sasrec import PEER_NAME, run_peer
from benchmarks.refit import fit, rounded
from benchmarks.replay_logs import SOURCES, read_rows
from benchmarks.temporal_split import Cut, Rows, cut_by_time
from benchmarks.train_to_quality import CONFIGS
from benchmarks.training import CPU, train
from lightsans.arrays import Array, Int64
from lightsans.columns.segments import expand
from lightsans.config import RunConfig
from lightsans.config.file import load_config
from lightsans.dataset.held_out import HeldOut, Split, hold_out
from lightsans.model.network import LightSANs
from lightsans.preparation.temporal import Cutoffs
from lightsans.ranking.baselines import TransitionCounts, popular_scores, successor_scores
from lightsans.ranking.evaluation import (
    ScoresHeldOut,
    from_histories,
    rank_targets,
    score_by_model,
)
from lightsans.ranking.recent import count_rows, popularity_ties, rows_before, window_scores
from lightsans.synthetic.logs import generate_log
from pipelines.backtest.pooled import AT, NAMES, Estimates, Gains

LINES = Path(__file__).with_suffix(".jsonl")
DAYS = 7
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Weights of what is popular now, beside the model's scores, of which valid chooses one."""
OURS, BOOSTED = "ours", "ours, boosted"
PLAIN_RUNG = "plain"
LEADS = {"leads": OURS, "leads_boosted": BOOSTED}
"""Fields of a tested line with the leads over all others, and whose they are."""
SPLIT = (
    "data.split=temporal",
    "data.temporal.valid_fraction=0.1",
    "data.temporal.test_fraction=0.1",
)
RECIPES = {
    "ml-1m": ("data.min_item_interactions=5", "train.epochs=8"),
    "completejourney": (
        f"data.min_item_interactions={SOURCES['completejourney'].least}",
        "train.window_stride=200",
        "train.epochs=8",
        "evaluate.remove_seen=false",
    ),
}


def log_key(options: argparse.Namespace) -> dict[str, Any]:
    """Entries of a finished line that say which rows it was measured on."""
    return {"log": options.log, "share": options.share, "smoke": options.smoke}


def budget_key(options: argparse.Namespace) -> dict[str, Any]:
    """Entries of a tested line that say how long the peer might train."""
    return {"peer_most": [options.peer_epochs, options.peer_minutes]}


def in_work(options: argparse.Namespace, name: str) -> Path:
    """A file or directory of ``--work``, with what `log_key` says in its name."""
    log = f"{options.log}-{options.share}" + "-smoke" * options.smoke
    return Path(options.work, f"{log}-{name}")


class Session(NamedTuple):
    """A log, how it is cut, and what this call was asked."""

    rows: Rows
    cut: Cut
    options: argparse.Namespace

    @classmethod
    def open(cls, options: argparse.Namespace) -> "Session":
        """Read and cut the log."""
        if options.smoke:
            made = generate_log(60, 40, 1_500)
            # In any order of time, so that users come back after the cut-offs.
            seconds = np.random.default_rng(0).permutation(len(made.item_ids))
            rows = Rows.of(made.user_ids, made.item_ids, seconds)
        else:
            rows = Rows.of(*read_rows(options.log, options.data, options.share))
        data = make_config(options, "plain", 0).data
        return cls(rows, cut_by_time(rows, rows.cutoffs(data), data.min_item_interactions), options)


def make_config(options: argparse.Namespace, rung: str, seed: int) -> RunConfig:
    """The settings of a run: one process holds all users."""
    fixed = [f"train.seed={seed}", "train.num_workers=1", "train.virtual_shards=1"]
    recipe = [*RECIPES[options.log], *SPLIT, *PLAIN, *RUNGS[rung]]
    length = [] if options.epochs is None else [f"train.epochs={options.epochs}"]
    small = SMOKE if options.smoke else ()
    path = str(CONFIGS / "ml-1m-sasrec.yaml")
    return load_config(path, [*recipe, *fixed, *length, *small]).config


def lists_of(cut: Cut, scorer: ScoresHeldOut, split: Split, remove_seen: bool) -> Int64:
    """(E, 10) the best items of every evaluated user."""
    held_out = hold_out(cut.users, split)
    with torch.inference_mode():
        return rank_targets(
            scorer, held_out, num_items=cut.num_items, remove_seen=remove_seen, num_top=AT
        ).top


def boosted(scorer: ScoresHeldOut, cut: Cut, moment: int, weight: float) -> ScoresHeldOut:
    """Scores with more for items that were met in the last days before a moment."""
    assert cut.users.times is not None
    counts = count_rows(cut.users, cut.users.times.of_items, moment, DAYS, cut.num_items)
    boosts_V = torch.from_numpy(weight * np.log1p(counts)).float()

    def score(batch: HeldOut) -> torch.Tensor:
        return scorer(batch) + boosts_V

    return score


def baselines(cut: Cut, length: int) -> dict[str, ScoresHeldOut]:
    """Popularity, that of a week before the test cut-off, and the most frequent successor."""
    counts = TransitionCounts.count(cut.users, cut.num_items)
    assert cut.users.times is not None
    moment = cut.cutoffs.test_from
    rows = rows_before(cut.users, cut.users.times.of_items, [moment], DAYS)
    ties = popularity_ties(counts.popularity)
    recent = torch.from_numpy(window_scores(rows, np.array([moment]), DAYS, ties))

    def of_week(batch: HeldOut) -> torch.Tensor:
        return recent.repeat(len(batch.lengths), 1)

    return {
        "popular": from_histories(partial(popular_scores, counts), length),
        f"popular, {DAYS} days": of_week,
        "successor": from_histories(partial(successor_scores, counts), length),
    }


def train_rung(session: Session, rung: str, seed: int) -> dict[str, Any]:
    """Train a rung before the first cut-off; keep the weights of the epoch that valid chooses."""
    cut, config = session.cut, make_config(session.options, rung, seed)
    run = train(Log(cut.users, cut.num_items, session.options.log), config, 120, "cpu")
    torch.save(run.model.state_dict(), weights_file(session, rung, seed))
    scorer = score_by_model(run.model.eval(), CPU, config.model.max_seq_len)
    met = cut.next_items(session.rows, "valid")

    def measure(weight: float) -> Gains:
        of_weight = boosted(scorer, cut, cut.cutoffs.valid_from, weight)
        lists = lists_of(cut, of_weight, "valid", config.evaluate.remove_seen)
        return cut.gains(lists, met, "valid")

    by_weight = {weight: measure(weight) for weight in WEIGHTS}
    means = {
        weight: {name: rounded(each)[0] for name, each in gains.means().items()}
        for weight, gains in by_weight.items()
    }
    return {
        "best_epoch": run.best_epoch,
        "cpu_minutes": round(run.seconds[-1] / 60, 1),
        "valid": round(run.best.valid["ndcg@10"], 5),
        "valid_lists": means[0.0],
        "valid_boosted": {str(weight): of_weight for weight, of_weight in means.items()},
        "weight": max(WEIGHTS, key=lambda weight: means[weight]["first ndcg@10"]),
        "valid_users": len(by_weight[0.0]),
        "curve": [round(row.valid["ndcg@10"], 4) for row in run.curve],
    }


def weights_file(session: Session, rung: str, seed: int) -> Path:
    """The weights of a finished run."""
    epochs = make_config(session.options, rung, seed).train.epochs
    file = in_work(session.options, f"{rung}-{seed}-{epochs}.pt")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def trained(session: Session, rung: str, seed: int) -> LightSANs:
    """The model of a finished run."""
    model = LightSANs(make_config(session.options, rung, seed).model, session.cut.num_items)
    model.load_state_dict(torch.load(weights_file(session, rung, seed)))
    return model


def test_run(session: Session, run: dict[str, Any], chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure a run of the chosen rung and all others on test: judged, then refit.

    Args:
        session: The log.
        run: Its line.
        chosen: The line of the run that valid chose, whose weight for what is popular now counts.
    """
    options, rows, judged = session.options, session.rows, session.cut
    config, seed = make_config(options, run["rung"], run["seed"]), run["seed"]
    length, remove = config.model.max_seq_len, config.evaluate.remove_seen
    least = config.data.min_item_interactions
    whole = cut_by_time(rows, Cutoffs(*[judged.cutoffs.test_from] * 2), least)
    epochs = run["best_epoch"]
    again = replace(config, train=replace(config.train, refit_epochs=epochs))
    made = fit(again, whole.users, whole.num_items)
    refit = LightSANs(config.model, whole.num_items)
    refit.load_state_dict(made.weights)
    peer, peer_epochs = lists_of_peer(session, make_config(options, run["rung"], chosen["seed"]))
    found = []
    for name, cut, model, minutes in (
        ("judged", judged, trained(session, run["rung"], seed), run["cpu_minutes"]),
        ("refit", whole, refit, round(made.cpu_s / 60, 1)),
    ):
        is_judged = name == "judged"
        ours = score_by_model(model.eval(), CPU, length)
        moment = cut.cutoffs.test_from
        scorers = {OURS: ours, BOOSTED: boosted(ours, cut, moment, chosen["weight"])}
        scorers |= baselines(cut, length)
        is_other = run["rung"] != PLAIN_RUNG
        if is_judged and is_other and weights_file(session, PLAIN_RUNG, seed).exists():
            plain = trained(session, PLAIN_RUNG, seed)
            scorers[PLAIN_RUNG] = score_by_model(plain.eval(), CPU, length)
        lists = {each: lists_of(cut, scorers[each], "test", remove) for each in scorers}
        lists |= {PEER_NAME: peer} if peer is not None and is_judged else {}
        found.append(
            {
                "tested": name,
                "trained_epochs": epochs,
                "cpu_minutes": minutes,
                "peer_epochs": peer_epochs if is_judged else [],
                **compare(cut, lists, cut.next_items(rows, "test")),
            }
        )
    return found


def compare(cut: Cut, lists: Mapping[str, Int64], met: list[list[str]]) -> dict[str, Any]:
    """Means of all lists and our leads over each other's, with intervals."""
    gains = {name: cut.gains(each, met, "test") for name, each in lists.items()}

    def shown(found: Estimates) -> dict[str, list[float]]:
        return {name: rounded(each) for name, each in found.items()}

    return {
        "users": len(gains[OURS]),
        "test": {name: shown(each.means()) for name, each in gains.items()},
        **{
            field: {n: shown(gains[who].leads(each)) for n, each in gains.items() if n != who}
            for field, who in LEADS.items()
        },
    }


def lists_of_peer(session: Session, config: RunConfig) -> tuple[Int64 | None, list[dict[str, Any]]]:
    """The peer's lists and epochs; nothing where it is not installed."""
    options = session.options
    split = peer_split(session.cut, config.evaluate.remove_seen)
    directory = in_work(options, f"peer-{options.peer_epochs}-{options.peer_minutes:g}")
    rows = run_peer(split, config, options.peer_epochs, options.peer_minutes, directory)
    if not rows:
        return None, []
    with np.load(directory / "rectools.npz") as content:
        return content["lists"].astype(np.int64), rows


def peer_split(cut: Cut, remove_seen: bool) -> dict[str, Array]:
    """Training rows of the peer, its valid targets, and the histories that test lists are for."""
    users = cut.users
    lengths = users.train_lengths
    owner, rank = expand(lengths)
    targets = np.zeros(len(lengths), np.int64)
    valid, test = hold_out(users, "valid"), hold_out(users, "test")
    # Who is evaluated on an item that no model knows: a miss, not nobody.
    targets[valid.users] = np.where(valid.target_ids > 0, valid.target_ids, -1)
    test_owner, test_rank = expand(test.lengths)
    return {
        "item_ids": users.item_ids[users.offsets[owner] + rank],
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "targets": targets,
        "remove_seen": np.array(remove_seen),
        "test_item_ids": users.item_ids[test.starts[test_owner] + test_rank],
        "test_offsets": np.concatenate([[0], np.cumsum(test.lengths)]),
    }


def cases(lines: list[dict[str, Any]]) -> list[harness.Case]:
    """Our figures beside each other's, and whether an interval of the lead excludes 0."""
    found = []
    for line in lines:
        for who, peer, leads in _leads_of(line):
            for metric in NAMES:
                own, theirs = (line["test"][name][metric][0] for name in (who, peer))
                found.append(
                    harness.case(
                        f"{line['log']}, {line['tested']}, {metric}, {who}: {peer}",
                        ours=own,
                        peer=theirs,
                        unit=metric,
                        ratio=round(own / theirs, 3) if theirs else None,
                        goal=1.0,
                        lead=leads[metric],
                    )
                )
    return found


def _leads_of(line: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, list[float]]]]:
    for field, who in LEADS.items():
        for peer, leads in line.get(field, {}).items():
            yield who, peer, leads


def parse() -> argparse.Namespace:
    """The command line."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log, no goals")
    parser.add_argument("--log", choices=list(RECIPES), default="ml-1m")
    parser.add_argument("--data", type=Path, default=Path("data/ml-1m.inter"))
    parser.add_argument("--share", type=int, default=3, help="of households, one of so many")
    parser.add_argument("--rungs", nargs="+", choices=list(RUNGS), default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020])
    parser.add_argument("--epochs", type=int, help="length of the schedule")
    parser.add_argument("--test", action="store_true", help="test the rung that valid chooses")
    parser.add_argument("--peer-epochs", type=int, default=16)
    parser.add_argument("--peer-minutes", type=float, default=15.0, help="processor time, each")
    parser.add_argument("--work", type=Path, default=Path("lightsans-data/temporal"))
    parser.add_argument("--lines", type=Path, default=LINES, help="finished runs, a line each")
    return harness.parse(parser)


def main() -> None:
    """Train what is not there yet, test the chosen rung where asked, and report."""
    options = parse()
    torch.set_num_threads(1)
    if options.smoke:
        options.rungs, options.test, options.peer_epochs = ["plain", "fading-relative"], True, 1
        options.lines = options.work / "lines.jsonl"
    session = Session.open(options)
    of_log = log_key(options)
    done = [line for line in finished(options.lines) if of_log.items() <= line.items()]

    def add(line: dict[str, Any]) -> None:
        line |= of_log | {"date": datetime.now(UTC).date().isoformat()}
        done.append(line)
        with options.lines.open("a") as lines:
            lines.write(json.dumps(line) + "\n")

    for rung in options.rungs:
        for seed in options.seeds:
            epochs = make_config(options, rung, seed).train.epochs
            key = {"rung": rung, "seed": seed, "epochs": epochs}
            if not any(key.items() <= line.items() and "valid" in line for line in done):
                print(f"{options.log}, {rung}, seed {seed}", flush=True)
                add(key | train_rung(session, rung, seed))
    if options.test:
        chosen = max((line for line in done if "valid" in line), key=lambda line: line["valid"])
        options.epochs = chosen["epochs"]
        of_rung = {name: chosen[name] for name in ("rung", "epochs")}
        for run in [line for line in done if "valid" in line and of_rung.items() <= line.items()]:
            key = of_rung | {"seed": run["seed"]} | budget_key(options)
            if not any(key.items() <= line.items() and "tested" in line for line in done):
                for line in test_run(session, run, chosen):
                    add(key | line)
    for line in done:
        print(json.dumps(line))
    harness.report(options, "temporal", harness.machine("1 thread"), cases(done), lines=len(done))


if __name__ == "__main__":
    main()
