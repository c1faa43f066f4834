"""Costs of many files, parts and hosts beside the work itself, on hosts of one machine.

python -m tests.hosts.scale [--hosts 8] [--parts 1024] [--files 20000] [--rows 100000]

The same rows are computed twice: in few files and parts, and in many. The work is the same, so the
difference is what files, parts and their tasks cost. Times are processor time: hosts share cores.
"""

import argparse
import json
import shlex
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

from tests.hosts.cluster import HostCluster, host_cluster, settings
from tests.s3_server import BUCKET

STAGES = ("preprocess", "train", "evaluate", "score")
FEW_FILES, FEW_PARTS = 8, 4
COLUMNS = (
    *("shape", "stage", "driver, s", "its MB", "head, s", "workers, s", "storage, s", "wall, s"),
    *("requests", "of which"),
)
TIMED = "/usr/local/bin/timed-python"
DRIVER = "/tmp/driver.json"
WRAPPER = f"""#!/bin/sh
exec python -c '
import json, resource, subprocess, sys
status = subprocess.call([sys.executable, *sys.argv[1:]])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open("{DRIVER}", "w") as file:
    json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss * 1024], file)
sys.exit(status)' "$@"
"""
"""Interpreter of jobs that notes processor time and largest memory of the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Costs of a stage."""

    stage: str
    driver_s: float
    driver_bytes: int
    """Largest memory of the driver."""
    head_s: float
    """Processor time of the head beside the driver: Ray's control store, dashboard and agents."""
    workers_s: float
    storage_s: float
    wall_s: float
    requests: dict[str, int]

    def row(self, shape: str) -> str:
        """Row of the table."""
        words = [shape, self.stage, f"{self.driver_s:.1f}", f"{self.driver_bytes / 1e6:.0f}"]
        words += [f"{self.head_s:.1f}", f"{self.workers_s:.1f}", f"{self.storage_s:.1f}"]
        words += [f"{self.wall_s:.0f}", f"{sum(self.requests.values()):,}"]
        words += [", ".join(f"{kind} {count:,}" for kind, count in self.requests.items())]
        return f"| {' | '.join(words)} |"


def measure(cluster: HostCluster, stage: str, words: list[str], limit_s: float) -> Cost:
    """Run a stage as a job from outside."""
    before, began = cluster.requests(), time.monotonic()
    used = Counter(spent(cluster))
    command = [stage, *words, "--json", "--cluster-python", TIMED]
    done = cluster.submit(*command, limit_s=limit_s)
    if done.returncode:
        sys.exit(f"{stage}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-6000:]}")
    wall_s = time.monotonic() - began
    now = spent(cluster)
    delta = {name: now[name] - used[name] for name in now}
    driver_s, driver_bytes = json.loads(cluster.head.read(DRIVER))
    made = cluster.requests() - before
    return Cost(
        stage=stage,
        driver_s=driver_s,
        driver_bytes=driver_bytes,
        head_s=delta["head"] - driver_s,
        workers_s=delta["workers"],
        storage_s=delta["storage"],
        wall_s=wall_s,
        requests=dict(sorted(made.items())),
    )


def spent(cluster: HostCluster) -> dict[str, float]:
    """Processor seconds so far of head, workers and storage."""
    return {
        "head": cluster.head.cpu_s(),
        "workers": sum(worker.cpu_s() for worker in cluster.workers),
        "storage": cluster.storage.cpu_s(),
    }


def run_shape(
    cluster: HostCluster, options: argparse.Namespace, shape: str, files: int, parts: int
) -> list[Cost]:
    """Fill a log into files, and run all stages on it."""
    fill = cluster.s3_words("fill", shape, str(files), str(options.rows))
    cluster.outside.must(*fill, limit_s=900)
    own = [f"data.input=s3://{BUCKET}/{shape}/*.csv", f"data.num_parts={parts}"]
    own += [f"score.num_workers={options.hosts}", "train.num_workers=2", "train.virtual_shards=2"]
    costs = []
    for stage in options.stages.split(","):
        costs.append(measure(cluster, stage, settings(f"scale-{shape}", *own), options.limit))
        print(costs[-1].row(shape), flush=True)
    return costs


def main() -> None:
    """Run the stages on both shapes; a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--parts", type=int, default=1024)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--limit", type=float, default=1500, help="seconds that a stage may take")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--shapes", default="few,many")
    options = parser.parse_args()
    with host_cluster([1] * options.hosts, counts_cpu=True) as cluster:
        cluster.head.write(TIMED, WRAPPER)
        cluster.head.must("chmod", "+x", TIMED)
        print(f"{shlex.join(sys.argv)}\n")
        print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
        sizes = {"few": (FEW_FILES, FEW_PARTS), "many": (options.files, options.parts)}
        costs = {
            shape: run_shape(cluster, options, shape, *sizes[shape])
            for shape in options.shapes.split(",")
        }
    print(json.dumps({shape: [asdict(cost) for cost in made] for shape, made in costs.items()}))


if __name__ == "__main__":
    main()
