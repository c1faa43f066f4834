"""The model that a night could keep, or begin its training with: that of the night before."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from lightsans.config import RunConfig
from lightsans.config.yaml_text import read_yaml
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import LightSANsError
from lightsans.stages.feature_files import why_other_features
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    ModelManifest,
    RunManifest,
    changed_id_types,
)
from lightsans.storage.manifests import read_manifest
from lightsans.storage.model_files import CONFIG, is_made_of
from lightsans.storage.parts import read_metrics
from pipelines.erasure.models import marked_models
from pipelines.nightly.policy import (
    why_by_calendar,
    why_by_metric,
    why_by_settings,
    why_by_vocabulary,
    why_scratch,
)
from pipelines.publish import Published, judged_model_id, moment_of_dataset


@dataclass(frozen=True, slots=True)
class Candidate:
    """The model of the run that was published before a night, with what is known of it."""

    run_id: str
    model: Location
    """The model that its lists are of."""
    judged: Location
    """The model that it is judged by; the same without a refit."""
    refit: str
    """How the one came of the other: full, continue or none."""
    trained: datetime
    """Date of the log that it has learnt."""
    sections: Mapping[str, Any]
    """Configuration that the judged model was trained with."""
    data: Mapping[str, Any]
    """Section ``data`` of its dataset."""

    def why_train(self, config: RunConfig, night: datetime) -> str | None:
        """Reason to train that needs no data; None where there is none.

        Args:
            config: The run.
            night: Date of the night.
        """
        return why_by_calendar(
            config.nightly.train, night, self.trained, config.data.timezone
        ) or why_by_settings(config, self.sections, self.data, self.refit)

    def why_new_items(self, config: RunConfig, dataset: Location) -> str | None:
        """Reason to train because of items that are new, or their features; None without one.

        Args:
            config: The run.
            dataset: The dataset that is recommended from tonight.
        """
        policy = config.nightly.train
        reason = why_other_features(self.model, dataset)
        if reason is not None or policy.if_vocabulary_grows is None:
            return reason
        return why_by_vocabulary(policy, *count_items(dataset, self.model))

    def why_worse(self, config: RunConfig, now: Mapping[str, float]) -> str | None:
        """Reason to train because of tonight's test metrics; None where there is none."""
        metric = config.nightly.metric
        then = read_metrics(self.judged).test or {}
        return why_by_metric(config.nightly.train, metric, then.get(metric), now.get(metric))

    def begin_with(self, config: RunConfig, dataset: Location) -> tuple[RunConfig, str | None]:
        """The configuration that begins with the judged model, or the reason why it cannot.

        Args:
            config: The run.
            dataset: The dataset that is trained on tonight.
        """
        reason = why_scratch(config, self.sections["model"])
        reason = reason or why_other_features(self.judged, dataset)
        if reason is not None:
            return config, reason
        train = replace(config.train, warm_start=self.judged.name)
        return replace(config, train=train), None


def find_candidate(
    root: Location, before: Published, night: datetime, dataset: DatasetManifest
) -> tuple[Candidate | None, str]:
    """The model of the newest run of a date before this night; None with the reason.

    The same night again finds the same one, whatever was published meanwhile.

    Args:
        root: Where all results lie.
        before: State of publishing.
        night: Date of the night.
        dataset: Tonight's dataset.
    """
    entry = before.before(night)
    if entry is None:
        return None, "nothing of an earlier date is published"
    run = read_manifest(RunManifest, root / "recommendations" / entry.run_id)
    if run is None:
        return None, f"run {entry.run_id} of {entry.as_of} was removed"
    models = root / "models"
    marked = marked_models(root)
    for name in (run.model_id, judged_model_id(run)):
        if name in marked:
            return None, f"model {name} has learnt from users who were erased: {marked[name]}"
    model, judged = models / run.model_id, models / judged_model_id(run)
    made = read_manifest(ModelManifest, model)
    tested = read_manifest(ModelManifest, judged)
    if made is None or tested is None or not is_made_of(run, model):
        return None, f"the model of run {run.id} was removed, or trained again since"
    if tested.refit:
        return None, f"model {judged.name} has learnt everything: nothing was judged in its place"
    changed = changed_id_types(run, dataset)
    if changed:
        return None, "; ".join(changed.values())
    data = read_manifest(DatasetManifest, root / "datasets" / tested.dataset_id)
    trained = None if data is None else moment_of_dataset(data)
    if data is None or trained is None:
        return None, f"up to when model {judged.name} has learnt the log is not known"
    try:
        sections = read_yaml((judged / CONFIG).read_bytes().decode(), str(judged / CONFIG))
    except (FileNotFoundError, LightSANsError) as error:
        return None, f"the configuration of model {judged.name} cannot be read: {error}"
    assert isinstance(sections, dict)
    refit = "none" if run.judged is None else run.judged.method
    return Candidate(run.id, model, judged, refit, trained, sections, data.data), ""


def count_items(dataset: Location, model: Location) -> tuple[int, int]:
    """Items that a model knows, and living ones of a dataset that it does not."""
    ours, theirs = load_vocabulary(dataset), load_vocabulary(model)
    is_new = (ours.counts > 0) & (theirs.encode(ours.raw_item_ids) == 0)
    return theirs.num_items, int(np.count_nonzero(is_new))
