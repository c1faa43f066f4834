"""Every stage behind a proxy that breaks what S3 promises, or what its users hope for.

A command ends with the undisturbed result, or with a status and an error that names the object; run
again on a store without faults it ends with the undisturbed result in either case.
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray

from lightsans.config import StorageConfig
from lightsans.errors import LeaseError
from lightsans.storage.location import Location, locate
from lightsans.synthetic.directories import write_synthetic_dataset
from lightsans.synthetic.logs import generate_blocks, write_inter
from pipelines.session.lease import Lease, hold
from tests.s3_faults import Faults, run_faulty_proxy
from tests.stage_processes import running
from tests.stage_runs import BY_NAME, ITEMS, USERS, Root, Stage, make_root

STAGES = ("preprocess", "train", "evaluate", "score", "tune", "export")
MANY = 6000  # parts of so many users are read in more than one range
QUICK = {"pipelines.session.waiting.POLL_S": 0.2}


@dataclass(slots=True)
class Delay:
    """Lets a lease be taken; its first renewal, and all that follow for a while, wait."""

    seconds: float
    holds_all: bool = False
    """Whether all other requests wait as well, so that the stage lasts as long."""
    writes: int = 0
    ends_at: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: str) -> None:
        if "/locks/" not in request:
            while self.holds_all and self.writes and not self.is_over:
                time.sleep(0.2)
            return
        with self.lock:
            self.writes += request.startswith("PUT")
            if self.ends_at is None and self.writes > 1:
                self.ends_at = time.monotonic() + self.seconds
        if self.ends_at is not None:
            time.sleep(max(0.0, self.ends_at - time.monotonic()))

    @property
    def is_over(self) -> bool:
        return self.ends_at is not None and time.monotonic() > self.ends_at


@dataclass(slots=True)
class Replacement:
    """Replaces an object once, between two requests for it.

    A small object is read by one request, after one for its size and etag.
    """

    of: str
    """End of its address."""
    by: Callable[[], None]
    before: int = 2
    """Number of the reading request that comes too late."""
    reads: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: str) -> None:
        method, path, asked = request.split(" ", 2)
        if method != "GET" or not asked or not path.endswith(self.of):
            return
        with self.lock:
            self.reads += 1
            if self.reads == self.before:
                self.by()


@dataclass(frozen=True, slots=True)
class Case:
    """A stage on S3: its root as the server has it, and the same through a proxy."""

    stage: Stage
    root: Root
    expected: Any
    log: Location
    logs: Path

    def run(self, endpoint_url: str, constants: dict[str, float] | None = None) -> tuple[int, str]:
        """Status and output of the command."""
        environment = {"RAY_AUTH_MODE": "disabled"}
        if self.stage.uses_ray:
            environment["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        words = self.root.words(self.stage, f"storage.endpoint_url={endpoint_url}")
        with running(words, [self.logs / "log"], environment, {**QUICK, **(constants or {})}) as [
            command
        ]:
            return command.wait(), command.said

    def require_undisturbed(self) -> None:
        """Run once more without faults; there is one result, the undisturbed one."""
        status, said = self.run(str(self.root.location.storage.endpoint_url))
        assert status == 0, said
        assert self.root.contents(self.stage) == self.expected


@pytest.fixture
def case(request, tmp_path, s3_server) -> Callable[..., Case]:
    """Make a case: a stage with the content of its undisturbed result."""

    def make(name: str, users: int = USERS) -> Case:
        stage = BY_NAME[name]
        if stage.uses_ray:
            request.getfixturevalue("ray_cluster")
        storage = StorageConfig(endpoint_url=s3_server.endpoint_url)
        base = locate(s3_server.uri(re.sub(r"\W", "-", request.node.name)), storage)
        write_log(base / "log.inter", tmp_path / "log.inter", seed=3)
        more = ("data.read_unit_bytes=20000",)
        made = [
            make_root(f"{base}/{n}", storage, stage, f"{base}/log.inter", users=users) for n in "ab"
        ]
        alone, root = (Root(one.location, (*one.settings, *more)) for one in made)
        undisturbed = Case(stage, alone, None, base / "log.inter", tmp_path)
        status, said = undisturbed.run(s3_server.endpoint_url)
        assert status == 0, said
        return Case(stage, root, alone.contents(stage), base / "log.inter", tmp_path)

    return make


def write_log(log: Location, aside: Path, seed: int) -> None:
    write_inter(aside, generate_blocks(300, 120, 6000, seed=seed))
    log.write_bytes(aside.read_bytes())


def replacement_for(case: Case) -> Replacement:
    """A file that the stage reads range by range, and another of the same kind."""
    root, aside = case.root.location, case.logs / "other"
    match case.stage.command:
        case "preprocess":
            return Replacement("/log.inter", lambda: write_log(case.log, aside, seed=4))
        case "export":
            items = root / "models" / "m" / "items.parquet"
            other = items.read_table().slice(1)
            return Replacement("/m/items.parquet", lambda: items.write_table(other), before=1)
        case _:
            part = "sequences/part-00001.parquet"
            own, other_dataset = root / "datasets" / "d" / part, root / "other"
            write_synthetic_dataset(
                other_dataset, MANY, ITEMS, history=12, num_parts=3, newcomers=0, seed=1
            )
            content = (other_dataset / part).read_bytes()
            return Replacement(f"/d/{part}", lambda: own.write_bytes(content))


def check_replacement(case: Case) -> None:
    replacement = replacement_for(case)
    target = case.log if case.stage.command == "preprocess" else None
    faults = Faults({}, intervene=replacement)
    originals = {
        path: case.root.location.filesystem.cat_file(path)
        for path in case.root.location.filesystem.find(case.root.location.path)
    }
    log = case.log.read_bytes()
    with run_faulty_proxy(str(case.root.location.storage.endpoint_url), faults) as url:
        status, said = case.run(url)
    assert replacement.reads >= replacement.before, faults.requests
    name = replacement.of if target is None else target.uri
    assert (status, "Traceback" in said) == (2 if target else 1, False), said
    assert re.search(rf"{re.escape(name)}: the (file|object) (changed|was replaced) while", said)
    assert case.root.contents(case.stage) == []
    for path, content in originals.items():
        case.root.location.filesystem.pipe_file(path, content)
    case.log.write_bytes(log)
    case.require_undisturbed()


def check_missing_keys(case: Case) -> None:
    faults = Faults({}, hides_missing=True)
    with run_faulty_proxy(str(case.root.location.storage.endpoint_url), faults) as url:
        status, said = case.run(url)
    assert faults.made["hidden"] >= 1
    assert (status, "Traceback" in said) == (2, False), said
    assert re.search(r"s3://lightsans/\S+: no access: .*s3:ListBucket", said), said
    assert case.root.contents(case.stage) == []
    case.require_undisturbed()


def test_an_export_without_the_right_to_list_says_which_right_it_lacks(case):
    check_missing_keys(case("export"))


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_an_object_that_is_replaced_between_two_of_its_ranges_is_named(stage, case):
    check_replacement(case(stage, users=MANY))


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_object_that_is_forbidden_names_the_right_to_list(stage, case):
    check_missing_keys(case(stage))


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_every_fiftieth_answer_may_be_lost(stage, case):
    made = case(stage)
    faults = Faults({}, drop_every=50 if made.stage.uses_ray else 10)  # an export asks little
    with run_faulty_proxy(str(made.root.location.storage.endpoint_url), faults) as url:
        status, said = made.run(url)
    assert faults.made["lost_answer"] >= 1, faults.requests.total()
    assert (status, "Traceback" in said) == (0, False), said
    assert made.root.contents(made.stage) == made.expected


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_renewals_that_wait_for_half_the_lease_do_not_cost_it(stage, case):
    made, delay = case(stage), Delay(seconds=6)
    faults = Faults({}, intervene=delay)
    with run_faulty_proxy(str(made.root.location.storage.endpoint_url), faults) as url:
        status, said = made.run(url, {"pipelines.session.stage.LEASE_S": 12.0})
    assert delay.ends_at is not None
    assert (status, "Traceback" in said) == (0, False), said
    assert made.root.contents(made.stage) == made.expected


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_outlives_renewals_that_wait_for_ninety_seconds(stage, case):
    """With the lease that stages have, while nothing else is answered either."""
    made, delay = case(stage), Delay(seconds=90, holds_all=True)
    with run_faulty_proxy(
        str(made.root.location.storage.endpoint_url), Faults({}, intervene=delay)
    ) as url:
        status, said = made.run(url)
    assert delay.is_over
    assert (status, "Traceback" in said) == (0, False), said
    assert made.root.contents(made.stage) == made.expected


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_lease_outlives_renewals_that_wait_for_ninety_seconds(s3_server):
    delay = Delay(seconds=90)
    with run_faulty_proxy(s3_server.endpoint_url, Faults({}, intervene=delay)) as url:
        location = locate(s3_server.uri("ninety/locks/x.json"), StorageConfig(endpoint_url=url))
        straight = Location(location.uri, StorageConfig(endpoint_url=s3_server.endpoint_url))
        with hold(location, "patient", 180) as lease:
            end = straight.read_json()["expires_at"]
            while straight.read_json()["expires_at"] == end or delay.ends_at is None:
                with suppress(LeaseError):
                    Lease(straight, "other", 180).take()
                    pytest.fail("the lease was taken away")
                time.sleep(1)
            lease.renew()
        assert delay.ends_at < time.monotonic()
