"""The stages on Ray as the engine of a `lightsans.Recommender`."""

from dataclasses import dataclass

from lightsans.config import RunConfig
from lightsans.reports.evaluation_figures import EvaluationFigures
from pipelines.evaluate.stage import run_evaluate
from pipelines.preprocess.stage import run_preprocess
from pipelines.refit.stage import run_refit
from pipelines.train.stage import run_train


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Makes datasets and models on the Ray that is found, or an embedded one.

    On a cluster, give the `Recommender` a ``root`` that all machines reach.
    """

    def make_dataset(self, config: RunConfig) -> str:
        """Run the stage ``preprocess``; the id of the dataset."""
        return run_preprocess(config).dataset_id

    def train(self, config: RunConfig, dataset_id: str) -> str:
        """Run the stage ``train``; the id of the model."""
        return run_train(config, dataset_id).model_id

    def refit(self, config: RunConfig, dataset_id: str, model_id: str) -> tuple[str, str]:
        """Run the refit, as ``pipeline --refit`` does; the ids of its dataset and model."""
        made = run_preprocess(config)
        assert made.dataset_id == dataset_id
        refit = run_refit(config, made, model_id)
        return refit.dataset.dataset_id, refit.model.model_id

    def evaluate(self, config: RunConfig, dataset_id: str, model_id: str) -> EvaluationFigures:
        """Run the stage ``evaluate``; its figures."""
        return run_evaluate(config, dataset_id, model_id).figures
