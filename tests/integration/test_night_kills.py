"""A night is killed at a random moment, and the same command ends with the same published rows.

Moments are spread over what an undisturbed night says until it has published, and not over its
time, so that all stages are met however busy the machine is.

ROUNDS is the number of nights. With NIGHTS_LOG, the name of a file, they are recorded there, and
those that are there already are not run again: ``python -m tests.night_rounds FILE`` shows them.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from lightsans.config import StorageConfig
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import RunManifest
from lightsans.storage.manifests import require_manifest
from pipelines.publish import read_published
from tests.integration.conftest import TINY
from tests.night_rounds import NightRound, add_round, read_rounds
from tests.nights import FIRST, SECOND, latest, write_log
from tests.stage_processes import Command, running, wait_until

ROUNDS = int(os.environ.get("ROUNDS", "3"))
RECORDS = Path(os.environ["NIGHTS_LOG"]).absolute() if "NIGHTS_LOG" in os.environ else None
SMALL = (
    *("data.columns.rating=null", "data.num_parts=1", "score.num_workers=1", "train.num_workers=1"),
    *("train.epochs=1", "nightly.beat_baselines=[]", "nightly.max_relative_drop=null"),
    *("nightly.min_refit_overlap=null", "nightly.max_coverage_drop=null"),
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


def words(root: Path, log: Path, date: str) -> list[str]:
    settings = [f"root={root}", f"data.input={log}", *TINY, *SMALL]
    options = [word for setting in settings for word in ("-s", setting)]
    return ["nightly", "--as-of", date, *options]


def published_rows(root: Path) -> Any:
    """The id of the published run, its rows, and how many nights were published."""
    location = locate(str(root), StorageConfig())
    run_id = latest(root)
    if run_id is None:
        return None
    run = location / "recommendations" / run_id
    manifest = require_manifest(RunManifest, run, "")
    tables = [(run / file.path).read_table() for part in manifest.parts for file in part.files]
    return run_id, pa.concat_tables(tables).to_pylist(), len(read_published(location).history)


def stage_of(said: str) -> str:
    """The stage that a night has begun last, by what it has said."""
    names = ("preprocess", "train", "evaluate", "refit", "score", "nightly")
    lines = [line.partition(":")[0].split()[-1:] for line in said.splitlines()]
    told = [line[0] for line in lines if line and line[0] in names]
    if "refit" in told[:-1] and told[-1] == "train":
        return "refit"
    return told[-1] if told else "start"


def commit() -> str:
    called = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return called.stdout.strip()


def run_alone(command: list[str], log: Path, environment: dict[str, str]) -> tuple[float, int]:
    """Seconds that a night takes which nobody disturbs, and lines until it has published."""
    begun = time.monotonic()
    with running(command, [log], environment) as [night]:
        assert night.wait() == 0, night.said
    before, _, _ = night.said.partition("nightly: published run")
    return time.monotonic() - begun, before.count("\n") + 1


def kill_at_random(night: Command, moment: float, alone: tuple[float, int], pause: float) -> str:
    """Kill a night after a share of its lines, and a pause of so many lines' time; its stage."""
    length_s, lines = alone
    wait_until(lambda: night.said.count("\n") >= int(moment * lines), night)
    time.sleep(pause * length_s / lines)
    has_ended = night.status is not None
    night.send(signal.SIGKILL)
    return "end" if has_ended else stage_of(night.said)


def test_a_night_killed_at_any_moment_ends_with_the_same_published_rows(
    tmp_path, ray_cluster, small_nights
):
    first, alone, expected, environment, log = small_nights
    known = read_rounds(RECORDS)
    wrong = [made for made in known if not made.is_good]
    for number in sorted(set(range(ROUNDS)) - {made.number for made in known}):
        root = tmp_path / f"root{number}"
        shutil.copytree(first, root)
        rng = random.Random(f"night {number}")
        moment = (number + rng.random()) / ROUNDS
        command, said = words(root, log, SECOND), tmp_path / f"{number}.log"
        begun = time.monotonic()
        with running(command, [said], environment) as [night]:
            during = kill_at_random(night, moment, alone, rng.random())
            moment_s = time.monotonic() - begun
        with running(command, [tmp_path / f"{number}-again.log"], environment) as [again]:
            status = again.wait()
        made = NightRound(
            number=number,
            moment_s=round(moment_s, 2),
            length_s=round(alone[0], 2),
            during=during,
            status=status,
            same_rows=published_rows(root) == expected,
            commit=commit(),
        )
        add_round(RECORDS, made)
        if not made.is_good:
            wrong.append(made)
            print(night.said, again.said, sep="\n----\n")
        shutil.rmtree(root)
    assert wrong == []


@pytest.fixture
def small_nights(tmp_path, ray_cluster):
    """A root after its first night, seconds, lines and rows of the second, and where it runs."""
    environment = {
        "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": ray.get_runtime_context().gcs_address
    }  # fmt: skip
    log, first, alone = tmp_path / "log.csv", tmp_path / "first", tmp_path / "alone"
    write_log(log)
    run_alone(words(first, log, FIRST), tmp_path / "first.log", environment)
    shutil.copytree(first, alone)
    taken = run_alone(words(alone, log, SECOND), tmp_path / "alone.log", environment)
    return first, taken, published_rows(alone), environment, log
