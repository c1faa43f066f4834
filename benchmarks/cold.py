"""New items by their features: five folds of items that no training sees, ranked afterwards.

    make bench NAME=cold ARGS="--data data/ml-100k.inter --items data/ml-100k.item"

The items of a fold are taken out of the sequences that are learnt from, of the histories that are
read, and of the softmax: they have no vector but that of their genres and year. Each user's newest
interaction is the test target (``--split valid``: the one before, to choose settings by). Where its
item is in the fold it is a cold target, ranked among the items of the fold and among all; where it
is not, a warm one, ranked among the warm items by models with and without features. Items that the
user met before the target are left out of the ranking. The epoch is chosen by warm targets.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from benchmarks import harness
from benchmarks.movielens import SMOKE, Log, load_log, smoke_log
from benchmarks.quality import RECIPES
from lightsans.arrays import Bool, Float64, Int64
from lightsans.columns.segments import expand
from lightsans.config import RunConfig
from lightsans.config.file import load_config
from lightsans.dataset.feature_arrays import FeatureArrays
from lightsans.dataset.feature_coding import CATEGORICAL, DESCRIBED, NUMERIC, FeatureCoding
from lightsans.dataset.samples import gather
from lightsans.dataset.sequences import NO_TARGET, Periods, UserSequences
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.lists.feature_table import open_feature_table, read_feature_table
from lightsans.model.network import LightSANs
from lightsans.training.trainer import Trainer

FOLDS, K = 5, 10
GOAL = 1.0
"""The cold hit@10 must be above that of each baseline."""
GENRE, YEAR = f"{CATEGORICAL}class", f"{CATEGORICAL}release_year"
COLUMNS = (
    "data.columns.item=item_id",
    "data.item_features.categorical=[class, release_year]",
    "data.item_features.numeric=[release_year]",
    "data.item_features.separators={class: ' '}",
    "data.missing_values=['', V, unkonwn]",  # what two films have for a year
)
RECIPE = ("train.id_dropout_prob=0.2",)
"""Settings beside those of `benchmarks/quality.py`, chosen on valid targets."""
BASELINES = ("random", "newest by year", "newest by first appearance", "popularity of the genre")


class Targets(NamedTuple):
    """Targets of some users."""

    histories: UserSequences
    """Histories that a model reads: the warm items before each target."""
    item_ids: Int64
    """(E,) the targets."""
    met: UserSequences
    """All items before each target."""


def split_fold(users: UserSequences, is_cold: Bool, split: str) -> tuple[UserSequences, Targets]:
    """Sequences to train on, without cold items, and the targets of a split.

    Args:
        users: All sequences; each has three items or more.
        is_cold: (V,)
        split: ``valid`` or ``test``.
    """
    lengths, is_warm = users.lengths, ~is_cold[users.item_ids]
    before = np.concatenate([[0], np.cumsum(is_warm)])
    starts, ends = users.offsets[:-1], users.offsets[1:]
    train_lengths = before[ends - 2] - before[starts]
    test_lengths = before[ends - 1] - before[starts]
    valid, test = (users.item_ids[ends - back].astype(np.int64) for back in (2, 1))
    nothing = np.full(len(lengths), NO_TARGET, np.int64)
    periods = Periods(
        train_lengths, test_lengths, np.where(is_cold[valid], NO_TARGET, valid), nothing
    )
    warm = UserSequences(users.item_ids[is_warm], before[users.offsets], periods)
    cut, kept = (2, train_lengths) if split == "valid" else (1, test_lengths)
    return warm, Targets(
        _beginnings(warm, kept),
        valid if split == "valid" else test,
        _beginnings(users, lengths - cut),
    )


def _beginnings(users: UserSequences, lengths: Int64) -> UserSequences:
    whose, rank = expand(users.lengths)
    tape = users.item_ids[rank < lengths[whose]]
    return UserSequences(tape, np.concatenate([[0], np.cumsum(lengths)]))


def rank(
    scores_EV: Float64, targets: Targets, users: Int64, is_candidate: Bool, seed: int = 0
) -> Int64:
    """(E,) ranks, from 1, of some users' targets among candidates; equal scores in random order."""
    rows = np.arange(len(users))
    met = gather(targets.met.item_ids, targets.met.offsets[users], targets.met.lengths[users])
    scores = np.where(is_candidate, scores_EV, -np.inf)
    np.put_along_axis(scores, met.astype(np.int64), -np.inf, axis=1)
    target = scores_EV[rows, targets.item_ids[users]][:, None]
    scores[rows, targets.item_ids[users]] = -np.inf
    equal = (scores == target).sum(axis=1)
    drawn = np.random.default_rng(seed).integers(0, equal + 1)
    found: Int64 = 1 + (scores > target).sum(axis=1) + drawn
    return found


