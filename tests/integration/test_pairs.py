"""Two processes of the same stage are started together, and one of them is killed at some moment.

Whatever the moment, the other one ends with the result of a run that nobody disturbed.
"""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import torch

from lightsans.config import ModelConfig, StorageConfig
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.model.network import LightSANs
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifests import read_manifest, require_manifest, write_manifest
from lightsans.storage.parts import sequence_parts
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from tests.integration.conftest import TINY

REPOSITORY = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("ROUNDS", "3"))
MODEL = ModelConfig(
    max_seq_len=12, hidden_size=16, inner_size=32, n_layers=1, k_interests=3, n_heads=2
)
USERS, ITEMS = 200, 60

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


def rows_of_dataset(dataset: Location) -> Any:
    manifest = require_manifest(dataset, "")
    parts = [part.read_table() for part in sequence_parts(dataset, manifest)]
    return manifest["fingerprint"], pa.concat_tables(parts).to_pylist()


def learning_of_model(model: Location) -> Any:
    history = (model / "history.json").read_json()
    curve = [(row["loss"], row["valid"]) for row in history]  # type: ignore[index]
    weights = files.saved_model((model / files.WEIGHTS).read_bytes(), model.name).weights
    values = {name: tensor.tolist() for name, tensor in weights.items()}
    return curve, (model / files.METRICS).read_json(), values


def metrics_of_report(report: Location) -> Any:
    return require_manifest(report, "")["metrics"]


def rows_of_run(run: Location) -> Any:
    parts = require_manifest(run, "")["parts"]
    paths = [file["path"] for part in parts for file in part["files"]]
    return pa.concat_tables([(run / path).read_table() for path in paths]).to_pylist()


def trials_of_search(search: Location) -> Any:
    manifest = require_manifest(search, "")
    leaderboard = (search / "leaderboard.parquet").read_table().drop_columns(["train_s"])
    return manifest["trials"], manifest["best"], leaderboard.to_pylist()


def content_of_export(target: Location) -> Any:
    pointer = require_manifest(target, "")
    paths = pointer["files"]
    items = (target / paths["items.parquet"]).read_table().to_pylist()
    vectors = (target / paths["item_vectors.npy"]).read_bytes()
    assert (target / paths["user_encoder.pt2"]).exists()
    return pointer["version"], pointer["weights_sha256"], items, vectors


@dataclass(frozen=True, slots=True)
class Stage:
    """A command of which there are two, and what it leaves."""

    command: str
    arguments: tuple[str, ...]
    results: str
    """The room below the root in which the one finished result lies."""
    content: Callable[[Location], Any]
    """What is equal whenever the same is made."""
    uses_ray: bool = True


DATASET, BOTH = ("--dataset", "d"), ("--dataset", "d", "--model", "m")
SPACE = {"learning_rate": {"choice": [0.01, 0.001]}}
STAGES = (
    Stage("preprocess", (), "datasets", rows_of_dataset),
    Stage("train", DATASET, "models", learning_of_model),
    Stage("evaluate", BOTH, "reports", metrics_of_report),
    Stage("score", BOTH, "recommendations", rows_of_run),
    Stage("tune", DATASET, "tune", trials_of_search),
    Stage("export", ("--model", "m"), "serving", content_of_export, uses_ray=False),
)


@dataclass(frozen=True, slots=True)
class Root:
    """Where the results of one round lie."""

    location: Location
    settings: tuple[str, ...]

    def finished(self, stage: Stage) -> list[Location]:
        found = self.location / stage.results
        results = [found / name for name in found.children()]
        return [result for result in results if read_manifest(result) is not None]

    def is_locked(self) -> bool:
        return bool(self.holders())

    def holders(self) -> list[int]:
        """Ids of the processes that have or had the lease last."""
        locks = self.location / "locks"
        names = [name for name in locks.children() if name.endswith(".json")]
        return [(locks / name).read_json()["pid"] for name in names]


@functools.cache
def random_weights() -> bytes:
    """The content of a weights file: made once, since equal weights may have unequal headers."""
    torch.manual_seed(0)
    return files.weights_to_bytes(LightSANs(MODEL, ITEMS))


def write_model(model: Location) -> None:
    """Write a model of random weights with all that later stages ask of it; always the same."""
    write_synthetic_model(model, MODEL, ITEMS, "d")
    (model / files.WEIGHTS).write_bytes(random_weights())
    (model / files.METRICS).write_json({"valid": {}})
    fingerprint = load_vocabulary(model).fingerprint
    write_manifest(model, {**require_manifest(model, ""), "vocabulary_fingerprint": fingerprint})


