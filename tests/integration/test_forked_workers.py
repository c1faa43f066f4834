"""Workers of a Ray that was started with `quick_start`: forked, and like any other."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from pipelines.embedded import workers
from pipelines.session.process_tree import read_tree
from tests.commands import ROOT, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")


class Teller:
    """Tells what its process is like."""

    def tell(self) -> dict[str, Any]:
        import numpy as np
        import torch

        return {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "object": ray.put(0).hex(),
            "drawn": float(np.random.random()),
            "threads": torch.get_num_threads(),
            "threads of ray": os.environ["OMP_NUM_THREADS"],
            "groups": ray.util.placement_group([{"CPU": 0.001}]).id.hex(),
        }


def test_each_worker_is_forked_and_draws_ids_and_numbers_of_its_own(ray_cluster):
    server = workers._server
    assert server is not None
    threads = Path(f"/proc/{server.pid}/task").glob("*/comm")
    names = {thread.read_text().strip() for thread in threads}
    assert names <= {"python", "jemalloc_bg_thd"}, "a thread that may hold a lock when it forks"
    actor = ray.remote(num_cpus=0.5)(Teller)
    actors: list[Any] = [actor.remote() for _ in range(3)]
    told = ray.get([each.tell.remote() for each in actors])
    assert {each["parent"] for each in told} == {server.pid}
    for name in ("pid", "object", "drawn", "groups"):
        assert len({each[name] for each in told}) == 3, name
    assert {str(each["threads"]) for each in told} == {each["threads of ray"] for each in told}
    for each in actors:
        ray.kill(each)
    assert wait_until(lambda: not any(read_tree(each["pid"]) for each in told))


def test_a_worker_that_dies_is_replaced(ray_cluster):
    actor: Any = ray.remote(num_cpus=0.5, max_restarts=1, max_task_retries=2)(Teller)
    teller = actor.remote()
    before = ray.get(teller.tell.remote())["pid"]
    os.kill(before, signal.SIGKILL)
    assert ray.get(teller.tell.remote())["pid"] != before
    ray.kill(teller)


def test_neither_workers_nor_their_server_outlive_a_driver_that_is_killed(tmp_path: Path):
    script = """
import os, sys, time
import ray
from pipelines.embedded import workers
from pipelines.session.ray_session import ensure_ray
ensure_ray()
worker = ray.get(ray.remote(lambda: os.getpid()).remote())
print(workers._server.pid, worker, flush=True)
time.sleep(60)
"""
    driver = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert driver.stdout is not None
    processes = [int(word) for word in driver.stdout.readline().split()]
    assert len(processes) == 2
    assert all(read_tree(each) for each in processes)
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert wait_until(lambda: not any(read_tree(each) for each in processes))