@torch.inference_mode()
def score(model: LightSANs, targets: Targets, users: Int64) -> Float64:
    """(E, V) scores of all items for some users."""
    lengths = np.minimum(targets.histories.lengths[users], model.config.max_seq_len)
    starts = targets.histories.offsets[users + 1] - lengths
    items = torch.from_numpy(gather(targets.histories.item_ids, starts, lengths))
    scores: Float64 = model.score_items(items, torch.from_numpy(lengths)).double().numpy()
    return scores


def train(
    config: RunConfig, num_items: int, users: UserSequences, features: FeatureArrays | None
) -> LightSANs:
    """The model of the epoch that warm valid targets choose."""
    trainer = Trainer(config, num_items, {0: users}, torch.device("cpu"), features=features)
    best: dict[str, torch.Tensor] = {}
    while not trainer.finished:
        row = trainer.run_epoch()
        if trainer.progress.best_epoch == row.epoch:
            best = {name: value.clone() for name, value in trainer.weights().items()}
    trainer.model.load_state_dict(best)
    row = trainer.progress.history[trainer.progress.best_epoch - 1]
    print(f"  epoch {row.epoch}: loss {row.loss:.4f}, valid ndcg@10 {row.valid['ndcg@10']:.4f}")
    return trainer.model.eval().composed()


def without_features(features: FeatureArrays) -> FeatureArrays:
    """Nothing about any item: new ones have no part in training, and nothing is added."""
    return FeatureArrays(
        categories=np.zeros(0, np.int64),
        weights=np.zeros(0, np.float32),
        offsets=np.zeros_like(features.offsets),
        numbers=np.zeros((features.num_items + 1, 0), np.float32),
        num_categories=0,
        is_described=np.zeros_like(features.is_described),
        is_met=features.is_met,
        coding="{}",
    )


def baseline_scores(log: Log, table: pa.Table, is_cold: Bool, warm: UserSequences) -> list[Float64]:
    """(V,) scores of each baseline, in the order of `BASELINES`; the same for all users."""
    N = log.num_items
    years = table[YEAR].to_pylist()
    year = np.array([0.0, *(float(year[0]) if year else 0.0 for year in years)])
    first = np.zeros(N + 1)
    order = np.lexsort((np.arange(len(log.times)), log.times))[::-1]
    first[log.users.item_ids[order]] = log.times[order]
    assert warm.periods is not None
    learnt = _beginnings(warm, warm.periods.train_lengths).item_ids
    counts = np.bincount(learnt, minlength=N + 1).astype(float)
    genres = table[GENRE].to_pylist()
    by_genre: dict[str, list[float]] = {}
    for item, own in enumerate(genres, start=1):
        for genre in own if not is_cold[item] else ():
            by_genre.setdefault(genre, []).append(counts[item])
    mean = {genre: float(np.mean(values)) for genre, values in by_genre.items()}
    popularity = [np.mean([mean.get(genre, 0.0) for genre in own] or [0.0]) for own in genres]
    return [np.zeros(N + 1), year, first, np.array([0.0, *popularity])]


