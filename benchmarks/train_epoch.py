"""Whole epochs: Ray Train against a bare loop, two workers against two threads, and loading.

    make bench NAME=train_epoch ARGS="[--smoke] [--json]"

The bare loop has the same processes, threads, batches and model: forward, loss, backward through
DDP, Adam, with all batches of the epoch made beforehand. An epoch of ours also plans and makes its
batches, exchanges counts, seeds every step, follows loss and gradient norm, and votes about
checkpoints; validation is left out of both. The loop runs once with the machine to itself, and once
beside a Ray Train whose workers wait: what Ray's own processes take. All take turns, and the best
epoch of each counts: other work on the machine only ever slows one down.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from benchmarks import harness
from lightsans import LightSANs
from lightsans.config import ModelConfig, RunConfig, TrainConfig
from lightsans.dataset.loading import load_shards
from lightsans.losses.objective import NextItemObjective
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest
from lightsans.synthetic.directories import write_synthetic_dataset
from lightsans.training.batches import RankEpoch

DATASET = "d"


def make_config(root: str, smoke: bool, workers: int, epochs: int) -> RunConfig:
    """The recipe for ML-100K; early stopping off."""
    model = ModelConfig(
        max_seq_len=8 if smoke else 50, hidden_dropout_prob=0.2, attn_dropout_prob=0.2
    )
    train = TrainConfig(num_workers=workers, epochs=epochs, patience=0, batch_size=32)
    return RunConfig(root=root, model=model, train=train)


def write_dataset(directory: Location, smoke: bool) -> None:
    """Sequences of the size of ML-100K."""
    users, items, history = (60, 40, 20) if smoke else (943, 1_682, 106)
    write_synthetic_dataset(directory, users, items, history=history, num_parts=4, newcomers=0.0)


@contextmanager
def ray_of(threads: int) -> Iterator[None]:
    """A Ray of this process, whose workers have so many threads."""
    import ray

    from pipelines.embedded.start import have_dashboard, quick_start

    environment = {"OMP_NUM_THREADS": str(threads)}
    with quick_start():
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": environment},
        )
    have_dashboard()
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def idle_ray_train(workers: int, directory: str) -> Iterator[None]:
    """Ray Train with workers that do nothing, on the Ray at hand: what runs beside our training."""
    from ray.train import RunConfig as RayRunConfig
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    begun, ended = Path(directory) / "begun", Path(directory) / "ended"

    def wait() -> None:
        begun.touch()
        while not ended.exists():
            time.sleep(0.5)

    trainer = TorchTrainer(
        wait,
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RayRunConfig(storage_path=directory),
    )
    thread = threading.Thread(target=trainer.fit)
    thread.start()
    while not begun.exists():
        time.sleep(0.1)
    try:
        yield
    finally:
        ended.touch()
        thread.join()


def through_ray(config: RunConfig) -> list[dict[str, Any]]:
    """The learning curve of a run on the Ray at hand."""
    from pipelines.train import task_group
    from pipelines.train.stage import run_train

    task_group.USERS_WORTH_RAY_TRAIN = 0  # what is compared is Ray Train, however few there are
    result = run_train(config, DATASET, force=True)
    history: list[dict[str, Any]] = json.loads((result.location / "history.json").read_bytes())
    return history


def load_epoch(config: RunConfig, shards: list[int], epoch: int) -> tuple[RankEpoch, int]:
    """One rank's batches of an epoch, and the number of items."""
    dataset = locate(config.root, config.storage) / "datasets" / DATASET
    manifest = require_manifest(DatasetManifest, dataset, "the benchmark writes it")
    users = load_shards(dataset, manifest, shards, config.train.virtual_shards)
    num_items = manifest.items
    batches = RankEpoch(users, epoch, config, num_items)
    # Shards are as long as each other, but for a batch.
    batches.set_num_steps(batches.longest_shard)
    return batches, num_items


def bare_worker(rank: int, config: RunConfig, threads: int, epochs: int, directory: str) -> None:
    """The loop that Ray Train is compared with; rank 0 writes the targets/s of each epoch."""
    torch.set_num_threads(threads)
    workers = config.train.most_workers
    dist.init_process_group(
        "gloo", init_method=f"file://{directory}/group", rank=rank, world_size=workers
    )
    shards = list(range(rank, config.train.virtual_shards, workers))
    batches, num_items = load_epoch(config, shards, 0)
    steps = torch.tensor(batches.longest_shard)
    dist.all_reduce(steps, dist.ReduceOp.MAX)
    batches.set_num_steps(int(steps))
    made = [batches.batch(step) for step in range(int(steps))]
    targets = torch.from_numpy(batches.targets_per_step().astype(np.float64))
    dist.all_reduce(targets)
    torch.manual_seed(0)
    objective = NextItemObjective(LightSANs(config.model, num_items)).train()
    module = DistributedDataParallel(objective) if workers > 1 else objective
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3, fused=True)
    speeds = []
    for _ in range(epochs):
        dist.barrier()
        started = time.perf_counter()
        for batch, total in zip(made, targets.tolist(), strict=True):
            optimizer.zero_grad(set_to_none=True)
            arrays = (batch.item_ids, batch.lengths, batch.target_ids)
            loss = module(*(torch.from_numpy(array) for array in arrays))
            (loss * (workers / total)).backward()
            optimizer.step()
        speeds.append(float(targets.sum()) / (time.perf_counter() - started))
    if rank == 0:
        (Path(directory) / "speeds.json").write_text(json.dumps(speeds))
    dist.destroy_process_group()


