"""Figures of a refit beside the judged model: finite weights, and lists for a sample of users."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from lightsans.config import RunConfig
from lightsans.dataset.loading import TIMESTAMPS, history_column, list_column
from lightsans.dataset.vocabulary import load_vocabulary, vocabulary_mapping
from lightsans.model.network import LightSANs
from lightsans.recommendations.list_maker import ListMaker
from lightsans.reports.agreement import Agreement, compare_lists
from lightsans.stages.window import request_moment
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import Manifest, content_id
from lightsans.storage.model_files import is_made_of, weights_hash
from lightsans.storage.parts import sequence_parts
from lightsans.storage.schemas import MODEL
from pipelines.refit.stage import Refit
from pipelines.session.lease import Owner
from pipelines.session.ray_session import ensure_ray, original_errors
from pipelines.session.stage import find_or_make
from pipelines.session.tasks import remote

SAMPLE = 10_000
"""Most users whose lists are compared."""
SAMPLE_PARTS = 16
"""Most parts that they are taken from: users are in a part by their hash, so any part will do."""


FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RefitFigures:
    """Findings on a refit."""

    infinite_weights: int
    """Weights that are no finite numbers."""
    lists: Agreement | None = None
    """Its lists beside those of the judged model, of users that both know something of; None where
    weights are not finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementManifest(Manifest):
    """Manifest of ``reports/refit-<id>``, which holds nothing else."""

    kind: ClassVar = "agreement"

    dataset_id: str
    """The dataset whose users were sampled."""
    model_id: str
    """The refit."""
    judged_id: str
    format_version: int
    weights_sha256: str | None
    """Weights of the refit."""
    figures: RefitFigures


def measure_refit(config: RunConfig, refit: Refit) -> RefitFigures:
    """Compare the lists of a refit with those of the judged model, or find them compared.

    Args:
        config: The run; ``score`` says how long lists are, and whether seen items are left out.
        refit: The refit. Users of its dataset are sampled.
    """
    root = locate(config.root, config.storage)
    models, dataset = root / "models", refit.dataset
    model, judged = models / refit.model.model_id, models / refit.judged.model_id
    question = {
        "dataset": dataset.dataset_id,
        "model": model.name,
        "judged": judged.name,
        "k": config.score.k,
        "remove_seen": config.score.remove_seen is not False,
    }
    name = f"refit-{content_id('agreement', FORMAT_VERSION, question)}"

    def make(owner: Owner, anew: bool) -> AgreementManifest:
        ensure_ray()
        measure = remote(
            partial(_measure, config, dataset.location, dataset.manifest, model, judged)
        )
        with original_errors():
            figures: RefitFigures = ray.get(measure.remote())
        return AgreementManifest(
            dataset_id=dataset.dataset_id,
            model_id=model.name,
            judged_id=judged.name,
            format_version=FORMAT_VERSION,
            weights_sha256=weights_hash(model),
            figures=figures,
        )

    manifest, _ = find_or_make(
        AgreementManifest,
        root / "reports" / name,
        root,
        stage="refit",
        kind="agreement",
        make=make,
        is_current=lambda found: is_made_of(found, model),
        uses=(dataset.location, model, judged),
    )
    return manifest.figures


def _measure(
    config: RunConfig,
    dataset: Location,
    manifest: DatasetManifest,
    refit: Location,
    judged: Location,
) -> RefitFigures:
    model = LightSANs.from_pretrained(refit)
    infinite = sum(int((~torch.isfinite(w)).sum()) for w in model.state_dict().values())
    if infinite:
        return RefitFigures(infinite_weights=infinite)
    rows = sample_users(sequence_parts(dataset, manifest), manifest.users)
    histories, also_seen = history_column(rows), list_column(rows, "also_seen")
    now, before = (
        _list_maker(config, dataset, manifest, location, network).recommend(histories, also_seen)
        for location, network in ((refit, model), (judged, LightSANs.from_pretrained(judged)))
    )
    # Popular items are the same for both.
    is_known = pc.and_(pc.equal(now.source, MODEL), pc.equal(before.source, MODEL))
    lists = compare_lists(now.item_ids.filter(is_known), before.item_ids.filter(is_known))
    return RefitFigures(infinite_weights=0, lists=lists)


def sample_users(parts: Sequence[Location], num_users: int, most: int = SAMPLE) -> pa.Table:
    """At most so many users with histories, evenly spread over some parts.

    Args:
        parts: Files of ``sequences/``.
        num_users: Users of the dataset.
        most: Users at most.
    """
    chosen = parts[:: -(-len(parts) // SAMPLE_PARTS)]
    estimated = num_users * len(chosen) // max(len(parts), 1)
    step, found = max(1, -(-estimated // most)), []
    for part in chosen:
        table = part.read_table(columns=["item_ids", TIMESTAMPS, "also_seen"])
        found.append(table.take(pa.array(np.arange(0, table.num_rows, step))))
    return pa.concat_tables(found).slice(0, most)


def _list_maker(
    config: RunConfig,
    dataset: Location,
    manifest: DatasetManifest,
    model: Location,
    network: LightSANs,
) -> ListMaker:
    """The model alone: rules and lists of items would make any two models agree."""
    return ListMaker(
        network,
        load_vocabulary(model),
        load_vocabulary(dataset),
        vocabulary_mapping(dataset, model, True),
        k=config.score.k,
        remove_seen=config.score.remove_seen is not False,
        now=request_moment(manifest),
    )
