"""Exact top-K without seen items: ours against torch.topk and FAISS, in users a second.

    python -m benchmarks.topk [--smoke] [--json] [--cuda] [--users 1024] [--k 100]
        [--repeats 5] [--threads 2] [--clock cpu]

All three get the same vectors, the same seen items and as many threads, take turns, and must find
the same lists; medians are compared. A turn is one batch of users, or several batches of few items:
one alone takes a millisecond, of which waking up is a part. FAISS (`pip install faiss-cpu`, the
extra ``bench``) looks for K plus the seen items and what was seen is taken out; torch multiplies as
many users at once as fit the memory allowed, sets seen items to minus infinity and calls topk.

``--clock cpu`` takes the processor time of all threads, divided by them, for a machine that has
other work too; threads that wait must not be busy then (``OMP_WAIT_POLICY=passive``).

With ``--cuda`` users and items are on a GPU, FAISS is left out, and each case also says what share
of the bound is reached: of the users a second that the product alone would give, block by block.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness
from lightsans.ranking.top_k import SCORES_BUDGET, ItemIndex, TopK

try:
    import faiss
except ImportError:
    faiss = None  # type: ignore[assignment]

Clock = Callable[[], float]
HIDDEN_SIZE, SEEN = 64, 100
CASES = {  # items: goal, times the better peer
    1_000: 0.95,
    1_682: 0.95,
    3_700: 0.95,
    10_000: 1.5,
    60_000: 1.5,
    1_000_000: 1.5,
}
CUDA_CASES = {60_000: 1.0, 1_000_000: 1.0, 10_000_000: 1.0}
TORCH_SCORES = {"cpu": 2**26, "cuda": 2**30}
"""Scores that the product of torch.topk holds at once: 256 MiB, or 4 GiB."""

TURN_SCORES = 2**24
"""Users times items of a turn, at least; a smoke run's are one batch."""
PAUSE_S = 0.3
"""Pause before each turn: threads of the one before keep a core busy for a while after it."""


class Data(NamedTuple):
    """Users, items, and who has seen what: ``seen[b]`` are distinct ids from 1."""

    users: Tensor
    table: Tensor
    seen: Tensor


def make_data(num_users: int, num_items: int, skewed: bool, seed: int = 0) -> Data:
    """Normal vectors; ``skewed`` gives items norms spread like popularity (log-normal)."""
    generator = torch.Generator().manual_seed(seed)
    vectors_BD = torch.randn(num_users, HIDDEN_SIZE, generator=generator)
    table_VD = torch.randn(num_items + 1, HIDDEN_SIZE, generator=generator)
    if skewed:
        table_VD *= torch.randn(num_items + 1, 1, generator=generator).exp()
    # One item of each stretch of the catalogue: distinct without sorting a permutation per user.
    width = num_items // SEEN
    offsets_BS = torch.randint(0, width, (num_users, SEEN), generator=generator)
    return Data(vectors_BD, table_VD, 1 + torch.arange(SEEN) * width + offsets_BS)


def ours(data: Data, k: int) -> Callable[[], TopK]:
    """The engine, its index made beforehand."""
    index = ItemIndex(data.table)
    rows_S = torch.arange(len(data.users), device=data.users.device).repeat_interleave(SEEN)
    ids_S = data.seen.flatten()
    return lambda: index.top_k(data.users, k, rows_S, ids_S)


