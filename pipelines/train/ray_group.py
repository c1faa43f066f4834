"""Workers of a training that Ray Train starts, watches and starts again."""

import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from pipelines.embedded.start import have_dashboard
from pipelines.train.errors import explain
from pipelines.train.job import WorkerJob
from pipelines.train.worker import Place, train_worker

RESIZE_S = 30.0
"""Interval at which an elastic run looks for room for more workers."""


def train_with_ray(job: WorkerJob) -> None:
    """Train until the last epoch or early stopping.

    Raises:
        TrainingError: Memory does not suffice, or a worker waited in vain for the others.
    """
    have_dashboard()
    try:
        make_torch_trainer(job).fit()
    except ray.train.TrainingFailedError as error:
        own = explain(error, job.config.train, "training")
        if own is None:
            raise
        raise own from error


class _Trainer(TorchTrainer):
    """Ray Train's trainer without its way of ending on Ctrl-C, which takes an epoch and exits 1."""

    def _register_sigint_handler(self, controller: object) -> None:
        pass


def make_torch_trainer(job: WorkerJob) -> TorchTrainer:
    """The Ray Train run of a model."""
    train = job.config.train
    return _Trainer(
        _work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(timeout_s=train.collective_timeout_s),
        # mypy reads the signature of Ray Train's first version
        scaling_config=ScalingConfig(
            num_workers=train.num_workers,  # type: ignore[arg-type]
            use_gpu=train.use_gpu,
            elastic_resize_monitor_interval_s=RESIZE_S,  # type: ignore[call-arg]
        ),
        run_config=ray.train.RunConfig(
            name="checkpoints",
            storage_path=job.model.path,
            storage_filesystem=job.model.arrow_filesystem,
            failure_config=FailureConfig(max_failures=train.max_failures),
        ),
    )


def _work(loop_config: dict[str, WorkerJob]) -> None:
    place = Place(
        device=ray.train.torch.get_device(),
        wrap=lambda module: ray.train.torch.prepare_model(module, move_to_device=False),
        has_notice=lambda: ray.train.get_preemption_info() is not None,
    )
    train_worker(loop_config["job"], place)
