"""Cost of interests that fade, once they are trained: time of a step, and share of steep chunks.

    make bench NAME=fading_cost ARGS="[--smoke] [--json] [--log ml-1m] [--data data/ml-1m.inter]
        [--rung fading-relative] [--epochs 8] [--work DIRECTORY]"

Weights are those that `benchmarks.temporal` kept in ``--work`` (with ``--smoke`` new ones), and so
are the log and its cut. Steps of the trained model and of a new plain one, on the same windows of
training, take turns on one thread; medians of processor time. A chunk is steep where the logits of
an interest rise so far that one exponential an item is not safe; such a chunk takes longer.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.ladder import RUNGS
from benchmarks.movielens import Log
from benchmarks.temporal import RECIPES, Session, make_config, weights_file
from benchmarks.train_step import ours, some_batches
from lightsans.model import causal

GOAL = 1.05
"""Most time of a step against plain."""


@contextmanager
def planned_chunks() -> Iterator[list[bool]]:
    """Whether each chunk that is computed meanwhile is flat."""
    plan, found = causal._plan_chunks, list[bool]()

    def counting(logits_BLJ: torch.Tensor) -> tuple[list[int], list[bool]]:
        sizes, is_flat = plan(logits_BLJ)
        found.extend(is_flat)
        return sizes, is_flat

    causal._plan_chunks = counting
    try:
        yield found
    finally:
        causal._plan_chunks = plan


def main() -> None:
    """Measure and report."""
    parser = harness.make_parser(__doc__, "seconds: a made-up log and new weights, no goals")
    parser.add_argument("--log", choices=list(RECIPES), default="ml-1m")
    parser.add_argument("--data", type=Path, default=Path("data/ml-1m.inter"))
    parser.add_argument("--share", type=int, default=3)
    parser.add_argument("--rung", choices=list(RUNGS), default="fading-relative")
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--epochs", type=int, help="of the run whose weights are there")
    parser.add_argument("--work", type=Path, default=Path("lightsans-data/temporal"))
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    options = harness.parse(parser)
    torch.set_num_threads(1)
    session = Session.open(options)
    log = Log(session.cut.users, session.cut.num_items, options.log)
    count, repeats = (2, 1) if options.smoke else (options.batches, options.repeats)
    turns: dict[str, Callable[[], object]] = {}
    for rung in (options.rung, "plain"):
        config = make_config(options, rung, options.seed)
        weights = None
        if rung != "plain" and not options.smoke:
            weights = torch.load(weights_file(session, rung, options.seed))
        batches, targets = some_batches(log, config, count)
        engine = ours(log, config, batches, targets, weights)
        order = cycle(range(count))
        turns[rung] = partial(lambda step, indices: step(next(indices)), engine.step, order)
    with planned_chunks() as is_flat:
        for _ in range(count):
            turns[options.rung]()
    rates = harness.rates(turns, 1, repeats, time.process_time)
    ms = {name: 1e3 / rate for name, rate in rates.items()}
    case = harness.case(
        f"{options.log}: a step of {options.rung}, trained",
        ours=round(ms[options.rung], 1),
        peer=round(ms["plain"], 1),
        unit="ms",
        ratio=round(ms["plain"] / ms[options.rung], 3),
        goal=round(1 / GOAL, 3),
        steep_chunks=is_flat.count(False),
        chunks=len(is_flat),
    )
    print(case)
    harness.report(options, "fading_cost", harness.machine("1 thread"), [case])


if __name__ == "__main__":
    main()
