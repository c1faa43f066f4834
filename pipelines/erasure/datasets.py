"""Datasets without erased users: made from the old ones, without the logs."""

from collections.abc import Mapping
from dataclasses import replace

from lightsans.config import ItemFeaturesConfig, RunConfig
from lightsans.config.file import from_dict
from lightsans.errors import ConfigError, NothingLeftError
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest
from pipelines.preprocess.identity import prepare
from pipelines.preprocess.parts import format_here
from pipelines.preprocess.report import draw_report
from pipelines.preprocess.stage import make_dataset
from pipelines.session.lease import Owner
from pipelines.session.stage import find_or_make


def replace_dataset(
    config: RunConfig, root: Location, old: DatasetManifest, renamed: Mapping[str, str]
) -> DatasetManifest | None:
    """Make the dataset that takes the place of an old one; None where no rows are left.

    Parts without erased users are linked, and items keep their ids, so that models of the old
    dataset know the new one.

    Args:
        config: The machine and the storage; the old dataset says the rest.
        root: Where all results lie.
        old: Manifest of the old dataset.
        renamed: Ids of the replacements of older datasets of which something is left.

    Raises:
        ConfigError: An earlier release made it, in another format.
    """
    ours = format_here(old)
    if old.format_version != ours:
        raise ConfigError(
            f"{root / 'datasets' / old.id}: another release made this dataset (format "
            f"{old.format_version}; this one writes {ours}), so it cannot be made again without "
            "the users. Delete this directory and run the same command again: runs that were made "
            "from it are replaced all the same, and `preprocess` makes it anew from the log"
        )
    recorded = from_dict({"data": dict(old.data)}).data
    data = replace(recorded, input=(), exclude_users=None, base=old.id, allow_unmatched=True)
    # Features are in the dataset: the table that they are from may be gone, or a later one.
    data = replace(data, item_table=None, item_features=ItemFeaturesConfig())
    job = replace(prepare(replace(config, root=root.uri, data=data)), keeps_features=True)
    # Its base is gone afterwards: it stands where the old dataset stood.
    base = None if old.base is None else renamed.get(old.base, old.base)

    def make(owner: Owner, anew: bool) -> DatasetManifest:
        made = make_dataset(config, job, owner, anew)
        told = {**old.data, "base": base}
        features = made.item_features
        if features is not None and old.item_features is not None:
            features = replace(features, files=old.item_features.files)
        return replace(
            made,
            base=base,
            data=told,
            excluded_users=old.excluded_users,
            item_features=features,
        )

    try:
        manifest, _ = find_or_make(
            DatasetManifest,
            job.dataset,
            root,
            stage="erase",
            kind="dataset",
            make=make,
            hint="",
            uses=(root / "datasets" / old.id,),
        )
    except NothingLeftError:
        job.dataset.delete()
        return None
    draw_report(job.dataset)
    return manifest