def bare(config: RunConfig, threads: int, epochs: int) -> float:
    """The best epoch's targets/s of the bare loop."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        workers = config.train.most_workers
        arguments = (config, threads, epochs, directory)
        spawn(bare_worker, arguments, nprocs=workers)  # type: ignore[no-untyped-call]
        return float(max(json.loads((Path(directory) / "speeds.json").read_text())))


def loader_speed(config: RunConfig, epochs: int) -> float:
    """Targets/s of planning epochs and making their batches, in one process."""
    speeds = []
    dataset = locate(config.root, config.storage) / "datasets" / DATASET
    manifest = require_manifest(DatasetManifest, dataset, "the benchmark writes it")
    shards = list(range(config.train.virtual_shards))
    users = load_shards(dataset, manifest, shards, config.train.virtual_shards)
    for epoch in range(epochs):
        started = time.perf_counter()
        batches = RankEpoch(users, epoch, config, manifest.items)
        batches.set_num_steps(batches.longest_shard)
        targets = batches.targets_per_step().sum()
        for step in range(batches.longest_shard):
            batches.batch(step)
        speeds.append(float(targets) / (time.perf_counter() - started))
    return max(speeds)


def speed(history: list[dict[str, Any]]) -> float:
    """The best epoch's targets/s."""
    return float(max(row["targets"] / row["train_s"] for row in history))


def case(name: str, ours: float, peer: float, goal: float, **more: Any) -> dict[str, Any]:
    """One line of the report."""
    return harness.case(
        name,
        ours=round(ours),
        peer=round(peer),
        unit="targets/s",
        ratio=round(ours / peer, 2),
        goal=goal,
        **more,
    )


def measure(root: str, smoke: bool, epochs: int, turns: int) -> list[dict[str, Any]]:
    """All cases, one after the other."""
    two = make_config(root, smoke, 2, epochs)
    one = replace(two, train=replace(two.train, num_workers=1))
    write_dataset(locate(root, two.storage) / "datasets" / DATASET, smoke)
    found: dict[int, list[dict[str, Any]]] = {}
    cases = []
    for config, threads in ((two, 1), (one, 2)):
        workers = config.train.most_workers
        found[workers], loop, beside = [], 0.0, 0.0
        for _ in range(turns):
            loop = max(loop, bare(config, threads, epochs))
            with ray_of(threads):
                found[workers] += through_ray(config)
                with (
                    tempfile.TemporaryDirectory() as directory,
                    idle_ray_train(workers, directory),
                ):
                    beside = max(beside, bare(config, threads, epochs))
        name = f"Ray Train against the bare loop, {workers} x {threads} threads"
        cases.append(case(name, speed(found[workers]), loop, 0.9))
        cases.append(case(f"{name}, beside an idle Ray Train", speed(found[workers]), beside, 0.9))
    share = min(row["communication_s"] / row["train_s"] for row in found[2])
    cases.append(
        case(
            "2 workers against 1 worker with 2 threads",
            speed(found[2]),
            speed(found[1]),
            1.0,
            communication_share=round(share, 3),
        )
    )
    cases.append(
        case(
            "one process loading against two workers training",
            loader_speed(one, epochs),
            speed(found[2]),
            5.0,
        )
    )
    return cases


def main() -> None:
    """Parse, measure and report."""
    parser = harness.make_parser(__doc__, "seconds: few users, no goals")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    options = harness.parse(parser)
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory(prefix="lightsans-bench-") as root:
        epochs, turns = (2, 1) if options.smoke else (options.epochs, options.turns)
        cases = measure(root, options.smoke, epochs, turns)
    for entry in cases:
        print(f"{entry['case']}: {entry['ours']:,} / {entry['peer']:,} = {entry['ratio']}")
    harness.report(
        options,
        "train_epoch",
        harness.machine(f"{os.cpu_count()} cores"),
        cases,
        torch=torch.__version__,
    )


if __name__ == "__main__":
    main()
