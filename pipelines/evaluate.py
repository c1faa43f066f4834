"""Full-ranking metrics of a model and the two baselines, part by part on Ray Data.

Totals are summed over parts and divided once, so they do not depend on how users are spread. A
model's own dataset under the configured protocol goes into its ``metrics.json``; every evaluation
is kept under ``reports/``.
"""

import functools
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import ray
import torch

from lightsans.config import RunConfig, TemporalConfig
from lightsans.config.marks import Mark, values_with
from lightsans.dataset.held_out import Split, hold_out, translate
from lightsans.dataset.loading import load_evaluated, load_trainable
from lightsans.dataset.vocabulary import vocabulary_mapping
from lightsans.errors import ConfigError
from lightsans.model.network import LightSANs
from lightsans.ranking.baselines import TransitionCounts, popular_scores, successor_scores
from lightsans.ranking.evaluation import Scorer, model_scorer, rank_held_out
from lightsans.ranking.metrics import RankingTotals
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest
from lightsans.storage.manifests import Manifest, content_id, require_manifest
from lightsans.storage.parts import sequence_parts
from pipelines.console.logs import add_log_context, log_context
from pipelines.console.progress import bar, say
from pipelines.session.lease import Owner
from pipelines.session.merge_tree import merge_all
from pipelines.session.preflight import preflight
from pipelines.session.ray_session import ensure_ray, original_errors
from pipelines.session.stage import find_or_make

FORMAT_VERSION = 1
SPLITS: tuple[Split, ...] = ("valid", "test")
MODEL, POPULAR, SUCCESSOR = "model", "popular", "successor"
PARTS_PER_COUNT = 8
USERS_PER_ACTOR = 20_000
MAX_COUNTED_INTERACTIONS = 50_000_000
"""The baselines are counted on whole parts (a random sample of the users) up to this many
interactions: pairs of successive items would otherwise grow with the log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationManifest(Manifest):
    """Manifest of ``reports/evaluate-<id>``."""

    kind: ClassVar = "evaluation"

    dataset: str
    model: str
    protocol: Mapping[str, Any]
    """Settings of section ``evaluate`` that decide the metrics."""
    map: bool
    """Whether items were translated by raw id."""
    weights_sha256: str | None = None
    """Weights of the model; early versions did not record them."""
    metrics: dict[str, dict[str, dict[str, float]]]
    """Values by scorer, split and metric."""


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """Metrics by scorer and split: ``metrics["model"]["test"]["hit@10"]``."""

    model_id: str
    dataset_id: str
    location: Location
    skipped: bool
    metrics: dict[str, dict[str, dict[str, float]]]


@log_context(stage="evaluate")
def run_evaluate(
    config: RunConfig,
    dataset_id: str,
    model_id: str,
    *,
    map_items: bool = False,
    force: bool = False,
) -> EvaluateResult:
    """Rank the held-out items of a dataset with a model and the baselines, or find it done.

    Args:
        config: The run; ``evaluate`` is the protocol.
        dataset_id: A finished dataset.
        model_id: A finished model.
        map_items: Translate items by raw id when the two number them differently.
        force: Evaluate again.

    Raises:
        NotFoundError: The dataset or the model is not finished.
        VocabularyMismatchError: They number items differently and ``map_items`` is false.
    """
    add_log_context(dataset_id=dataset_id, model_id=model_id)
    root = locate(config.root, config.storage)
    dataset, model = root / "datasets" / dataset_id, root / "models" / model_id
    dataset_manifest = require_manifest(
        DatasetManifest, dataset, "run `submit.py preprocess` first"
    )
    model_manifest = require_manifest(ModelManifest, model, "run `submit.py train` first")
    if model_manifest.refit and model_manifest.dataset_id == dataset_id:
        raise ConfigError(
            f"model {model_id} was refitted on all of dataset {dataset_id}: it has learnt what it "
            "would be asked; evaluate the model that it was refitted from"
        )
    question = _question(config, dataset_id, model_id, map_items)
    report = root / "reports" / f"evaluate-{content_id('evaluation', FORMAT_VERSION, question)}"

    def make(owner: Owner, anew: bool) -> EvaluationManifest:
        say(f"evaluate: model {model_id} on dataset {dataset_id}")
        weights = files.weights_hash(model)
        ensure_ray()
        fitting = preflight("evaluate", config)
        with original_errors():
            metrics = _evaluate(fitting, dataset, dataset_manifest, model, map_items, report)
        files.require_weights(model, weights)
        return EvaluationManifest(**question, weights_sha256=weights, metrics=metrics)

    manifest, skipped = find_or_make(
        EvaluationManifest,
        report,
        root,
        stage="evaluate",
        kind="evaluation",
        make=make,
        force=force,
        is_current=lambda found: files.is_made_of(found, model),
    )
    if model_manifest.dataset_id == dataset_id:
        _complete_model_metrics(model, manifest.metrics)
    return EvaluateResult(model_id, dataset_id, report, skipped, manifest.metrics)


def _question(config: RunConfig, dataset_id: str, model_id: str, map_items: bool) -> dict[str, Any]:
    """All that decides the metrics."""
    protocol = values_with(config.evaluate, Mark.CONTENT)
    return {"dataset": dataset_id, "model": model_id, "protocol": protocol, "map": map_items}


def _complete_model_metrics(model: Location, metrics: dict[str, Any]) -> None:
    """Add what is known now to the model's ``metrics.json``."""
    complete = {
        **metrics[MODEL],
        "baselines": {name: metrics[name] for name in (POPULAR, SUCCESSOR)},
    }
    file = model / files.METRICS
    before = file.read_json() if file.exists() else None
    if before != complete:
        file.write_json(complete)


