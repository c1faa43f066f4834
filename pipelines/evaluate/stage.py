"""Full-ranking metrics of a model and the baselines, part by part on Ray Data, or in a task.

    reports/evaluate-<id>/  ranks/part-*.parquet, pairs.npz, report.png, manifest.json

`pipelines.evaluate.ranks` has the work. A model's own dataset under the protocol that it was
chosen by goes into its ``metrics.json``; every evaluation is kept under ``reports/``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from lightsans.config import DataConfig, EvaluateConfig, RunConfig, to_dict
from lightsans.config.kinds import SPLIT_METHODS
from lightsans.config.marks import Mark, differing, recorded_value, values_with
from lightsans.config.yaml_text import read_yaml
from lightsans.dataset.held_out import describe_nobody
from lightsans.errors import InputError, LeaseError, LightSANsError
from lightsans.recommendations.user_groups import groups_identity
from lightsans.reports.evaluation_figures import (
    MODEL,
    RECOMMENDATIONS,
    ByScorer,
    EvaluationFigures,
    Measured,
    measured_from_bytes,
)
from lightsans.reports.evaluation_plots import draw_evaluation
from lightsans.stages.evaluate_job import SPLITS, EvaluateJob, evaluator_bytes
from lightsans.stages.given_lists import lists_identity
from lightsans.stages.untested import require_unlearnt
from lightsans.stages.window import find_window
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest, ModelMetrics
from lightsans.storage.manifests import (
    MANIFEST,
    Manifest,
    content_id,
    is_finished,
    require_manifest,
)
from lightsans.storage.parts import read_metrics, sequence_parts
from lightsans.storage.records import fields_beside, to_json
from pipelines.console.logs import add_log_context, log_context
from pipelines.console.progress import say
from pipelines.evaluate.ranks import PAIRS, RankFile, evaluate_parts
from pipelines.session.lease import Owner
from pipelines.session.pictures import draw_missing
from pipelines.session.preflight import preflight
from pipelines.session.ray_session import ensure_ray, original_errors
from pipelines.session.stage import find_or_make, own
from pipelines.session.tasks import TASK_BYTES

FORMAT_VERSION = 2
PICTURE = "report.png"
METRICS_WAIT_S = 10.0
"""Time for another evaluation to write metrics beside the same model; a training takes longer."""


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
    groups: Mapping[str, Any] | None = None
    """Identity of the table and the column by which users were told apart."""
    recommendations: Mapping[str, Any] | None = None
    """Identity of the lists of somebody else that were ranked, too."""
    format_version: int = 1
    weights_sha256: str | None = None
    """Weights of the model; early versions did not record them."""
    figures: EvaluationFigures = fields_beside()
    ranks: tuple[RankFile, ...] = ()
    """Files below ``ranks/``."""


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """A finished evaluation."""

    model_id: str
    dataset_id: str
    location: Location
    skipped: bool
    figures: EvaluationFigures
    made_with: Mapping[str, Any]
    """Section ``data`` of the dataset's manifest: by it, items were held out."""

    @property
    def metrics(self) -> ByScorer[float]:
        """Metrics by scorer and split: ``metrics["model"]["test"]["hit@10"]``."""
        return self.figures.metrics


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
    require_unlearnt(dataset_manifest, model_manifest)
    parts = sequence_parts(dataset, dataset_manifest)
    question = _question(config, dataset_manifest, model_id, map_items)
    report = root / "reports" / f"evaluate-{content_id('evaluation', FORMAT_VERSION, question)}"

    def make(owner: Owner, anew: bool) -> EvaluationManifest:
        say(f"evaluate: model {model_id} on dataset {dataset_id}")
        weights = files.weights_hash(model)
        ensure_ray()
        held = evaluator_bytes(config.evaluate, dataset_manifest, model_manifest.parameters)
        memory = TASK_BYTES + held
        fitting = preflight("evaluate", config, memory)
        if anew:
            owner.require()
            (report / MANIFEST).delete()  # its figures are not those of the ranks to come
        with original_errors():
            found, ranks = evaluate_parts(
                EvaluateJob(
                    config=fitting,
                    dataset=dataset,
                    dataset_manifest=dataset_manifest,
                    model=model,
                    map_items=map_items,
                    window=find_window(config.evaluate.popular_days, dataset_manifest),
                    groups=question.get("groups"),
                    report=report,
                    require_owner=owner.require,
                ),
                parts,
                dataset_manifest,
                memory,
            )
        files.require_weights(model, weights)
        _require_same_lists(config, dataset_manifest, question.get("recommendations"))
        _say_nobody(found, dataset_manifest)
        owner.require()
        (report / PICTURE).delete()  # of other weights, perhaps
        return EvaluationManifest(
            **question,
            format_version=FORMAT_VERSION,
            weights_sha256=weights,
            figures=found,
            ranks=ranks,
        )

    manifest, skipped = find_or_make(
        EvaluationManifest,
        report,
        root,
        stage="evaluate",
        kind="evaluation",
        make=make,
        force=force,
        is_current=lambda found: files.is_made_of(found, model),
        uses=(dataset, model),
    )
    _require_figures(report, manifest.figures)
    heading = f"model {model_id} on dataset {dataset_id}"
    draw_missing(
        "evaluate",
        report,
        [PICTURE],
        lambda: {PICTURE: draw_evaluation(manifest.figures, heading)},
    )
    if model_manifest.dataset_id == dataset_id and _is_protocol_of(model, config):
        _complete_model_metrics(model, root, manifest)
    found, made_with = manifest.figures, dataset_manifest.data
    return EvaluateResult(model_id, dataset_id, report, skipped, found, made_with)


