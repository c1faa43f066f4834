"""The stages in order, each skipped when its result is there: the run that a demo or night is."""

from dataclasses import dataclass

from lightsans.config import RunConfig
from lightsans.reports.run_figures import require_known_figures
from pipelines.evaluate.stage import EvaluateResult, run_evaluate
from pipelines.preprocess.stage import PreprocessResult, run_preprocess
from pipelines.refit.stage import Refit, require_test, run_refit
from pipelines.score.stage import ScoreResult, run_score
from pipelines.score.table import write_to_table
from pipelines.train.stage import TrainResult, run_train


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """Results of all stages."""

    dataset: PreprocessResult
    model: TrainResult
    evaluation: EvaluateResult
    recommendations: ScoreResult
    refit: Refit | None = None
    """The model that was recommended with, where one was asked for; metrics are of ``model``."""


def run_pipeline(config: RunConfig, *, force: bool = False, refit: bool = False) -> PipelineResult:
    """Preprocess, train, evaluate and score; raises what the stages raise.

    Args:
        config: The run.
        force: Make everything again.
        refit: Recommend with a model that has learnt everything: see `pipelines.refit.stage`.
    """
    require_known_figures(config.score)  # not after hours of training
    require_test(config)
    dataset = run_preprocess(config, force=force)
    model = run_train(config, dataset.dataset_id, force=force)
    evaluation = run_evaluate(config, dataset.dataset_id, model.model_id, force=force)
    made = run_refit(config, dataset, model.model_id, force=force) if refit else None
    scored = (
        (made.dataset.dataset_id, made.model.model_id)
        if made
        else (dataset.dataset_id, model.model_id)
    )
    recommendations = run_score(config, *scored, force=force)
    write_to_table(config, recommendations.run_id)
    return PipelineResult(dataset, model, evaluation, recommendations, made)