def by_torch(data: Data, k: int) -> Callable[[], TopK]:
    """Lists that `Tensor.topk` finds in the full product, a batch of users after the other."""
    items_DV = data.table.t()
    step = max(1, TORCH_SCORES[data.users.device.type] // len(data.table))

    def search() -> TopK:
        lists = []
        for vectors_BD, seen_BS in zip(
            torch.split(data.users, step), torch.split(data.seen, step), strict=True
        ):
            scores_BV = vectors_BD @ items_DV
            scores_BV[:, 0] = -torch.inf
            scores_BV.scatter_(1, seen_BS, -torch.inf)
            scores_BK, ids_BK = scores_BV.topk(k, dim=1)
            lists.append(TopK(ids_BK, scores_BK))
        return TopK(*(torch.cat(parts) for parts in zip(*lists, strict=True)))

    return search


def product_alone(data: Data) -> Callable[[], None]:
    """The bound: all scores in the precision of our products, each block written over the last."""
    index = ItemIndex(data.table)
    factors_ND = index.factors_ND
    users_BD = data.users.to(factors_ND.dtype)
    step = max(1, SCORES_BUDGET[data.users.device.type] // len(users_BD))

    def multiply() -> None:
        for items_CD in torch.split(factors_ND, step):
            users_BD @ items_CD.t()

    return multiply


def by_faiss(data: Data, k: int) -> Callable[[], TopK]:
    """A flat index of inner products, made beforehand; seen items are taken out of longer lists."""
    index = faiss.IndexFlatIP(HIDDEN_SIZE)
    index.add(data.table[1:].numpy())
    B, V = len(data.users), len(data.table)

    def search() -> TopK:
        scores, positions = index.search(data.users.numpy(), k + SEEN)
        row = np.arange(B)[:, None] * V
        is_seen = np.isin(positions + 1 + row, data.seen.numpy() + row, assume_unique=True)
        kept = np.argsort(is_seen, axis=1, kind="stable")[:, :k]
        ids = np.take_along_axis(positions, kept, 1) + 1
        return TopK(torch.from_numpy(ids), torch.from_numpy(np.take_along_axis(scores, kept, 1)))

    return search


def require_equal(data: Data, found: TopK, peer: TopK, name: str) -> None:
    """Raise unless scores agree and lists differ only where scores are equal up to rounding."""
    tolerance = 1e-5 * float(data.users.norm(dim=1).max() * data.table.norm(dim=1).max())
    if float((found.scores - peer.scores).abs().max()) > tolerance:
        raise AssertionError(f"scores of {name} differ by more than {tolerance:.1e}")
    for row in (found.item_ids.sort(1).values != peer.item_ids.sort(1).values).any(1).nonzero():
        last = float(found.scores[row, -1])
        odd = set(found.item_ids[row].flatten().tolist()) ^ set(
            peer.item_ids[row].flatten().tolist()
        )
        scores = data.table[sorted(odd)] @ data.users[row].flatten()
        if float((scores - last).abs().max()) > tolerance:
            raise AssertionError(f"user {int(row)}: lists of {name} differ")


def repeat(search: Callable[[], object], batches: int) -> None:
    """Search for some batches, one after the other."""
    for _ in range(batches):
        search()


def run_case(
    num_items: int,
    num_users: int,
    k: int,
    repeats: int,
    turn_scores: int,
    skewed: bool,
    device: str,
    now: Clock,
) -> dict[str, Any]:
    """Users a second of each engine, taking turns of so many scores at least."""
    data = Data(*(x.to(device) for x in make_data(num_users, num_items, skewed)))
    engines = {"ours": ours(data, k), "torch.topk": by_torch(data, k)}
    if faiss is not None and device == "cpu":
        engines["faiss"] = by_faiss(data, k)
    found = {name: search() for name, search in engines.items()}  # also warms up
    for name in engines:
        require_equal(data, found["ours"], found[name], name)
    timed: dict[str, Callable[[], object]] = dict(engines)
    if device == "cuda":
        timed["product alone"] = product_alone(data)
    batches = max(1, turn_scores // (num_users * num_items))
    turns = {name: functools.partial(repeat, search, batches) for name, search in timed.items()}
    speed = harness.rates(turns, num_users * batches, repeats, now, PAUSE_S)
    peer = max((name for name in engines if name != "ours"), key=speed.__getitem__)
    bound = speed.get("product alone")
    return harness.case(
        f"{num_items:,} items" + (", skewed norms" if skewed else ""),
        ours=round(speed["ours"], 1),
        peer=round(speed[peer], 1),
        peer_name=peer,
        unit="users/s",
        ratio=round(speed["ours"] / speed[peer], 2),
        goal=(CUDA_CASES if device == "cuda" else CASES).get(num_items, 0.0),
        fraction_of_bound=None if bound is None else round(speed["ours"] / bound, 3),
        all={name: round(value, 1) for name, value in speed.items()},
    )


def _machine(device: str, threads: int) -> str:
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return harness.machine(f"{threads} threads")


def _cuda_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _processor_clock() -> float:
    return time.process_time() / torch.get_num_threads()


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--cuda", action="store_true", help="on a GPU, against torch.topk there")
    parser.add_argument("--users", type=int, default=1024)
    parser.add_argument("--k", type=int, default=100, help="length of the lists")
    parser.add_argument("--repeats", type=int, default=5)
    # Not `harness.add_clock`: all threads are at work here, so their time can be divided by them.
    parser.add_argument("--threads", dest="engine_threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = harness.parse(parser)
    torch.set_num_threads(options.engine_threads)
    if faiss is None:
        print("FAISS is missing (pip install faiss-cpu): compared with torch.topk only")
    else:
        faiss.omp_set_num_threads(options.engine_threads)
    device = "cuda" if options.cuda else "cpu"
    now = {"wall": time.perf_counter, "cpu": _processor_clock}[options.clock]
    if options.cuda:
        now = _cuda_clock
    goals = CUDA_CASES if options.cuda else CASES
    sizes = [(2_000, False), (5_000, True)] if options.smoke else [(n, False) for n in goals]
    sizes += [] if options.smoke else [(60_000, True)]
    cases = []
    for num_items, skewed in sizes:
        users, repeats, turn = options.users, options.repeats, TURN_SCORES
        if options.smoke:
            users, repeats, turn = 64, 1, 1
        case = run_case(num_items, users, options.k, repeats, turn, skewed, device, now)
        cases.append(case)
        speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in case["all"].items())
        print(f"{case['case']}: {speeds} users/s; {case['ratio']} times {case['peer_name']}")
    harness.report(
        options,
        "topk",
        _machine(device, options.engine_threads),
        cases,
        clock="wall" if options.cuda else options.clock,
        users=options.users,
        k=options.k,
        products=str(ItemIndex(torch.zeros(2, HIDDEN_SIZE)).products).removeprefix("torch."),
        faiss=None if faiss is None else faiss.__version__,
    )


if __name__ == "__main__":
    main()