def _evaluate(
    config: RunConfig,
    dataset: Location,
    dataset_manifest: DatasetManifest,
    model: Location,
    map_items: bool,
    report: Location,
) -> dict[str, dict[str, dict[str, float]]]:
    import ray.data  # takes .4 s, which the tasks that count transitions are spared
    from ray.data import ActorPoolStrategy

    parts = sequence_parts(dataset, dataset_manifest)
    num_items = dataset_manifest.items
    # Fail on the driver, before anything is started.
    vocabulary_mapping(dataset, model, map_items)
    counts = report / "baseline-counts.npz"
    _count_transitions(_sample(parts, dataset_manifest), num_items, counts)
    evaluator = ray.data.from_items([{"part": part.uri} for part in parts]).map_batches(
        PartEvaluator,
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=_num_actors(config, dataset_manifest)),
        num_gpus=1 if config.score.use_gpu else 0,
        fn_constructor_args=(config, dataset, model, map_items, counts),
    )
    ks = tuple(config.evaluate.ks)
    totals: dict[tuple[str, str], RankingTotals] = {}
    with bar("evaluate", len(parts)) as progress:
        for row in evaluator.iter_rows():
            for key, values in zip(row["keys"], row["totals"], strict=True):
                scorer, split = str(key).split("/")
                part_totals = RankingTotals.from_array(np.asarray(values), ks)
                before = totals.get((scorer, split), RankingTotals.zero(ks))
                totals[scorer, split] = before + part_totals
            progress.advance()
    counts.delete()
    return {
        scorer: {split: totals[scorer, split].metrics() for split in SPLITS}
        for scorer in (MODEL, POPULAR, SUCCESSOR)
    }


