"""Fixtures for all tests: fixed seeds, one real Ray and one real S3 server, started when asked."""

import atexit
import gc
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Tensors here are small: threads only get in each other's way. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray gives its workers the lowest priority but four, which on two cores costs minutes of a run.
os.environ.setdefault("RAY_worker_niceness", "0")
# Tests start hundreds of processes, and each would compile the project again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from tests.s3_server import S3Server, run_s3_server
from tests.watchdog import pytest_runtest_protocol as pytest_runtest_protocol  # a hook

sys.dont_write_bytecode = False
MEMORY = Path("/dev/shm")
"""A disk of memory, which Linux has."""
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# Deadlines fail on busy machines; random examples fail where nobody can repeat them.
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the files of unit and property tests in memory: they are many, and disks are slow."""
    tests = Path(__file__).parent
    rooms = [tests / "unit", tests / "property"]
    chosen = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    is_small = all(any(path.is_relative_to(room) for room in rooms) for path in chosen)
    if "TMPDIR" in os.environ or not is_small or not os.access(MEMORY, os.W_OK):
        return
    if shutil.disk_usage(MEMORY).free > 1 << 30:  # containers may have little of it
        directory = MEMORY / f"lightsans-tests-{os.getuid()}"
        directory.mkdir(mode=0o700, exist_ok=True)
        os.environ["TMPDIR"] = str(directory)
        tempfile.tempdir = None  # it was looked up before


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector what is imported: it stays, and to look through it takes long."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries tell what is left when Python ends
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            _skip(items, "gpu", "needs a CUDA device")
    if not os.environ.get("RAY_ADDRESS"):
        _skip(items, "cluster", "needs the address of a running cluster in RAY_ADDRESS")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _seeds(request: pytest.FixtureRequest) -> None:
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # importing it for every test would cost seconds
        torch = sys.modules["torch"]
        torch.default_generator.manual_seed(0)
        if request.node.get_closest_marker("gpu"):  # costs a note of the stack for each device
            torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _disk() -> Iterator[None]:
    """Files of tests outlive no loss of power: nobody waits until a disk has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _waits() -> Iterator[None]:
    """Every test begins without ``--wait``: a command's lasts as long as its process."""
    yield
    if "pipelines.session.stage" in sys.modules:
        sys.modules["pipelines.session.stage"].set_wait(None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory of the MovieLens files, which may not be part of the repository."""
    if not (SHARED_DATA / "ml-100k.inter").exists():
        pytest.skip(f"needs the MovieLens files in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def s3_credentials() -> Iterator[None]:
    """Made-up AWS variables for this process and all that it starts.

    Ray's workers inherit the environment of the process that starts Ray, so these are set before
    either server runs, whatever the order in which tests ask for them; the endpoint, which is only
    known later, travels in `storage.endpoint_url`. Real credentials are out of reach meanwhile.
    """
    values = {
        "AWS_ACCESS_KEY_ID": "lightsans-test",
        "AWS_SECRET_ACCESS_KEY": "lightsans-test-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        for name, value in values.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def s3_server(s3_credentials: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on this machine with one empty bucket."""
    with run_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def ray_cluster(s3_credentials: None) -> Iterator[None]:
    """One local Ray for all tests: four logical CPUs, so that data tasks fit beside two workers."""
    with pytest.MonkeyPatch.context() as patch:
        # Loopback only and short-lived; token mode would leave a token in the home directory.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        import ray

        from pipelines.embedded.start import have_dashboard, quick_start
        from pipelines.embedded.workers import MODELS, expect_workers

        expect_workers([*MODELS, "pyarrow.dataset", "numba.typed"])
        with quick_start():
            ray.init(
                address="local",  # also where RAY_ADDRESS is set for the tests marked `cluster`
                num_cpus=4,
                object_store_memory=1 << 30,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        # A command that finds this Ray cannot start one, and Ray Train then waits 12 s at its end.
        have_dashboard()
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 32 << 20
        context.shuffle_input_batch_bytes = 64 << 20
        context.default_hash_shuffle_parallelism = 8
        yield
        ray.shutdown()
