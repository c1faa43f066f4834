"""The run that was published when a night began: it is compared with that, and made from it."""

from dataclasses import replace
from datetime import datetime

from lightsans.config import RunConfig
from lightsans.errors import ConfigError, NotFoundError
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest, changed_id_types
from lightsans.storage.manifests import is_finished, read_manifest
from pipelines.nightly.comparison import why_models_differ
from pipelines.preprocess.parts import format_here
from pipelines.publish import judged_model_id, read_published
from pipelines.train.identity import model_id


class Yardstick:
    """The published run of the moment a night began.

    Args:
        config: The run.
        root: Where all results lie.
        moment: Date of the night.
    """

    def __init__(self, config: RunConfig, root: Location, moment: datetime) -> None:
        self._config, self._root, self._moment = config, root, moment
        self.before = read_published(root)

    @property
    def run_id(self) -> str | None:
        """The published run."""
        return self.before.run_id

    @property
    def is_backfill(self) -> bool:
        """Whether a newer date is published."""
        current = self.before.current
        if current is None or current.as_of is None:
            return False
        return self._moment < datetime.fromisoformat(current.as_of)

    def require_newest(self) -> None:
        """Refuse a date before the published one: a backfill must not replace newer results."""
        current = self.before.current
        if current is not None and self.is_backfill:
            raise ConfigError(
                f"--as-of {self._config.data.as_of} is before {current.as_of}, the date of the "
                f"published run {current.run_id}; --force makes, checks and reports it without "
                "publishing it, `submit.py publish RUN_ID` publishes any run"
            )

    def manifest(self) -> RunManifest | None:
        """The manifest of the published run; None where nothing is published, or needs no look.

        Raises:
            NotFoundError: It is published but was removed, and was to be compared with.
        """
        if self.run_id is None:
            return None
        run = self.before.runs / self.run_id
        manifest = read_manifest(RunManifest, run)
        nightly = self._config.nightly
        if manifest is None and (nightly.max_user_drop, nightly.max_relative_drop) != (None, None):
            raise NotFoundError(
                f"{run}: this run is published but was removed, so there is nothing to compare "
                "with; publish another run, or set nightly.max_user_drop and "
                "nightly.max_relative_drop to null for once"
            )
        return manifest

    def with_base(self, published: RunManifest | None, config: RunConfig) -> RunConfig:
        """The configuration, its dataset made from the published one where that is asked for."""
        if not config.nightly.incremental or published is None:
            return config
        datasets = self._root / "datasets"
        manifest, judged = read_manifest(DatasetManifest, datasets / published.dataset_id), None
        if manifest is not None and not manifest.split.holds_out and manifest.base is not None:
            judged = read_manifest(DatasetManifest, datasets / manifest.base)
        as_of = self.before.current.as_of if self.before.current is not None else None
        base = base_of_night(manifest, as_of, self._moment, judged)
        if base is not None and not is_finished(datasets / base):  # it was removed
            base = None
        return replace(config, data=replace(config.data, base=base))

    def model(
        self, published: RunManifest, dataset: DatasetManifest, config: RunConfig
    ) -> tuple[str | None, list[str]]:
        """The model to compare tonight's with on tonight's dataset; None leaves that out.

        Decided before training: whoever waits for it should know what it will be compared with.

        Args:
            published: The published run.
            dataset: Tonight's dataset.
            config: The run that trains tonight's model.

        Returns:
            The model, and reasons why comparisons are left out.

        Raises:
            NotFoundError: It was removed, and was to be compared with.
        """
        types = changed_id_types(published, dataset)
        left_out = [f"lists of users: {types['user']}"] if "user" in types else []
        judged = judged_model_id(published)
        if config.nightly.max_relative_drop is None or judged == model_id(config, dataset.id):
            return None, left_out
        if self.is_backfill:
            return None, [*left_out, "models: the published one has learnt from a later log"]
        model = self._root / "models" / judged
        if not is_finished(model):
            raise NotFoundError(
                f"{model}: this model of the published run {self.run_id} was removed, so "
                "there is nothing to compare with; set nightly.max_relative_drop to null for once"
            )
        reason = why_models_differ(published, model, dataset)
        if reason is not None:
            return None, [*left_out, f"models: {reason}"]
        return judged, left_out


def base_of_night(
    manifest: DatasetManifest | None,
    as_of: str | None,
    moment: datetime,
    judged: DatasetManifest | None = None,
) -> str | None:
    """Id of the dataset that an incremental night adds to; None when it reads everything.

    Args:
        manifest: Manifest of the published run's dataset; None when it was removed.
        as_of: Date of the published run.
        moment: Date of this night.
        judged: Manifest of the dataset with held-out items behind that run; None when it was
            removed.
    """
    if manifest is None or as_of is None or moment < datetime.fromisoformat(as_of):
        return None
    if manifest.format_version != format_here(manifest):
        return None  # an earlier release made it
    if moment == datetime.fromisoformat(as_of):  # the same night again finds its own dataset
        own = manifest if manifest.split.holds_out else judged
        return None if own is None else own.base
    return manifest.id