def _require_same_lists(
    config: RunConfig, dataset: DatasetManifest, asked: Mapping[str, Any] | None
) -> None:
    """Refuse lists of recommendations that were replaced meanwhile: the id names what was read."""
    if lists_identity(config, dataset.data) != asked:
        raise InputError(
            f"evaluate.recommendations: {config.evaluate.recommendations} changed meanwhile; run "
            "the same command again"
        )


def _say_nobody(found: EvaluationFigures, dataset: DatasetManifest) -> None:
    """Warn of splits that no user could be evaluated on, and say why."""
    for split in SPLITS:
        if not found.users[split]:
            reason = describe_nobody(
                split,
                dataset.trainable_users,
                is_temporal=dataset.cutoffs is not None,
                has_events=bool(dataset.data.get("events")),
            )
            say(f"WARNING: evaluate: {reason}")


def _question(
    config: RunConfig, dataset: DatasetManifest, model_id: str, map_items: bool
) -> dict[str, Any]:
    """All that decides the metrics."""
    protocol = values_with(config.evaluate, Mark.CONTENT)
    groups = groups_identity(config, dataset.data)
    lists = lists_identity(config, dataset.data)
    return {
        "dataset": dataset.id,
        "model": model_id,
        "protocol": protocol,
        "map": map_items,
        **({} if groups is None else {"groups": groups}),
        **({} if lists is None else {"recommendations": lists}),
    }


def _require_figures(report: Location, figures: EvaluationFigures) -> None:
    """Refuse an evaluation without the figures that every one has.

    Raises:
        InputError: The message names the file and the field.
    """
    missing = [
        *(name for name in ("metrics", "intervals") if MODEL not in getattr(figures, name)),
        *("users" for split in SPLITS if split not in figures.users),
    ]
    if missing:
        raise InputError(
            f"{report / MANIFEST}: {missing[0]} is not whole; the file is damaged: evaluate again "
            "with --force"
        )


def _is_protocol_of(model: Location, config: RunConfig) -> bool:
    """Whether a model was chosen by the protocol of an evaluation, and so has metrics of it.

    Those of different protocols do not compare: neither in a list of models nor from night to
    night.
    """
    file = model / files.CONFIG
    try:
        made_with = read_yaml(file.read_bytes().decode(), str(file))
    except (FileNotFoundError, LightSANsError):
        return True
    found = made_with.get("evaluate") if isinstance(made_with, dict) else None
    recorded: dict[str, Any] = found if isinstance(found, dict) else {}
    others = differing(recorded, config.evaluate, Mark.VALIDATES) if recorded else []
    for name in others:
        say(
            f"evaluate: model {model.name} was trained with evaluate.{name}="
            f"{recorded_value(EvaluateConfig, recorded, name)}: its {files.METRICS} stays as it is"
        )
    return not others