class Fold(NamedTuple):
    """Ranks of the targets of a fold; users of all folds are put together by their number."""

    cold: dict[str, dict[str, Int64]]
    """Ranks among the items of the fold and among all, by scorer."""
    warm: dict[str, Int64]
    """Ranks among warm items with and without features."""


def run_fold(
    log: Log, table: pa.Table, fold: int, config: RunConfig, split: str, compare: bool
) -> Fold:
    """Train without a fold, and rank its targets."""
    N = log.num_items
    place = np.random.default_rng(1).permutation(N)
    is_cold = np.concatenate([[False], place % FOLDS == fold])
    is_item = np.arange(N + 1) > 0
    warm, targets = split_fold(log.users, is_cold, split)
    coding = FeatureCoding.fit(table, ~is_cold[1:])
    features = coding.arrays(table, ~is_cold[1:])
    has_history = targets.histories.lengths > 0
    cold_users = np.flatnonzero(is_cold[targets.item_ids] & has_history)
    warm_users = np.flatnonzero(~is_cold[targets.item_ids] & has_history)
    print(f"fold {fold}: {is_cold.sum()} of {N} items, {len(cold_users)} cold targets", flush=True)

    model = train(config, N, warm, features)
    scored = {"model": score(model, targets, cold_users)}
    for name, scores in zip(BASELINES, baseline_scores(log, table, is_cold, warm), strict=True):
        scored[name] = np.broadcast_to(scores, scored["model"].shape)
    found = {
        among: {
            name: rank(scores, targets, cold_users, candidates, seed=fold)
            for name, scores in scored.items()
        }
        for among, candidates in (("cold", is_cold), ("all", is_item))
    }
    is_warm = is_item & ~is_cold
    ranks = {"features": rank(score(model, targets, warm_users), targets, warm_users, is_warm)}
    if compare:
        plain = train(config, N, warm, without_features(features))
        ranks["ids alone"] = rank(score(plain, targets, warm_users), targets, warm_users, is_warm)
    return Fold(found, ranks)


def kept(directory: Path | None, split: str, fold: int, make: Callable[[int], Fold]) -> Fold:
    """The ranks of a fold, read where an earlier run with the same settings has kept them."""
    if directory is None:
        return make(fold)
    file = directory / f"{split}-{fold}.json"
    if not file.exists():
        made = make(fold)
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(made._asdict(), default=np.ndarray.tolist))
    found = json.loads(file.read_text())
    cold = {
        among: {name: np.array(ranks) for name, ranks in scorers.items()}
        for among, scorers in found["cold"].items()
    }
    return Fold(cold, {name: np.array(ranks) for name, ranks in found["warm"].items()})


def hit(ranks: Int64) -> Float64:
    """1 for each target among the first ten."""
    return (ranks <= K).astype(float)


def gain(ranks: Int64) -> Float64:
    """Share of each target in ndcg@10."""
    return np.where(ranks <= K, 1 / np.log2(ranks + 1), 0.0)


def difference(ours: Float64, theirs: Float64) -> tuple[float, float, float]:
    """Mean difference of two scorers over the same users, and its 95 % interval (normal)."""
    each = ours - theirs
    half = 1.96 * float(each.std(ddof=1)) / len(each) ** 0.5
    mean = float(each.mean())
    return round(mean, 4), round(mean - half, 4), round(mean + half, 4)


