"""The whole scoring stage against its arithmetic alone, and its memory as users grow.

    python benchmarks/score.py [--smoke] [--json] [--users 1000000] [--part speed|memory|all]

Speed: the stage from its start to its manifest — processes started, sequences read, lists written
and checked, the report made — against the encoder and top-K alone, on sequences that are in memory
already, by as many processes of one thread each, before and after. Memory: the most that all
processes hold at once (proportional set size: what they share, the object store included, counts
once), with half a million users and with two.
"""

import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from lightsans.config import ModelConfig, RunConfig, StorageConfig
from lightsans.config.file import load_config
from lightsans.dataset.loading import list_column
from lightsans.dataset.samples import gather
from lightsans.dataset.sequences import UserSequences
from lightsans.model.network import LightSANs
from lightsans.ranking.top_k import ItemIndex
from lightsans.storage.location import Location, locate
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model

PROCESSES, TURNS, K = 2, 2, 100
USERS_PER_PART, BATCH, ENCODED_AT_ONCE = 40_000, 1024, 256
ALONE_USERS = 12_000
"""Scored by each process in each of the two measurements of the arithmetic alone."""
MEMORY_USERS = (500_000, 2_000_000)
MEMORY_SETTINGS = {"items": 3_700, "history": 10, "k": 10}
MEMORY_MODEL = ModelConfig(
    hidden_size=16, inner_size=16, n_layers=1, n_heads=1, k_interests=2, max_seq_len=10
)
"""Cheaper users: what matters is their number."""
SPEED_GOAL, MEMORY_GOAL = 0.7, 0.95
SAMPLE_EVERY_S = 0.5

Barrier = Any
Queue = Any


