"""Trials of a search, without Ray."""

import pytest
import torch
from ray.exceptions import RayTaskError

from lightsans.config import ModelConfig
from lightsans.config.file import load_config
from lightsans.errors import AccessError, InputError, StorageError, TrainingError
from lightsans.storage.location import locate
from lightsans.storage.model_files import weights_hash
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from pipelines.tune.messages import LastResult
from pipelines.tune.trial import LocalRun, News, TrialTask, TrialTrainable

MODEL = ModelConfig(
    max_seq_len=8, hidden_size=16, inner_size=16, n_layers=1, k_interests=2, n_heads=2
)


def test_a_trial_does_not_begin_with_weights_that_were_replaced_since_the_search_began(tmp_path):
    settings = [f"root={tmp_path}", "train.warm_start=m", "train.num_workers=1"]
    config = load_config(None, settings).config
    root = locate(str(tmp_path), config.storage)
    write_synthetic_dataset(root / "datasets" / "d", 20, 10, history=5, num_parts=1)
    torch.manual_seed(0)
    write_synthetic_model(root / "models" / "m", MODEL, 10, "d")
    task = TrialTask(
        root / "datasets" / "d", root / "tune" / "s" / "trials", root / "models", [],
        begins_with=weights_hash(root / "models" / "m"),
    )  # fmt: skip
    write_synthetic_model(root / "models" / "m", MODEL, 10, "d")
    with pytest.raises(InputError, match="the model was trained again meanwhile"):
        LocalRun(config, task, root / "tune" / "s" / "trials" / "0001")


class Failing:
    """A run whose next epoch ends with an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def next_epoch(self) -> News:
        raise self._error

    def close(self) -> None:
        """Nothing is running."""


@pytest.mark.parametrize(
    ("kind", "fault"),
    [(StorageError, "StorageError"), (AccessError, "AccessError"), (TrainingError, None)],
)
def test_what_ends_a_trial_is_told_without_a_traceback_and_outages_as_such(kind, fault):
    """From the process of the trial, and from a task whose result it waits for."""
    trial = object.__new__(TrialTrainable)
    trial._has_begun = True
    for error in (
        kind("why"),
        RayTaskError("f", "Traceback: …", kind("why")).as_instanceof_cause(),
    ):
        trial._run = Failing(error)
        assert LastResult.of(trial.step()) == LastResult(error="why", fault=fault)
