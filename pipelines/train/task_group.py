"""Workers of a small training as tasks, in processes that earlier stages have left.

Ray Train starts a controller, four helpers and every worker as new processes with their imports:
for few users they take longer than the training. Here the driver watches the workers: when one
of them fails, all end, and start again from the newest checkpoint.
"""

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lightsans.config import RunConfig
from lightsans.errors import LightSANsError, TrainingError
from lightsans.scratch import scratch_directory
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest
from pipelines.session.clusters import is_cluster
from pipelines.session.cpus import set_torch_threads
from pipelines.train.errors import StuckError, explain
from pipelines.train.job import WorkerJob

USERS_WORTH_RAY_TRAIN = 20_000
"""Users up to which starting Ray Train weighs more than what it does better."""
_END_S = 30.0
"""Time in which the workers that are left are expected to end."""


class WorkersFailedError(Exception):
    """Workers of a group that failed; the rest of it was ended.

    Args:
        worker_failures: Their errors, by rank.
    """

    def __init__(self, worker_failures: dict[int, BaseException]) -> None:
        self.worker_failures = worker_failures
        told = (f"worker {rank}: {error}" for rank, error in sorted(worker_failures.items()))
        super().__init__("; ".join(told))


def suits(config: RunConfig, dataset: Location) -> bool:
    """Whether tasks may train: few users, as many workers as asked for, on one machine's CPUs.

    A Ray that others use, too, might run one of several workers and keep the rest waiting.
    """
    train = config.train
    if train.use_gpu or train.least_workers != train.most_workers:
        return False
    if is_cluster() and train.most_workers > 1:
        return False
    machines = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(machines) > 1:
        return False  # machines may be taken away, of which Ray Train hears before
    if machines[0]["Resources"].get("CPU", 0) < train.most_workers:
        return False  # the head of a cluster whose machines with CPUs are not there yet
    manifest = require_manifest(DatasetManifest, dataset, "it was removed while training")
    return manifest.users <= USERS_WORTH_RAY_TRAIN


def train_in_tasks(job: WorkerJob) -> None:
    """Train until the last epoch or early stopping.

    Raises:
        TrainingError: Memory does not suffice, a worker waited in vain for the others, or more
            workers were lost than ``train.max_failures`` allows.
        LightSANsError: A worker's own, where the board could not keep it.
    """
    train = job.config.train
    for failures in range(1, train.max_failures + 2):
        try:
            _run_once(job)
            return
        except WorkersFailedError as error:
            if job.board.error() is not None:  # a restart cannot mend it
                return
            _raise_own(error)
            if failures <= train.max_failures:
                continue
            own = explain(error, train, "training")
            raise own or TrainingError(
                f"workers ended {failures} times, train.max_failures={train.max_failures}, the "
                f"last time {error}"
            ) from error


def _raise_own(error: WorkersFailedError) -> None:
    """Raise what a worker told that a restart cannot mend, and a full disk kept off the board."""
    for failure in error.worker_failures.values():
        if isinstance(failure, LightSANsError) and not isinstance(failure, StuckError):
            raise failure from None


def _run_once(job: WorkerJob) -> None:
    num_workers = job.config.train.most_workers
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = _train_worker.options(
        name="TrainWorker", num_cpus=1, max_retries=0, scheduling_strategy=here
    )
    with scratch_directory() if num_workers > 1 else nullcontext() as directory:
        refs = [task.remote(job, rank, f"{directory}/workers") for rank in range(num_workers)]
        try:
            _wait_for_all(refs)
        finally:
            _end(refs)


def _wait_for_all(refs: list[Any]) -> None:
    """Wait until all have ended, or one has failed.

    Raises:
        WorkersFailedError: One has failed.
    """
    pending = list(refs)
    while pending:
        [ready], pending = ray.wait(pending, num_returns=1)
        try:
            ray.get(ready)
        except Exception as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            raise WorkersFailedError({refs.index(ready): cause}) from error


def _end(refs: list[Any]) -> None:
    """End the workers that still work; one that waits for another may wait for long."""
    _, working = ray.wait(refs, num_returns=len(refs), timeout=0)
    for ref in working:
        ray.cancel(ref, force=True)
    ray.wait(refs, num_returns=len(refs), timeout=_END_S)


@ray.remote
def _train_worker(job: WorkerJob, rank: int, meeting: str) -> None:
    """Train as one worker.

    Args:
        job: The job of all workers.
        rank: Its number.
        meeting: A file by which several workers find each other.
    """
    import torch
    import torch.distributed as dist

    from pipelines.train.worker import Place, train_worker

    set_torch_threads()
    train = job.config.train
    # Without DDP, which imports PyTorch's compiler: gradients are averaged after all are ready.
    place = Place(torch.device("cpu"))
    if train.most_workers == 1:
        train_worker(job, place)
        return
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=train.most_workers,
        timeout=timedelta(seconds=train.collective_timeout_s),
    )
    try:
        train_worker(job, place)
    finally:
        dist.destroy_process_group()
