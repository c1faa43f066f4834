"""Processor seconds of all processes of a pipeline on little data, against another checkout.

    python -m benchmarks.fixed_cost [--against ../other-checkout] [--rounds 3] [--json]

What is measured is what every run pays: Ray's start, processes that start and import, the end. The
command is ``pipeline`` with ``pipelines/configs/debug.yaml``, each time in an empty root, on logs
of 100,000 and 10,000 rows. With ``--against`` the two checkouts take turns, in one environment; of
several rounds the one that took least counts. Linux only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import case, machine, make_parser, parse, report
from lightsans.synthetic.logs import generate_blocks, write_inter
from pipelines.session.process_tree import ProcessorClock

HERE = Path(__file__).parents[1]
ROWS = [100_000, 10_000]
"""Sizes of the logs."""


class Cost(NamedTuple):
    """Cost of one run."""

    processor_s: float
    wall_s: float
    processes: int


def run_pipeline(checkout: Path, log: Path, settings: list[str]) -> Cost:
    """Run the pipeline of a checkout on a log, in an empty root."""
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "submit.py", "pipeline"]
        command += ["--config", "pipelines/configs/debug.yaml"]
        for setting in (f"root={root}", f"data.input={log}", *settings):
            command += ["--set", setting]
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        environment.pop("RAY_ADDRESS", None)
        began = time.monotonic()
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(
                command, cwd=checkout, env=environment, stdout=said, stderr=said
            ) as process,
        ):
            clock = ProcessorClock(process.pid)
            with clock.watching():
                status = process.wait()
            if status != 0:
                said.seek(0)
                raise SystemExit(f"{checkout}: status {status}\n{said.read().decode()}")
    if clock.seconds is None:
        raise SystemExit("this system does not tell processor time of processes; use Linux")
    return Cost(clock.seconds, time.monotonic() - began, clock.processes)


def measure(options: argparse.Namespace, log: Path, rounds: int) -> dict[str, Cost]:
    """Cost of each checkout, in turns; of several rounds the least processor time."""
    checkouts = {"ours": HERE}
    if options.against is not None:
        checkouts["peer"] = options.against.absolute()
    settings = ["train.epochs=1"] if options.smoke else []
    found: dict[str, Cost] = {}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            cost = run_pipeline(checkout, log, settings)
            print(
                f"{checkout}: {cost.processor_s:.1f} processor seconds, {cost.wall_s:.1f} s, "
                f"{cost.processes} processes"
            )
            found[name] = min(found.get(name, cost), cost)
    return found


def main() -> None:
    """Measure, print, report."""
    parser = make_parser(__doc__)
    parser.add_argument("--against", type=Path, help="another checkout, for example a worktree")
    parser.add_argument("--rounds", type=int, default=3)
    options = parse(parser)
    rows_of_logs, rounds = ([2_000], 1) if options.smoke else (ROWS, options.rounds)
    cases = []
    for rows in rows_of_logs:
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / "log.inter"
            write_inter(log, generate_blocks(max(rows // 50, 100), 300, rows, seed=1))
            found = measure(options, log, rounds)
        ours, peer = found["ours"], found.get("peer")
        cases.append(
            case(
                f"pipeline, {rows:,} rows",
                ours=round(ours.processor_s, 2),
                peer=None if peer is None else round(peer.processor_s, 2),
                unit="processor s",
                ratio=None if peer is None else round(peer.processor_s / ours.processor_s, 3),
                goal=None,
                processes=ours.processes,
                wall_s=round(ours.wall_s, 2),
                peer_processes=None if peer is None else peer.processes,
            )
        )
        print(cases[-1])
    report(options, "fixed_cost", machine(f"{os.cpu_count()} cores"), cases)


if __name__ == "__main__":
    main()
