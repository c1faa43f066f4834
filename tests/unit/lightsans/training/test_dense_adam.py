"""Our Adam beside PyTorch's, bit for bit, and what it does not import."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lightsans.training.dense_adam import DenseAdam, Group

ROOT = Path(__file__).parents[4]
SHAPES = [(7, 4), (4,), (3, 3)]
"""The last one has no gradient."""


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def set_gradients(tensors: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for tensor in tensors[:-1]:
        tensor.grad = torch.randn(tensor.shape, generator=generator)


def named(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}


@pytest.mark.parametrize("is_decoupled", [False, True], ids=["adam", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_weights_and_state_are_those_of_pytorch(is_decoupled, decay):
    kind = torch.optim.AdamW if is_decoupled else torch.optim.Adam
    theirs, ours = parameters(), parameters()
    groups = [{"params": theirs[:1], "weight_decay": decay}, {"params": theirs[1:]}]
    expected = kind(groups, lr=0.1, weight_decay=0.0, fused=True)
    adam = DenseAdam([Group(ours[:1], decay), Group(ours[1:], 0.0)], 0.1, is_decoupled)
    for step in range(4):
        set_gradients(theirs, step)
        set_gradients(ours, step)
        for group in expected.param_groups:
            group["lr"] = 0.1 / (1 + step)
        adam.learning_rate = 0.1 / (1 + step)
        expected.step()
        adam.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        if step == 1:  # goes on from a state of PyTorch's own class, as of an earlier version
            adam = DenseAdam(adam.groups, 0.1, is_decoupled)
            adam.load_state(named(expected))
    state = adam.state()
    assert set(state) == set(named(expected))
    assert all(torch.equal(state[name], value) for name, value in named(expected).items())
    adam.zero_grad()
    assert [parameter.grad for parameter in ours] == [None] * 3


@pytest.mark.programs
def test_training_does_without_the_compiler():
    """Its import takes a second of every process that trains."""
    script = """
import sys
import torch
from lightsans.training.trainer import Trainer
from tests.factories import sequences_of
from tests.models import small_config, small_run
users = {0: sequences_of([1, 2, 3, 1], [2, 3, 1, 2])}
trainer = Trainer(small_run(small_config(), epochs=1), 3, users, torch.device("cpu"))
trainer.run_epoch()
assert trainer.finished
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
