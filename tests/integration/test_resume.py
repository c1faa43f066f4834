"""Resuming in the middle of an epoch, with real worker processes and without Ray."""

import os
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from lightsans.config import ModelConfig, RunConfig, TrainConfig
from lightsans.dataset.sequences import UserSequences
from lightsans.training import collectives as distributed
from lightsans.training.checkpoint_clock import CheckpointClock
from lightsans.training.progress import Progress
from lightsans.training.trainer import MidEpoch, Trainer
from pipelines.train.errors import explain

NUM_ITEMS, SHARDS, SAVED_STEP = 30, 4, 3


def config_of(dropout: float) -> RunConfig:
    model = ModelConfig(
        max_seq_len=8,
        hidden_size=16,
        inner_size=16,
        n_layers=1,
        k_interests=2,
        hidden_dropout_prob=dropout,
        attn_dropout_prob=dropout,
    )
    train = TrainConfig(virtual_shards=SHARDS, batch_size=16, epochs=2, clip_norm=1.0)
    return RunConfig(model=model, train=train)


def sequences(shard: int) -> UserSequences:
    random = np.random.default_rng(shard)
    lengths = random.integers(3, 15, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return UserSequences(random.integers(1, NUM_ITEMS, offsets[-1]).astype(np.int32), offsets)


def by_one_sum(module: nn.Module) -> nn.Module:
    """Gradients are averaged after all are ready, as where there is little to train."""
    return module


WAYS = [(wrap, dropout) for wrap in (DistributedDataParallel, by_one_sum) for dropout in (0.0, 0.2)]


def work(rank: int, world_size: int, directory: str) -> None:
    """Train as one of some workers, interrupted and not; worker 0 writes what came out."""
    torch.set_num_threads(1)
    place = Path(directory)
    dist.init_process_group(
        "gloo", init_method=f"file://{place}/group", rank=rank, world_size=world_size
    )
    for wrap, dropout in WAYS:
        name = f"{wrap.__name__}-{dropout}"
        for resume in (False, True):
            config, checkpoint = config_of(dropout), place / f"{name}.pt"
            trained = train(config, rank, world_size, checkpoint, resume, wrap)
            if rank == 0:
                torch.save(trained, place / f"{name}-{resume}.pt")
            dist.barrier()
    dist.destroy_process_group()


def train(
    config: RunConfig, rank: int, world_size: int, checkpoint: Path, resume: bool, wrap=by_one_sum
):
    """All losses and the final weights; writes or reads the checkpoint of a certain step."""
    users = {shard: sequences(shard) for shard in range(rank, SHARDS, world_size)}
    trainer = Trainer(config, NUM_ITEMS, users, torch.device("cpu"), wrap=wrap)
    if resume:
        weights, state, progress = torch.load(checkpoint)
        trainer.restore(weights, state, Progress.from_json(progress))

    def save() -> None:
        partial = trainer.progress.partial
        assert partial is not None
        assert len(partial.loss_sums) == world_size
        if rank == 0 and partial.step == SAVED_STEP and len(trainer.progress.history) == 1:
            content = (trainer.weights(), trainer.state(), trainer.progress.to_json())
            torch.save(content, checkpoint)

    clock = CheckpointClock(SAVED_STEP, None, torch.device("cpu"))
    while not trainer.finished:
        trainer.run_epoch(None if resume else MidEpoch(clock, save))
    return [row.loss for row in trainer.progress.history], trainer.model.state_dict()


@pytest.fixture(scope="module")
def three_workers(tmp_path_factory) -> Path:
    """With two, sums would not depend on the order in which gradients are packed."""
    directory: Path = tmp_path_factory.mktemp("three")
    spawn(work, (3, str(directory)), nprocs=3, join=True)
    return directory


@pytest.mark.parametrize(("wrap", "dropout"), WAYS)
def test_resumed_runs_equal_uninterrupted_ones(three_workers, wrap, dropout):
    name = f"{wrap.__name__}-{dropout}"
    losses, weights = torch.load(three_workers / f"{name}-False.pt")
    resumed, resumed_weights = torch.load(three_workers / f"{name}-True.pt")
    assert resumed == losses
    assert all(torch.equal(resumed_weights[name], tensor) for name, tensor in weights.items())
    progress = Progress.from_json(torch.load(three_workers / f"{name}.pt")[2])
    assert progress.name == "epoch-00001-step-00000003"


@pytest.mark.parametrize("wrap", [DistributedDataParallel, by_one_sum])
def test_a_run_resumes_with_fewer_workers_and_the_same_batches(three_workers, wrap):
    name = f"{wrap.__name__}-0.0"
    losses, weights = torch.load(three_workers / f"{name}-False.pt")
    resumed, resumed_weights = train(config_of(0.0), 0, 1, three_workers / f"{name}.pt", True)
    np.testing.assert_allclose(resumed, losses, rtol=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(resumed_weights[name], tensor, rtol=1e-3, atol=1e-4)


def agree(rank: int, directory: str) -> None:
    """Two workers vote; then one of them waits for the other in vain."""
    place = Path(directory)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{place}/group",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=5),
    )
    device = torch.device("cpu")
    noticed = CheckpointClock(None, None, device, has_notice=lambda: rank == 1)
    answers = [noticed.is_due(step) for step in range(1, 4)]
    by_time = CheckpointClock(None, 1e-9 if rank == 0 else 3600.0, device)
    answers.append(by_time.is_due(1))
    assert distributed.from_first_worker(f"worker {rank}", device) == "worker 0"
    (place / f"answers-{rank}").write_text(str(answers))
    if rank == 1:  # does not come to the next collective
        while not (place / "explained").exists():
            time.sleep(0.05)
        os._exit(0)
    with pytest.raises(RuntimeError) as caught:
        distributed.max_over_workers(1, device)
    explained = explain(caught.value, TrainConfig(), "worker 0")
    (place / "explained").write_text(str(explained))
    os._exit(0)


def test_workers_agree_on_checkpoints_and_name_the_time_out_when_they_wait_in_vain(tmp_path):
    """One machine's notice is heeded by all, once; so is one worker's clock."""
    spawn(agree, (str(tmp_path),), nprocs=2, join=True)
    answers = {(tmp_path / f"answers-{rank}").read_text() for rank in range(2)}
    assert answers == {str([True, False, False, True])}
    text = (tmp_path / "explained").read_text()
    assert "worker 0 waited" in text
    assert "train.collective_timeout_s" in text
