"""Errors that end training, in terms of settings: out of memory, stuck, killed."""

import ray.exceptions

from lightsans.config import TrainConfig
from lightsans.errors import TrainingError

LESS_MEMORY = (
    "raise train.micro_batches, or lower train.batch_size, train.eval_batch_size or "
    "model.max_seq_len; for the sequences, set train.tape_memory_mb or add workers"
)


class StuckError(TrainingError):
    """A worker waited for the others in vain; workers that start again may not."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the GPU or in this process."""
    import torch  # who has no error to look at does without

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text
    )


def is_time_out(error: BaseException) -> bool:
    """Whether a worker has waited too long for the others."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("timed out" in text or "timeout" in text)


def explain(error: BaseException, train: TrainConfig, where: str) -> TrainingError | None:
    """An error of a worker, or of the group of workers, in terms of settings.

    Args:
        error: The raised error.
        train: The run's settings.
        where: Which worker, in words.

    Returns:
        None where nothing better is known than what it says.
    """
    if is_out_of_memory(error):
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        return TrainingError(f"{where} ran out of memory ({first_line}); {LESS_MEMORY}")
    if is_time_out(error):
        return StuckError(
            f"{where} waited for the other workers for longer than train.collective_timeout_s="
            f"{train.collective_timeout_s}; a machine or the network between them is stuck, or so "
            "slow that the time-out must be raised"
        )
    failures = getattr(error, "worker_failures", None) or {}
    for rank, failure in sorted(failures.items()):
        if isinstance(failure, ray.exceptions.OutOfMemoryError):
            return TrainingError(
                f"worker {rank} was ended because its machine ran out of memory; {LESS_MEMORY}"
            )
        own = explain(failure, train, f"worker {rank}")
        if own is not None:
            return own
    return None