def make_inputs(
    root: Location, users: int, items: int, history: int, model: ModelConfig | None = None
) -> None:
    """A dataset ``d`` and a model ``m``, of the default size unless given."""
    parts = max(8, -(-users // USERS_PER_PART))
    write_synthetic_dataset(
        root / "datasets" / "d", users, items, history=history, num_parts=parts, newcomers=0
    )
    write_synthetic_model(root / "models" / "m", model or ModelConfig(), items, "d")


def score_alone(root: Location, part: int, users: int, k: int) -> tuple[int, float]:
    """Encode users of one part and find their lists: how many, in how many seconds."""
    torch.set_num_threads(1)
    model = LightSANs.from_pretrained(root / "models" / "m")
    index = ItemIndex(model.item_table())
    names = (root / "datasets" / "d" / "sequences").children()
    rows = (root / "datasets" / "d" / "sequences" / names[part % len(names)]).read_table()
    histories = list_column(rows.slice(0, users), "item_ids")
    count = len(histories.lengths)
    _score_batch(model, index, histories, 0, min(BATCH, count), k)  # compiles, allocates
    started = time.perf_counter()
    for first in range(0, count, BATCH):
        _score_batch(model, index, histories, first, min(first + BATCH, count), k)
    return count, time.perf_counter() - started


@torch.inference_mode()
def _score_batch(
    model: Any, index: ItemIndex, histories: UserSequences, first: int, end: int, k: int
) -> None:
    begins, lengths = histories.offsets[first:end], histories.lengths[first:end]
    newest = np.minimum(lengths, model.config.max_seq_len)
    starts = begins + lengths - newest
    vectors = [
        model.encode(
            torch.from_numpy(gather(histories.item_ids, starts[p], newest[p])),
            torch.from_numpy(newest[p]),
        )
        for p in np.array_split(np.arange(end - first), max(1, (end - first) // ENCODED_AT_ONCE))
    ]
    rows = torch.from_numpy(np.repeat(np.arange(end - first), lengths))
    seen = histories.item_ids[begins[0] : begins[-1] + lengths[-1]].astype(np.int64)
    index.top_k(torch.cat(vectors), k, rows, torch.from_numpy(seen))


def _alone_process(
    uri: str, part: int, users: int, k: int, barrier: Barrier, results: Queue
) -> None:
    root = locate(uri, StorageConfig())
    for _ in range(TURNS):
        barrier.wait()
        results.put(score_alone(root, part, users, k))


class AloneProcesses:
    """`PROCESSES` processes that do the arithmetic alone at the same time, `TURNS` times."""

    def __init__(self, root: Location, users: int, k: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._barrier, self._results = context.Barrier(PROCESSES + 1), context.Queue()
        shared = (self._barrier, self._results)
        for i in range(PROCESSES):
            # Daemons: they end with this process, whatever goes wrong.
            context.Process(
                target=_alone_process, args=(root.uri, i, users, k, *shared), daemon=True
            ).start()

    def measure(self) -> float:
        """Users a second, of all together."""
        self._barrier.wait()
        found = [self._results.get() for _ in range(PROCESSES)]
        return float(sum(count / seconds for count, seconds in found))


def configure(root: Location, k: int) -> RunConfig:
    """Two processes from the start."""
    settings = [f"root={root.uri}", f"score.k={k}", f"score.num_workers={PROCESSES}"]
    return load_config(None, [*settings, f"score.min_workers={PROCESSES}"]).config


def run_stage(root: Location, k: int) -> float:
    """Seconds of the stage from nothing, Ray running already."""
    from pipelines.score.stage import run_score
    from pipelines.session.ray_session import ensure_ray

    ensure_ray()
    started = time.perf_counter()
    run_score(configure(root, k), "d", "m", force=True)
    return time.perf_counter() - started


def run_speed(users: int, items: int, history: int, k: int, alone_users: int) -> dict[str, Any]:
    """The stage, between two measurements of its arithmetic alone."""
    with tempfile.TemporaryDirectory(prefix="score-") as directory:
        root = locate(directory, StorageConfig())
        make_inputs(root, users, items, history)
        alone_processes = AloneProcesses(root, alone_users, k)
        before = alone_processes.measure()
        seconds = run_stage(root, k)
        after = alone_processes.measure()
    alone, speed = (before + after) / 2, users / seconds
    return harness.case(
        f"{users:,} users, histories of {history}, {items:,} items, K {k}",
        ours=round(speed, 1),
        peer=round(alone, 1),
        peer_name="encoder and top-K alone",
        unit="users/s",
        ratio=_three_digits(speed / alone),
        goal=SPEED_GOAL,
        all={"before": round(before, 1), "after": round(after, 1), "seconds": round(seconds, 1)},
    )


class PeakMemory(threading.Thread):
    """Samples the memory of this process and all below it until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._stopped = threading.Event()

    def run(self) -> None:
        """Keep the largest sum."""
        while not self._stopped.wait(SAMPLE_EVERY_S):
            self.peak_bytes = max(self.peak_bytes, _memory_of_tree(os.getpid()))

    def stop(self) -> int:
        """The peak, in bytes."""
        self._stopped.set()
        self.join()
        return self.peak_bytes


def _memory_of_tree(root: int) -> int:
    """Proportional set size of a process and its descendants, in bytes."""
    children: dict[int, list[int]] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((directory / "stat").read_text().rpartition(") ")[2].split()[1])
        except OSError:  # it ended
            continue
        children.setdefault(parent, []).append(int(directory.name))
    total, pending = 0, [root]
    while pending:
        process = pending.pop()
        pending += children.get(process, [])
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


def _peak_in_process(uri: str, k: int, results: Queue) -> None:
    peak = PeakMemory()
    peak.start()
    run_stage(locate(uri, StorageConfig()), k)
    results.put(peak.stop())


def run_memory(counts: tuple[int, int], items: int, history: int, k: int) -> dict[str, Any]:
    """Peaks of two runs, each in a process and on a Ray of its own."""
    context = multiprocessing.get_context("spawn")
    peaks = []
    for users in counts:
        with tempfile.TemporaryDirectory(prefix="score-") as directory:
            root = locate(directory, StorageConfig())
            make_inputs(root, users, items, history, MEMORY_MODEL)
            results = context.Queue()
            process = context.Process(target=_peak_in_process, args=(root.uri, k, results))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"the run with {users:,} users failed; its error is above")
            peaks.append(results.get() / 2**20)
    return harness.case(
        f"peak memory with {counts[1]:,} users, against {counts[0]:,}",
        ours=round(peaks[1], 1),
        peer=round(peaks[0], 1),
        peer_name=f"{counts[0]:,} users",
        unit="MiB",
        ratio=_three_digits(peaks[0] / peaks[1]),
        goal=MEMORY_GOAL,
    )


def _three_digits(ratio: float) -> float:
    """Significant ones: a few users take the stage hundreds of times their arithmetic."""
    return float(f"{ratio:.3g}")


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--part", choices=("speed", "memory", "all"), default="all")
    options = harness.parse(parser)
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cases = []
    if options.smoke:
        cases.append(run_speed(2_000, 500, 10, 10, 500))
    if options.part != "memory" and not options.smoke:
        cases.append(run_speed(options.users, 60_000, 50, K, ALONE_USERS))
    if options.part != "speed" and not options.smoke:
        cases.append(run_memory(MEMORY_USERS, **MEMORY_SETTINGS))
    for case in cases:
        print(
            f"{case['case']}: {case['ours']:,.0f} {case['unit']}; {case['peer_name']} "
            f"{case['peer']:,.0f}: {case['ratio']} (goal {case['goal']})"
        )
    harness.report(
        options,
        "score",
        harness.machine(f"{PROCESSES} processes"),
        cases,
    )


if __name__ == "__main__":
    main()