def make_root(uri: str, storage: StorageConfig, stage: Stage, log: Path) -> Root:
    location = locate(uri, storage)
    if "--dataset" in stage.arguments:
        write_synthetic_dataset(
            location / "datasets" / "d", USERS, ITEMS, history=12, num_parts=3, newcomers=0
        )
    if "--model" in stage.arguments:
        write_model(location / "models" / "m")
    settings = [
        *TINY, f"root={uri}", f"data.input={log}", "train.num_workers=1", "train.epochs=2",
        "train.checkpoint_steps=2", "score.num_workers=1", "tune.engine=grid",
        "tune.scheduler=none", f"tune.space={json.dumps(SPACE)}",
    ]  # fmt: skip
    if storage.endpoint_url:
        settings.append(f"storage.endpoint_url={storage.endpoint_url}")
    return Root(location, tuple(settings))


@contextmanager
def started(stage: Stage, root: Root, directory: Path, count: int) -> Iterator[list[Any]]:
    """So many processes, each the first of a group of its own; gone when the block ends."""
    words = [word for setting in root.settings for word in ("-s", setting)]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    if stage.uses_ray:
        environment["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    processes = []
    try:
        for number in range(count):
            with (directory / f"{number}.err").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "submit.py", stage.command, *stage.arguments, *words],
                    cwd=REPOSITORY,
                    env=environment,
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            processes.append(process)
        yield processes
    finally:
        for process in processes:
            kill(process)
            process.wait()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and what it started; who has not been asked for its status stays a zombie."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)


def wait_for_lease(root: Root, processes: list[Any]) -> None:
    while not root.is_locked() and all(process.poll() is None for process in processes):
        time.sleep(0.05)


def run_undisturbed(stage: Stage, root: Root, directory: Path) -> float:
    """Seconds from the lease to the end."""
    with started(stage, root, directory, 1) as processes:
        wait_for_lease(root, processes)
        begun = time.monotonic()
        status = processes[0].wait(600)
    assert status == 0, (directory / "0.err").read_text()
    return time.monotonic() - begun


def run_pair(stage: Stage, root: Root, directory: Path, moment_s: float, victim: int) -> str:
    """Kill one of two so long after the lease was taken; what happened, in words."""
    with started(stage, root, directory, 2) as processes:
        killed, survivor = processes[victim], processes[1 - victim]
        wait_for_lease(root, processes)
        time.sleep(moment_s)
        was_over, held = killed.poll() is not None, killed.pid in root.holders()
        kill(killed)  # nobody asks for its status while the other one is at work
        status = survivor.wait(600)
        killed.wait()
    said = (directory / f"{1 - victim}.err").read_text()
    assert status == 0, said
    assert "Traceback" not in said, said
    ended = (directory / f"{victim}.err").read_text()
    assert killed.returncode == (0 if was_over else -signal.SIGKILL), ended
    who = "one that had ended" if was_over else "the holder" if held else "one that waited or began"
    return f"killed {who}; the survivor {'found' if 'is up to date' in said else 'made'} it"


@pytest.mark.parametrize("storage", ["disk", "s3"])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.command)
def test_of_two_one_is_killed_and_the_other_ends_with_the_same_result(
    stage, storage, tmp_path, small_log, s3_credentials, request
):
    if stage.uses_ray:
        request.getfixturevalue("ray_cluster")
    config, base = StorageConfig(), str(tmp_path)
    if storage == "s3":
        server = request.getfixturevalue("s3_server")
        config = StorageConfig(endpoint_url=server.endpoint_url)
        base = server.uri(f"pairs-{stage.command}")
    alone = make_root(f"{base}/alone", config, stage, small_log)
    length_s = run_undisturbed(stage, alone, tmp_path)
    [expected] = alone.finished(stage)
    rng = random.Random(f"{stage.command} {storage}")
    for number in range(ROUNDS):
        root = make_root(f"{base}/{number}", config, stage, small_log)
        # One moment in each of so many equal spans of the time that an undisturbed run takes.
        moment_s, victim = (number + rng.random()) / ROUNDS * length_s, rng.randrange(2)
        told = run_pair(stage, root, tmp_path, moment_s, victim)
        print(f"round {number}: {moment_s:.1f} of {length_s:.1f} s: {told}", flush=True)
        [result] = root.finished(stage)
        assert result.name == expected.name
        assert stage.content(result) == stage.content(expected)
