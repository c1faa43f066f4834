"""`torch.compile` for the layers of a model in training, where the machine can do it."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightsans.config.kinds import ATTENTION
from lightsans.model import causal
from lightsans.model.layers import EncoderLayer
from lightsans.model.network import LightSANs

Backend = str | Callable[..., Any]


def compile_layers(model: LightSANs, backend: Backend = "inductor") -> str | None:
    """Compile the layers' forward passes in training mode; why it was not done where that fails.

    The layers are tried on a small batch, forward and backward. If the compiler cannot be run, they
    stay as they were. Evaluation is never compiled: it would be compiled a second time for that.
    """
    _leave_plans_alone()
    for layer in model.layers:
        assert isinstance(layer, EncoderLayer)
        layer.forward = _only_in_training(layer, backend)  # type: ignore[method-assign]
    was_training = model.training
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the compiler's own insides
            _try_out(model.train())
    except Exception as error:  # compilers fail in many ways
        for layer in model.layers:
            del layer.forward
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {' '.join(lines[:2])}"
    finally:
        model.train(was_training)
        for parameter in model.parameters():
            parameter.grad = None
    return None


@functools.cache
def _leave_plans_alone() -> None:
    """Keep the compiler from a function that looks at numbers and chooses.

    Not a decorator where it is defined: that would load the compiler with the model.
    """
    causal._plan_chunks = torch.compiler.disable(causal._plan_chunks)  # type: ignore[no-untyped-call]


def _only_in_training(layer: EncoderLayer, backend: Backend) -> Callable[..., Tensor]:
    plain = layer.forward
    compiled = torch.compile(plain, backend=backend, dynamic=True)

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        return (compiled if layer.training else plain)(*args, **kwargs)

    return forward


def _try_out(model: LightSANs) -> None:
    """One forward and backward pass over two short histories."""
    device = model.item_norm.weight.device
    length = min(3, model.config.max_seq_len)
    item_ids = torch.ones(2, length, dtype=torch.int64, device=device)
    lengths = torch.full((2,), length, device=device)
    every_position = ATTENTION[model.config.attention].trains_prefixes
    times = {}
    if model.reads_times:
        times["timestamps"] = torch.zeros_like(item_ids)
    if model.reads_now:
        times["now"] = torch.zeros_like(lengths)
    vectors = model(item_ids, lengths, every_position, **times)
    vectors.sum().backward()
