"""Two processes of the same stage are started together, and one of them is killed at some moment.

Whatever the moment, the other one ends with the result of a run that nobody disturbed.

ROUNDS is the number of rounds of each stage on each storage. With PAIRS_LOG, the name of a file,
rounds are recorded there; those that are there already are not run again, and logs of rounds that
went wrong are kept beside it. ``python -m tests.pair_rounds FILE`` shows the file as a table.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from lightsans.config import StorageConfig
from tests.pair_rounds import Round, Victim, add_round, read_rounds
from tests.stage_processes import Command, running
from tests.stage_runs import STAGES, Root, Stage, make_root

ROUNDS = int(os.environ.get("ROUNDS", "3"))
RECORDS = Path(os.environ["PAIRS_LOG"]).absolute() if "PAIRS_LOG" in os.environ else None
QUICK = {"pipelines.session.waiting.POLL_S": 0.5}  # whoever waits looks more often

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


def commit() -> str:
    called = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return called.stdout.strip()


def run_undisturbed(stage: Stage, root: Root, log: Path, environment: dict[str, str]) -> float:
    """Seconds from the start to the end."""
    begun = time.monotonic()
    with running(root.words(stage), [log], environment, QUICK) as [command]:
        assert command.wait() == 0, command.said
    return time.monotonic() - begun


def choose_victim(
    root: Root, pair: list[Command], wants_holder: bool, rng: random.Random
) -> Command:
    """The one that has the lease, or the other one; either of them while nobody has it."""
    holders = root.holders()
    order = rng.sample(pair, 2)
    chosen = [one for one in order if (one.pid in holders) == (wants_holder and bool(holders))]
    return (chosen or order)[0]


def kill_one(
    root: Root, pair: list[Command], wants_holder: bool, rng: random.Random
) -> tuple[Command, Victim]:
    victim = choose_victim(root, pair, wants_holder, rng)
    victim.send(signal.SIGSTOP)  # its part is the same from here to the end
    holders, has_ended = root.holders(), victim.status is not None
    victim.send(signal.SIGKILL)
    if has_ended:
        return victim, "ended"
    if victim.pid in holders:
        return victim, "holder"
    return victim, "waiting" if holders else "starting"


def run_pair(
    stage: Stage, root: Root, directory: Path, number: int, length_s: float, expected: Any,
    environment: dict[str, str], storage: str,
) -> Round:  # fmt: skip
    """Kill one of two so long after their start; what happened."""
    rng = random.Random(f"{stage.command} {storage} {number}")
    # One moment in each of so many equal spans of the time that an undisturbed run takes. Every
    # other one is for whoever has the lease.
    moment_s = (number + rng.random()) / ROUNDS * length_s
    logs = [directory / f"{number}-{which}.log" for which in range(2)]
    with running(root.words(stage), logs, environment, QUICK) as pair:
        time.sleep(moment_s)
        victim, who = kill_one(root, pair, number % 2 == 0, rng)
        [survivor] = [one for one in pair if one is not victim]
        status = survivor.wait()
        victim_status = victim.wait()
    return Round(
        stage=stage.command,
        storage=storage,
        number=number,
        victim=who,
        moment_s=round(moment_s, 2),
        length_s=round(length_s, 2),
        victim_status=victim_status,
        survivor_status=status,
        survivor="found" if "is up to date" in survivor.said else "made",
        same_content=status == 0 and root.contents(stage) == expected,
        commit=commit(),
    )


def keep_logs(directory: Path, made: Round) -> str:
    """Copy the logs of a round to where they outlive the test; their text."""
    logs = sorted(directory.glob(f"{made.number}-*.log"))
    if RECORDS is not None:
        for log in logs:
            name = f"{RECORDS.stem}-{made.stage}-{made.storage}-{log.name}"
            shutil.copy(log, RECORDS.with_name(name))
    return "\n".join(f"{log.name}:\n{log.read_text()}" for log in logs)


@pytest.mark.parametrize("storage", ["disk", "s3"])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.command)
def test_of_two_one_is_killed_and_the_other_ends_with_the_same_result(
    stage, storage, tmp_path, small_log, s3_credentials, request
):
    known = [
        made
        for made in read_rounds(RECORDS)
        if (made.stage, made.storage) == (stage.command, storage) and made.number < ROUNDS
    ]
    missing = sorted(set(range(ROUNDS)) - {made.number for made in known})
    config, base, environment = StorageConfig(), str(tmp_path), {"RAY_AUTH_MODE": "disabled"}
    if missing and stage.uses_ray:
        request.getfixturevalue("ray_cluster")
        environment["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    if missing and storage == "s3":
        server = request.getfixturevalue("s3_server")
        config = StorageConfig(endpoint_url=server.endpoint_url)
        base = server.uri(f"pairs-{stage.command}")
    expected, length_s = None, 0.0
    if missing:
        alone = make_root(f"{base}/alone", config, stage, small_log)
        run_undisturbed(stage, alone, tmp_path / "alone.log", environment)
        expected = alone.contents(stage)
        assert len(expected) == 1
        # The first one also starts processes that the next ones find.
        again = make_root(f"{base}/again", config, stage, small_log)
        length_s = run_undisturbed(stage, again, tmp_path / "again.log", environment)
        assert again.contents(stage) == expected
    for number in missing:
        root = make_root(f"{base}/{number}", config, stage, small_log)
        made = run_pair(stage, root, tmp_path, number, length_s, expected, environment, storage)
        print(made, flush=True)
        add_round(RECORDS, made)
        text = "" if made.is_good else keep_logs(tmp_path, made)
        assert made.is_good, f"{made}\n{text}"
        assert made.victim_status == (0 if made.victim == "ended" else -signal.SIGKILL), made
        root.location.delete()
        known.append(made)
    assert all(made.is_good for made in known)