def _complete_model_metrics(
    model: Location, root: Location, evaluation: EvaluationManifest
) -> None:
    """Add what is known now to the model's ``metrics.json``, unless it is being trained again."""
    metrics = evaluation.figures.metrics
    complete = ModelMetrics(
        valid=metrics[MODEL]["valid"],
        test=metrics[MODEL]["test"],
        baselines={n: metrics[n] for n in metrics if n not in (MODEL, RECOMMENDATIONS)},
        intervals=evaluation.figures.intervals[MODEL],
    )
    file = model / files.METRICS
    before = read_metrics(model) if file.exists() else None
    if before == complete:
        return
    try:
        with own(model, root, stage="evaluate", kind="model", wait_s=METRICS_WAIT_S):
            # From here on nobody trains it again; who did before has left other weights.
            if is_finished(model) and files.is_made_of(evaluation, model):
                file.write_json(to_json(complete))
    except LeaseError as error:
        say(f"WARNING: evaluate: no metrics were written beside the model: {error}")


def read_pairs(evaluation: Location) -> Measured:
    """The sums of an evaluation by which its model is compared with another one's.

    Raises:
        InputError: The file is gone.
    """
    try:
        return measured_from_bytes((evaluation / PAIRS).read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"{evaluation / PAIRS}: the file is gone; evaluate again with --force"
        ) from None


def protocol_text(config: RunConfig, made_with: Mapping[str, Any] | None = None) -> str:
    """The protocol in a line, to stand beside every number.

    Args:
        config: The run.
        made_with: Section ``data`` that the dataset was made with, which ``--dataset`` may name;
            None for that of the run.
    """
    seen = "removed" if config.evaluate.remove_seen else "kept"
    data = _recorded(config, made_with)
    least = (data["min_user_interactions"], data["min_item_interactions"])
    filters = [f"rating >= {data['min_rating']:g}"] if data["min_rating"] is not None else []
    filters += [f"{least[0]}/{least[1]}-core (users/items)"] if max(least) > 1 else []
    targets = [name for name, event in sorted(data["events"].items()) if event["target"]]
    filters += [f"predicts {' and '.join(targets)}"] if targets else []
    cuts_by_time = SPLIT_METHODS[data["split"]].cuts_by_time
    split = _temporal_text(data["temporal"]) if cuts_by_time else "leave-one-out"
    return (
        f"{split}, {', '.join(filters) or 'no filter'}, all items ranked, seen items {seen}, "
        "equal scores rank ahead of the target"
    )


def protocol_dict(config: RunConfig, made_with: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The protocol as values, for ``--json``; see `protocol_text`."""
    data = _recorded(config, made_with)
    cuts_by_time = SPLIT_METHODS[data["split"]].cuts_by_time
    cuts = {"temporal": data["temporal"]} if cuts_by_time else {}
    return {"split": data["split"], **cuts, **asdict(config.evaluate)}


def _recorded(config: RunConfig, made_with: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of ``data`` that a protocol names."""
    data = to_dict(config.data) if made_with is None else made_with
    names = ("split", "temporal", "events", "min_rating", "min_user_interactions",
             "min_item_interactions")  # fmt: skip
    return {name: recorded_value(DataConfig, data, name) for name in names}


def _temporal_text(cuts: Mapping[str, Any]) -> str:
    if cuts["valid_from"] is not None:
        return f"temporal (valid from {cuts['valid_from']}, test from {cuts['test_from']})"
    return (
        f"temporal (the newest {cuts['test_fraction']:g} of the interactions for test, "
        f"{cuts['valid_fraction']:g} before them for valid)"
    )
