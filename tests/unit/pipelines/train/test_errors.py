import pytest
import torch

from lightsans.config import TrainConfig
from pipelines.train.errors import explain


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_a_lack_of_memory_names_what_to_lower(error):
    explained = explain(error, TrainConfig(), "worker 1")
    assert explained is not None
    assert "worker 1 ran out of memory" in str(explained)
    assert "train.micro_batches" in str(explained)


def test_a_failed_allocation_of_this_process_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert explain(caught.value, TrainConfig(), "worker 0") is not None


def test_the_workers_of_a_group_are_searched_for_a_cause():
    class GroupError(Exception):
        worker_failures = {0: ValueError("collateral"), 1: MemoryError()}  # noqa: RUF012

    explained = explain(GroupError(), TrainConfig(), "training")
    assert "worker 1 ran out of memory" in str(explained)


def test_other_errors_speak_for_themselves():
    assert explain(RuntimeError("Connection closed by peer"), TrainConfig(), "worker 0") is None
