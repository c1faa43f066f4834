"""Lists under rules, and with probabilities, against plain top-K of the same users: what they cost.

    python -m benchmarks.rules [--smoke] [--json] [--cuda] [--users N] [--threads N] [--clock cpu]

Both get the same vectors, items and seen items, take turns in one process, and the medians are
compared; the ratio is plain time over time under rules, and the goal allows 1.3 times the time.
Items have one of 500 brands, spread like popularity, one of 20 kinds, and a hundredth are new.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.topk import SEEN, Data, make_data
from lightsans.probability.softmax import Scope, log_sums
from lightsans.ranking.top_k import ItemIndex
from lightsans.rules.item_rules import NO_LIMIT, ItemRules, PinRule, QuotaRule, no_rules
from lightsans.rules.lists import RuledIndex

K, NUM_ITEMS, GOAL = 100, 60_000, round(1 / 1.3, 3)
BRANDS, KINDS, ONE_IN_NEW = 500, 20, 100
PAUSE_S = 0.1


def rule_sets(num_items: int) -> dict[str, ItemRules]:
    """Kinds of rules, one at a time and together."""
    generator = torch.Generator().manual_seed(1)
    V, plain = num_items + 1, no_rules(num_items)
    brands_V = (torch.rand(V, generator=generator).square() * BRANDS).int()
    kinds_V = torch.randint(0, KINDS, (V,), generator=generator).int() + BRANDS
    limits = torch.tensor([2] * BRANDS + [4] * KINDS + [NO_LIMIT], dtype=torch.int32)
    firsts = torch.tensor([10] * (BRANDS + KINDS) + [0], dtype=torch.int32)
    is_new_V = torch.randint(0, ONE_IN_NEW, (V,), generator=generator) == 0
    boosts_V = (torch.randint(0, 3, (V,), generator=generator) - 1).float()
    caps = replace(
        plain, codes=torch.stack([brands_V, kinds_V], dim=1), at_most=limits, first=firsts
    )
    quotas = replace(plain, groups=is_new_V.long(), quotas=(QuotaRule(2, 10),))
    boosts = replace(plain, boosts=boosts_V)
    denied = replace(plain, denied=(torch.arange(V) % 10 == 0).long())
    pins = replace(plain, pins=(PinRule(1, 1), PinRule(2, -1)))
    together = replace(
        caps, groups=quotas.groups, quotas=quotas.quotas, boosts=boosts_V, denied=denied.denied,
        pins=pins.pins,
    )  # fmt: skip
    return {
        "caps of two columns": caps,
        "a quota of new items": quotas,
        "boosts": boosts,
        "a segment's denied items": denied,
        "two pins": pins,
        "all but diversity": together,
        "diversity among 200": replace(plain, weight=0.3, candidates=200),
        "diversity among 500": replace(plain, weight=0.3, candidates=500),
    }


def run_case(
    name: str, rules: ItemRules, data: Data, repeats: int, now: Callable[[], float]
) -> dict[str, Any]:
    """Users a second with and without the rules, taking turns."""
    device, B = data.users.device, len(data.users)
    rows_S = torch.arange(B, device=device).repeat_interleave(SEEN)
    ids_S = data.seen.flatten()
    plain, ruled = ItemIndex(data.table), RuledIndex(data.table, rules)
    segments_B = torch.arange(B, device=device) % 2

    def without() -> Tensor:
        return plain.top_k(data.users, K, rows_S, ids_S).item_ids

    def under_rules() -> Tensor:
        return ruled.top_k(data.users, K, rows_S, ids_S, segments_B).item_ids

    goal = None if name.startswith("diversity") else GOAL
    return _compare(name, data, without, under_rules, repeats, now, goal)


def run_probabilities(data: Data, repeats: int, now: Callable[[], float]) -> dict[str, Any]:
    """Users a second with and without probabilities of the lists' items, taking turns."""
    device, B = data.users.device, len(data.users)
    rows_S = torch.arange(B, device=device).repeat_interleave(SEEN)
    ids_S, plain = data.seen.flatten(), ItemIndex(data.table)
    is_eligible = torch.arange(len(data.table), device=device) > 0
    scope = Scope(is_eligible, rows_S, ids_S)

    def without() -> Tensor:
        return plain.top_k(data.users, K, rows_S, ids_S).scores

    def with_probabilities() -> Tensor:
        scores_BK = without().double()
        return (scores_BK - log_sums(data.users, data.table, scope)[:, None]).exp()

    return _compare("probabilities", data, without, with_probabilities, repeats, now, None)


def _compare(
    name: str,
    data: Data,
    plain: Callable[[], Tensor],
    ours: Callable[[], Tensor],
    repeats: int,
    now: Callable[[], float],
    goal: float | None,
) -> dict[str, Any]:
    """A case of both, which take turns after a call of each to warm up."""
    turns = {"plain": plain, "ours": ours}
    for search in turns.values():
        search()
    speed = harness.rates(turns, len(data.users), repeats, now, PAUSE_S)
    return harness.case(
        f"{name}, {len(data.table) - 1:,} items",
        ours=round(speed["ours"], 1),
        peer=round(speed["plain"], 1),
        peer_name="plain top-K",
        unit="users/s",
        ratio=round(speed["ours"] / speed["plain"], 3),
        goal=goal,
        times_the_time=round(speed["plain"] / speed["ours"], 2),
    )


def _cuda_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--cuda", action="store_true", help="on a GPU")
    parser.add_argument("--users", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    harness.add_clock(parser)
    options = harness.parse(parser)
    torch.set_num_threads(options.threads)
    device = "cuda" if options.cuda else "cpu"
    now = time.process_time if options.clock == "cpu" else time.perf_counter
    if options.cuda:
        now = _cuda_clock
    num_items, users, repeats = NUM_ITEMS, options.users, options.repeats
    if options.smoke:
        num_items, users, repeats = 2_000, 32, 1
    made = make_data(users, num_items, skewed=False)
    data = Data(*(x.to(device) for x in made))
    cases = []
    runs: list[Callable[[], dict[str, Any]]] = [
        partial(run_case, name, rules, data, repeats, now)
        for name, rules in rule_sets(num_items).items()
    ]
    runs.append(partial(run_probabilities, data, repeats, now))
    for run in runs:
        case = run()
        cases.append(case)
        print(
            f"{case['case']}: {case['ours']:,.0f} users/s, plain {case['peer']:,.0f}: "
            f"{case['times_the_time']} times the time"
        )
    where = torch.cuda.get_device_name() if options.cuda else f"{options.threads} threads"
    harness.report(options, "rules", harness.machine(where), cases, k=K, clock=options.clock)


if __name__ == "__main__":
    main()