class PartEvaluator:
    """Ranks the held-out items of whole parts; one Ray actor holds one."""

    def __init__(
        self,
        config: RunConfig,
        dataset: Location,
        model_directory: Location,
        map_items: bool,
        counts: Location,
    ) -> None:
        self._config, self._dataset = config, dataset
        self._device = torch.device("cuda" if config.score.use_gpu else "cpu")
        self._model = LightSANs.from_pretrained(model_directory).to(self._device)
        self._mapping = vocabulary_mapping(dataset, model_directory, map_items)
        self._counts = TransitionCounts.from_bytes(counts.read_bytes())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Totals of one part, by ``scorer/split``."""
        part = Location(batch["part"][0].as_py(), self._dataset.storage)
        users = load_evaluated(part)
        keys, totals = [], []
        for split in SPLITS:
            held_out = hold_out(users, split)
            own = translate(held_out, self._mapping)
            model = model_scorer(self._model, self._device)
            popular: Scorer = functools.partial(popular_scores, self._counts)
            successor: Scorer = functools.partial(successor_scores, self._counts)
            for name, scorer, histories, num_items in (
                (MODEL, model, own, self._model.num_items),
                (POPULAR, popular, held_out, self._counts.num_items),
                (SUCCESSOR, successor, held_out, self._counts.num_items),
            ):
                with torch.inference_mode():
                    part_totals = rank_held_out(
                        scorer,
                        histories,
                        ks=tuple(self._config.evaluate.ks),
                        num_items=num_items,
                        max_seq_len=self._model.config.max_seq_len,
                        remove_seen=self._config.evaluate.remove_seen,
                        batch_size=self._config.evaluate.batch_size,
                    )
                keys.append(f"{name}/{split}")
                totals.append(part_totals.to_array())
        return pa.table({"keys": [keys], "totals": [totals]})


def _num_actors(config: RunConfig, manifest: DatasetManifest) -> int:
    """Number of actors: as many as allowed; none for few users, as one takes seconds to start."""
    worthwhile = -(-manifest.users // USERS_PER_ACTOR)
    return max(1, min(len(manifest.parts), config.score.num_workers, worthwhile))


def _sample(parts: list[Location], manifest: DatasetManifest) -> list[Location]:
    """The first parts that together stay within `MAX_COUNTED_INTERACTIONS`; at least one."""
    interactions = np.cumsum([part.interactions for part in manifest.parts])
    kept = max(1, int(np.searchsorted(interactions, MAX_COUNTED_INTERACTIONS, "right")))
    if kept < len(parts):
        say(f"evaluate: baselines are counted on {kept} of {len(parts)} parts")
    return parts[:kept]


def _count_transitions(parts: list[Location], num_items: int, result: Location) -> None:
    """Write the sum of all parts' counts, merged in a tree that the driver never holds."""
    counted = (
        _count_parts.remote(parts[first : first + PARTS_PER_COUNT], num_items)
        for first in range(0, len(parts), PARTS_PER_COUNT)
    )
    ray.get(_save_counts.remote(merge_all(_add_counts, counted), result))


@ray.remote
def _count_parts(parts: list[Location], num_items: int) -> TransitionCounts:
    counts = (TransitionCounts.count(load_trainable(part), num_items) for part in parts)
    return functools.reduce(operator.add, counts)


@ray.remote
def _add_counts(*counts: TransitionCounts) -> TransitionCounts:
    return functools.reduce(operator.add, counts)


@ray.remote
def _save_counts(counts: TransitionCounts, location: Location) -> None:
    location.write_bytes(counts.to_bytes())


def protocol_text(config: RunConfig) -> str:
    """The protocol in a line, to stand beside every number."""
    seen = "removed" if config.evaluate.remove_seen else "kept"
    data = config.data
    filters = [f"rating >= {data.min_rating:g}"] if data.min_rating is not None else []
    filters += (
        [f"{data.min_user_interactions}/{data.min_item_interactions}-core (users/items)"]
        if max(data.min_user_interactions, data.min_item_interactions) > 1
        else []
    )
    split = "leave-one-out" if data.split == "leave_one_out" else _temporal_text(data.temporal)
    return (
        f"{split}, {', '.join(filters) or 'no filter'}, all items ranked, seen items {seen}, "
        "equal scores rank ahead of the target"
    )


def protocol_dict(config: RunConfig) -> dict[str, Any]:
    """The protocol as values, for ``--json``."""
    cuts = {"temporal": asdict(config.data.temporal)} if config.data.split == "temporal" else {}
    return {"split": config.data.split, **cuts, **asdict(config.evaluate)}


def _temporal_text(cuts: TemporalConfig) -> str:
    if cuts.valid_from is not None:
        return f"temporal (valid from {cuts.valid_from}, test from {cuts.test_from})"
    return (
        f"temporal (the newest {cuts.test_fraction:g} of the interactions for test, "
        f"{cuts.valid_fraction:g} before them for valid)"
    )