def summarise(folds: list[Fold]) -> list[harness.Case]:
    """A case for each baseline, for cold targets, and for warm ones; printed as a table."""
    cases = []
    for among in ("cold", "all"):
        ranks = {
            name: np.concatenate([fold.cold[among][name] for fold in folds])
            for name in ("model", *BASELINES)
        }
        print(f"cold targets among {among} items ({len(ranks['model'])} users)")
        for name, own in ranks.items():
            print(f"  {name:30} hit@10 {hit(own).mean():.4f}  ndcg@10 {gain(own).mean():.4f}")
        ours = float(hit(ranks["model"]).mean())
        for name in BASELINES:
            theirs = float(hit(ranks[name]).mean())
            cases.append(
                harness.case(
                    f"cold items among {among}", ours=round(ours, 4), peer=round(theirs, 4),
                    peer_name=name, unit="hit@10", ratio=round(ours / max(theirs, 1e-9), 3),
                    goal=GOAL, difference=difference(hit(ranks["model"]), hit(ranks[name])),
                )
            )  # fmt: skip
    if "ids alone" in folds[0].warm:
        ours_, ids = (
            np.concatenate([fold.warm[name] for fold in folds])
            for name in ("features", "ids alone")
        )
        print(f"warm targets among warm items ({len(ids)} users of all folds)")
        for name, own in (("with features", ours_), ("ids alone", ids)):
            print(f"  {name:30} hit@10 {hit(own).mean():.4f}  ndcg@10 {gain(own).mean():.4f}")
        for unit, measure in (("hit@10", hit), ("ndcg@10", gain)):
            with_, alone = measure(ours_), measure(ids)
            cases.append(
                harness.case(
                    "warm items", ours=round(float(with_.mean()), 4),
                    peer=round(float(alone.mean()), 4), peer_name="ids alone", unit=unit,
                    ratio=round(float(with_.mean() / max(alone.mean(), 1e-9)), 3), goal=None,
                    difference=difference(with_, alone),
                )
            )  # fmt: skip
    return cases


def load(data: Path, items: Path, columns: Sequence[str]) -> tuple[Log, pa.Table]:
    """A log, and features of its items as preprocessing reads them."""
    log = load_log(data)
    config = load_config(None, [f"data.item_table={items}", *columns]).config
    table = open_feature_table(config)
    assert table is not None
    known = Vocabulary(pa.array(log.raw_item_ids), np.ones(log.num_items, np.int64))
    _, features, _ = read_feature_table(config, table).join(known, allow_unmatched=False)
    return log, features.slice(0, log.num_items)


def smoke() -> tuple[Log, pa.Table]:
    """A small made-up log, and features that follow from the number of an item."""
    log = smoke_log()
    numbers = range(log.num_items)
    return log, pa.table(
        {
            DESCRIBED: [True for _ in numbers],
            GENRE: [[f"genre {n % 3}"] for n in numbers],
            YEAR: [[str(1990 + n % 7)] for n in numbers],
            f"{NUMERIC}release_year": [1990.0 + n % 7 for n in numbers],
        }
    )


def main() -> None:
    """Print a table of all scorers, for cold targets and for warm ones."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/ml-100k.inter"))
    parser.add_argument("--items", type=Path, default=Path("data/ml-100k.item"))
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--keep", type=Path, help="a directory for ranks: folds go on from there")
    parser.add_argument("--cold-only", action="store_true", help="no model without features")
    parser.add_argument("--set", nargs="*", default=[], help="settings such as train.epochs=3")
    options = harness.parse(parser)
    torch.set_num_threads(1)
    fixed = ["model.attention=causal", "train.num_workers=1", "train.virtual_shards=1"]
    recipe = [*fixed, *RECIPES["causal"], *RECIPE, *(SMOKE if options.smoke else ())]
    config = load_config(None, [*recipe, *options.set]).config
    log, table = smoke() if options.smoke else load(options.data, options.items, COLUMNS)
    folds = [0, 1] if options.smoke else options.folds
    compare = not options.cold_only

    def make(fold: int) -> Fold:
        return run_fold(log, table, fold, config, options.split, compare)

    made = [kept(options.keep, options.split, fold, make) for fold in folds]
    cases = summarise(made)
    where = harness.machine("one process, one thread")
    harness.report(options, "cold", where, cases, log=log.source, split=options.split, folds=folds)


if __name__ == "__main__":
    main()
