"""Which trainings are tasks, and how often their workers start again; without Ray."""

from typing import Any

import pytest
import ray
import ray.exceptions

from lightsans.config import RunConfig
from lightsans.config.file import load_config
from lightsans.errors import LightSANsError, TrainingError
from lightsans.storage.location import Location
from lightsans.storage.manifests import write_manifest
from pipelines.train import task_group
from pipelines.train.board import TrainingBoard
from pipelines.train.errors import explain
from pipelines.train.job import WorkerJob
from pipelines.train.task_group import WorkersFailedError, suits, train_in_tasks
from tests.factories import local
from tests.manifests import dataset_manifest


def job_of(tmp_path, *settings: str) -> WorkerJob:
    config: RunConfig = load_config(None, [f"root={tmp_path}", *settings]).config
    root = local(tmp_path)
    board = TrainingBoard()
    return WorkerJob(config=config, dataset=root / "d", model=root / "m", board=board)


def few_users(tmp_path, *settings: str, users: int = 20_000) -> tuple[RunConfig, Location]:
    job = job_of(tmp_path, *settings)
    write_manifest(job.dataset, dataset_manifest(users=users))
    return job.config, job.dataset


def machine(cpus: float) -> dict[str, Any]:
    return {"Alive": True, "Resources": {"CPU": cpus} if cpus else {}}


@pytest.fixture
def machines(monkeypatch) -> list[dict[str, Any]]:
    """The machines of the Ray at hand: one."""
    found = [machine(cpus=4), machine(cpus=4) | {"Alive": False}]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "nodes", lambda: found)
    return found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), True),
        (("train.num_workers=3", "train.virtual_shards=4"), True),
        (("train.use_gpu=true",), False),
        (("train.num_workers=[1, 2]", "train.virtual_shards=4"), False),
    ],
    ids=["one worker", "three workers", "gpu", "elastic"],
)
def test_few_users_on_the_cpus_of_one_machine_are_trained_by_tasks(
    machines, tmp_path, settings, expected
):
    assert suits(*few_users(tmp_path, *settings)) is expected


def test_many_users_and_several_machines_are_for_ray_train(machines, tmp_path):
    assert not suits(*few_users(tmp_path / "many", users=20_001))
    job = few_users(tmp_path / "few")
    assert suits(*job)
    machines.append(machine(cpus=4))
    assert not suits(*job)


@pytest.mark.parametrize("cpus", [0, 1])
def test_a_head_whose_machines_have_yet_to_start_is_for_ray_train(
    machines, tmp_path, cpus, monkeypatch
):
    """A task that has to run on it would wait for ever."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    machines[:] = [machine(cpus)]
    assert suits(*few_users(tmp_path, "train.num_workers=1")) is (cpus == 1)


def test_on_a_ray_that_others_may_use_a_task_is_never_one_of_several_that_wait(
    machines, tmp_path, monkeypatch
):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert suits(*few_users(tmp_path / "one", "train.num_workers=1"))
    assert not suits(*few_users(tmp_path / "two", "train.num_workers=2"))


class Runs:
    """Act as groups of workers, of which the first ones fail."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.count = 0
        self.noted: LightSANsError | None = None

    def run(self, job: WorkerJob) -> None:
        self.count += 1
        if self.noted is not None:
            job.board.fail(self.noted)
        if self.errors:
            raise WorkersFailedError({1: self.errors.pop(0)})


@pytest.fixture
def act(monkeypatch):
    def make(*errors: BaseException) -> Runs:
        runs = Runs(*errors)
        monkeypatch.setattr(task_group, "_run_once", runs.run)
        return runs

    return make


def lost() -> BaseException:
    return ray.exceptions.WorkerCrashedError()


def test_workers_start_again_as_often_as_failures_are_allowed(act, tmp_path):
    runs = act(lost(), lost())
    train_in_tasks(job_of(tmp_path, "train.max_failures=2"))
    assert runs.count == 3


def test_one_more_failure_ends_the_run_and_names_the_setting(act, tmp_path):
    runs = act(lost(), lost(), lost())
    with pytest.raises(TrainingError, match=r"3 times, train\.max_failures=2, .* worker 1: "):
        train_in_tasks(job_of(tmp_path, "train.max_failures=2"))
    assert runs.count == 3


def test_a_worker_that_its_machine_ended_for_memory_names_what_takes_less(act, tmp_path):
    act(ray.exceptions.OutOfMemoryError("killed"))
    with pytest.raises(TrainingError, match=r"worker 1 was ended .* lower train\.batch_size"):
        train_in_tasks(job_of(tmp_path, "train.max_failures=0"))


def test_an_error_that_a_restart_cannot_mend_starts_nobody_again(act, tmp_path):
    runs = act(lost())
    runs.noted = TrainingError("the loss became inf")
    train_in_tasks(job_of(tmp_path))
    assert runs.count == 1


def test_an_error_that_the_board_could_not_keep_starts_nobody_again(act, tmp_path):
    """The disk was full: the worker itself tells it."""
    runs = act(TrainingError("the loss became inf"))
    with pytest.raises(TrainingError, match="the loss became inf"):
        train_in_tasks(job_of(tmp_path))
    assert runs.count == 1


def test_workers_of_which_one_waited_in_vain_start_again(act, tmp_path):
    job = job_of(tmp_path, "train.max_failures=1")
    waited = explain(RuntimeError("Timed out waiting"), job.config.train, "worker 1")
    assert waited is not None
    runs = act(waited)
    train_in_tasks(job)
    assert runs.count == 2
