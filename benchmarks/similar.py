"""Similar items, exact: ours against torch.topk over whole products, in items a second.

    python -m benchmarks.similar [--smoke] [--json] [--stretch N] [--threads N] [--clock cpu]

Both find the 20 nearest by cosine of a stretch of 1,000,000 items, take turns, and must find the
same lists; medians are compared.
"""

import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch

from benchmarks import harness
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.recommendations.similar_items import SimilarItems

NUM_ITEMS, HIDDEN_SIZE, K, SCORES = 1_000_000, 64, 20, 2**26


def by_torch(table_VD: torch.Tensor, stretch: int) -> Callable[[], list[list[int]]]:
    """Nearest items by `Tensor.topk` over products with all items."""
    unit_VD = torch.nn.functional.normalize(table_VD, dim=1)
    step = max(1, SCORES // len(table_VD))

    def search() -> list[list[int]]:
        found = []
        for first in range(1, stretch + 1, step):
            rows = torch.arange(first, min(stretch + 1, first + step))
            scores = unit_VD[rows] @ unit_VD.t()
            scores[:, 0] = -torch.inf
            scores[torch.arange(len(rows)), rows] = -torch.inf
            found += scores.topk(K, dim=1).indices.tolist()
        return found

    return search


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--stretch", type=int, default=1024, help="items whose lists are made")
    parser.add_argument("--repeats", type=int, default=3)
    harness.add_clock(parser)
    options = harness.parse(parser)
    torch.set_num_threads(options.threads)
    now = time.process_time if options.clock == "cpu" else time.perf_counter
    num_items, stretch, repeats = NUM_ITEMS, options.stretch, options.repeats
    if options.smoke:
        num_items, stretch, repeats = 5_000, 64, 1
    generator = torch.Generator().manual_seed(0)
    table_VD = torch.randn(num_items + 1, HIDDEN_SIZE, generator=generator)
    items = Vocabulary(pa.array(np.arange(1, num_items + 1)), np.ones(num_items, np.int64))
    similar = SimilarItems(table_VD, items, "cosine")
    peer = by_torch(table_VD, stretch)
    turns: dict[str, Callable[[], object]] = {
        "ours": lambda: similar.lists(1, stretch, K),
        "torch.topk": peer,
    }
    ours = similar.lists(1, stretch, K)["item_ids"].to_pylist()
    odd = sum(set(a) != set(b) for a, b in zip(ours, peer(), strict=True))
    if odd > stretch // 100:  # equal up to rounding at the end of a list
        raise AssertionError(f"{odd} of {stretch} lists differ")
    speed = harness.rates(turns, stretch, repeats, now)
    case = harness.case(
        f"{num_items:,} items, the {K} nearest",
        ours=round(speed["ours"], 1),
        peer=round(speed["torch.topk"], 1),
        peer_name="torch.topk",
        unit="items/s",
        ratio=round(speed["ours"] / speed["torch.topk"], 2),
        goal=1.0,
        minutes_for_all=round(num_items / speed["ours"] / 60, 1),
    )
    print(f"{case['case']}: {case['ours']:,.0f} items/s, torch.topk {case['peer']:,.0f}")
    where = harness.machine(f"{options.threads} threads")
    harness.report(options, "similar", where, [case], clock=options.clock)


if __name__ == "__main__":
    main()
