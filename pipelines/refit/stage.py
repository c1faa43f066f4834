"""The refit: after a model was judged by held-out items, one that has learnt them is trained.

The dataset that was judged leaves its newest interactions out of training and, under a temporal
split, its newest items out of the vocabulary. The refit's dataset is made from the same parts,
which are linked and not read from the log again, with nothing held out. Under leave-one-out both
datasets are the same one, whose vocabulary knows every item.
"""

from dataclasses import dataclass, replace
from typing import Literal

from lightsans.config import RunConfig, TemporalConfig
from lightsans.config.kinds import SPLIT_METHODS
from lightsans.errors import ConfigError
from lightsans.storage.manifest_kinds import JudgedModel
from pipelines.console.progress import say
from pipelines.preprocess.identity import dataset_id
from pipelines.preprocess.stage import PreprocessResult, run_preprocess
from pipelines.train.identity import continue_config, judged_model, model_id, refit_of
from pipelines.train.stage import TrainResult, run_train

Method = Literal["full", "continue"]


@dataclass(frozen=True, slots=True)
class Refit:
    """A model that has learnt everything, and what it was made from."""

    dataset: PreprocessResult
    """The dataset with nothing held out that matters to training."""
    model: TrainResult
    judged: JudgedModel


def run_refit(
    config: RunConfig, dataset: PreprocessResult, judged_id: str, *, force: bool = False
) -> Refit:
    """Train a model on everything, or find it trained.

    Args:
        config: The run that the judged model was trained by. ``nightly.refit`` says how; ``none``
            stands for ``full`` here, where a refit was asked for.
        dataset: The dataset that the judged model was trained on.
        judged_id: The judged model.
        force: Make dataset and model again.

    Raises:
        NotFoundError: The judged model is not finished.
    """
    method = _method(config)
    full = full_dataset(config, dataset, force=force)
    judged = judged_model(config, judged_id, method)
    run = _training_config(config, judged_id)
    say(
        f"refit: {method}, model {judged_id} was judged on dataset {dataset.dataset_id}; "
        f"{run.train.refit_epochs} epochs on everything, dataset {full.dataset_id}"
    )
    model = run_train(run, full.dataset_id, force=force, judged=judged)
    return Refit(full, model, judged)


def refit_ids(config: RunConfig, judged_dataset: str) -> tuple[str, str]:
    """Ids of the dataset and the model that `run_refit` makes of a configuration.

    Raises:
        NotFoundError: The model to be judged is not finished.
    """
    full = judged_dataset
    if config.data.cuts_by_time:
        full = dataset_id(_of_everything(config, judged_dataset))
    judged = model_id(config, judged_dataset)
    return full, model_id(_training_config(config, judged), full)


def _method(config: RunConfig) -> Method:
    return "continue" if config.nightly.refit == "continue" else "full"


def _training_config(config: RunConfig, judged_id: str) -> RunConfig:
    if _method(config) == "continue":
        return continue_config(config, judged_id, config.nightly.continue_epochs)
    return refit_of(config, judged_id)


def _of_everything(config: RunConfig, base: str) -> RunConfig:
    """The configuration of a dataset that holds nothing out of another one's rows."""
    # No input: all rows are those of the base, whatever has arrived since.
    data = replace(config.data, input=(), split="none", temporal=TemporalConfig(), base=base)
    return replace(config, data=data)


def require_test(config: RunConfig) -> None:
    """Refuse a run that is to test its model, but holds nothing out.

    Raises:
        ConfigError: ``data.split`` is ``none``.
    """
    if not SPLIT_METHODS[config.data.split].holds_out:
        raise ConfigError(
            "data.split=none holds nothing out, so no model could be tested; set it to "
            "leave_one_out or temporal: nights, and `pipeline --refit`, recommend from everything "
            "all the same"
        )


def full_dataset(
    config: RunConfig, dataset: PreprocessResult, *, force: bool = False
) -> PreprocessResult:
    """The dataset with nothing held out, of the rows that a dataset has.

    Args:
        config: The run.
        dataset: The dataset with held-out items; under leave-one-out it is its own answer.
        force: Make it again.
    """
    if not dataset.manifest.split.cuts_by_time:
        return dataset
    return run_preprocess(_of_everything(config, dataset.dataset_id), force=force)
