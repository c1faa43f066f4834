"""A driver that dies, or stands still for longer than its lease, while its workers live on.

Another one takes over and ends with the undisturbed result. The first one, woken up, learns that it
lost the lease, and changes nothing.
"""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from lightsans.config import StorageConfig
from lightsans.errors import LeaseError
from lightsans.storage.location import locate
from lightsans.synthetic.logs import generate_blocks, write_inter
from pipelines.session.lease import Lease, Owner
from pipelines.tune.records import TrialRecord, TrialStore
from tests.stage_processes import Command, running, wait_until
from tests.stage_runs import BY_NAME, Root, Stage, make_root

SHORT = {"pipelines.session.stage.LEASE_S": 3.0, "pipelines.session.waiting.POLL_S": 0.2}
USERS, PARTS = 4000, 12
MACHINE: dict[str, Any] = {"num_cpus": 4, "object_store_memory": 200 << 20}
# What shows that workers are at work: notes of parts, counts, commits, checkpoints.
TRACES = {
    "preprocess": "_work/part-",
    "train": "/progress.json",
    "evaluate": "/baseline-counts.npz",
    "score": "/_commits/",
    "tune": "/trials/",
}


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that takes the workers some seconds."""
    path = tmp_path_factory.mktemp("log") / "long.inter"
    write_inter(path, generate_blocks(3000, 120, 200_000, seed=3))
    return path


@dataclass(frozen=True, slots=True)
class Course:
    """How a stage is run here: with work for some seconds, on the cluster of the tests."""

    stage: Stage
    root: Root
    logs: Path
    address: str

    def running(self, name: str) -> AbstractContextManager[list[Command]]:
        more = (f"data.num_parts={PARTS}", "data.read_unit_bytes=500000", "train.epochs=3")
        environment = {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled"}
        words = self.root.words(self.stage, *more)
        return running(words, [self.logs / f"{name}.log"], environment, SHORT)

    def is_at_work(self) -> bool:
        return any(TRACES[self.stage.command] in path for path in self.root.files())


@pytest.fixture
def course(request, tmp_path, long_log, s3_credentials) -> Callable[..., Course]:
    """Make a course: ``course(address, "score", "s3", "name")``."""

    def make(address: str, stage: str, storage: str, name: str) -> Course:
        config, base = StorageConfig(), str(tmp_path)
        if storage == "s3":
            server = request.getfixturevalue("s3_server")
            config = StorageConfig(endpoint_url=server.endpoint_url)
            base = server.uri(re.sub(r"\W", "-", request.node.name))
        found = BY_NAME[stage]
        root = make_root(f"{base}/{name}", config, found, long_log, users=USERS, parts=PARTS)
        return Course(found, root, tmp_path, address)

    return make


@pytest.fixture(scope="module")
def cluster(s3_credentials: None) -> Iterator[Cluster]:
    """A cluster to which machines can be added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args=MACHINE)
        try:
            yield started
        finally:
            started.shutdown()


def check_takeover(
    course: Callable[[str], Course],
    ending: signal.Signals,
    other_machine: Callable[[], AbstractContextManager[None]],
) -> None:
    """Stop or kill the first of two at work; the second does all; then the first goes on.

    Args:
        course: Makes a course with a root of this name.
        ending: The signal that the first is sent.
        other_machine: The second finds its CPUs there: a driver that stands still gives none back.
    """
    alone = course("alone")
    with alone.running("alone") as [command]:
        assert command.wait() == 0, command.said
    both = course("both")
    with both.running("first") as [first]:
        assert wait_until(both.is_at_work, first), first.said
        first.send(ending)
        with other_machine(), both.running("second") as [second]:
            assert second.wait() == 0, second.said
        assert "is up to date" not in second.said, second.said  # it was the one that finished
        finished = both.root.files()
        assert both.root.contents(both.stage) == alone.root.contents(alone.stage)
        first.send(signal.SIGCONT)
        status = first.wait()
    assert both.root.files() == finished
    if ending is signal.SIGKILL:
        assert status == -signal.SIGKILL
    else:
        assert (status, "the lease was lost to" in first.said) == (4, True), first.said
    assert "Traceback" not in first.said + second.said, first.said + second.said


def test_on_s3_a_worker_whose_owner_lost_the_lease_writes_and_deletes_nothing(s3_server):
    """Without drivers: the check that the workers of the tests below make."""
    root = locate(s3_server.uri("late-worker"), StorageConfig(endpoint_url=s3_server.endpoint_url))
    lock = root / "locks" / "search-x.json"
    first, second = Lease(lock, "first", 0.01), Lease(lock, "second", 60)
    first.take()
    late = TrialStore(root / "tune" / "x", Owner(lock, first.token).require)
    late.save(TrialRecord(number=1, values={}, model_id="m"))
    (late.trial_directory(1) / "checkpoints" / "x").write_bytes(b"of second")
    second.take(wait_s=10)
    before = Root(root, ()).files()
    for change in (
        lambda: late.save(TrialRecord(number=1, values={}, model_id="m", status="failed")),
        lambda: late.save_spent(1),
        lambda: late.delete_checkpoints(1),
    ):
        with pytest.raises(LeaseError, match="lost to second"):
            change()
    assert Root(root, ()).files() == before


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ending", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
@pytest.mark.parametrize("storage", ["disk", "s3"])
@pytest.mark.parametrize("stage", ["preprocess", "train", "evaluate", "score", "tune"])
def test_another_driver_takes_over_while_the_workers_of_the_first_live_on(
    stage, storage, ending, course, cluster
):
    @contextmanager
    def other_machine() -> Iterator[None]:
        added = cluster.add_node(**MACHINE)
        try:
            yield
        finally:
            cluster.remove_node(added)

    check_takeover(partial(course, cluster.address, stage, storage), ending, other_machine)
