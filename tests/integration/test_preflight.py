"""Every stage on real clusters of one, two and three CPUs: it finishes or refuses, and never hangs.

The clusters are those of a process of its own with a time limit, because a hang is what is looked
for, and because the cluster of the other tests has four CPUs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import ROOT

TIME_LIMIT_S = 400
"""Limit of three pipelines that take half a minute each on two idle cores, not of a hang."""
REFUSED_WITHIN_S = 5.0

SCRIPT = """
import json, logging, sys, time
import ray
from lightsans.config.file import load_config
from lightsans.errors import ResourceError
from pipelines.evaluate.stage import run_evaluate
from pipelines.preprocess.stage import run_preprocess
from pipelines.score.stage import run_score
from pipelines.embedded.start import quick_start
from pipelines.train.stage import run_train
from pipelines.tune.stage import run_tune

def start(cpus):
    with quick_start():
        ray.init(
            address="local", num_cpus=cpus, object_store_memory=200 << 20,
            include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING,
        )

def run_stages(cpus, root, overrides):
    config = load_config(None, [*overrides, f"root={root}/{cpus}"]).config
    dataset = run_preprocess(config)
    model = run_train(config, dataset.dataset_id)
    ids = (dataset.dataset_id, model.model_id)
    evaluation, scored = run_evaluate(config, *ids), run_score(config, *ids)
    found = {
        "epochs": model.manifest.epochs,
        "users": scored.manifest.users,
        "splits": sorted(evaluation.metrics["model"]),
    }
    if cpus == 1:  # test_tune.py has two
        found["trials"] = run_tune(config, dataset.dataset_id).manifest.trials
    return ids, found

def refuse(stage, *arguments):
    began = time.monotonic()
    try:
        stage(*arguments, force=True)
    except ResourceError as error:
        return str(error), time.monotonic() - began
    return "not refused", 0.0

root, *overrides = sys.argv[1:]
for cpus in (1, 2, 3):
    print(f"{cpus} CPUs:", file=sys.stderr, flush=True)
    start(cpus)
    ids, found = run_stages(cpus, root, overrides)
    gpus = [*overrides, f"root={root}/{cpus}", "train.use_gpu=true", "score.use_gpu=true"]
    config = load_config(None, gpus).config
    asked = (run_train, ids[:1]), (run_tune, ids[:1]), (run_evaluate, ids), (run_score, ids)
    found["refusals"] = [refuse(stage, config, *arguments) for stage, arguments in asked]
    ray.shutdown()
    print(json.dumps(found), flush=True)

start(0)
without = load_config(None, [*overrides, f"root={root}/0"]).config
print(json.dumps({"refusals": [refuse(run_preprocess, without)]}))
"""

Results = dict[int, tuple[dict[str, Any], str]]


@pytest.fixture(scope="module")
def results(small_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results and messages of the stages by number of CPUs."""
    root = tmp_path_factory.mktemp("preflight")
    settings = [f"data.input={small_log}", "data.num_parts=3"]
    settings += ["model.hidden_size=16", "model.max_seq_len=12", "train.epochs=1"]
    settings += [f"{section}.num_workers=2" for section in ("train", "tune", "score")]
    settings += ["train.virtual_shards=2"]  # a search loads each in a process of its own
    settings += ["tune.space={k_interests: {choice: [3]}}", "tune.engine=grid"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(root), *settings],
            cwd=ROOT,
            env={**environment, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired as hang:
        said_last = (hang.stderr or b"").decode()[-4000:]
        pytest.fail(f"not finished after {TIME_LIMIT_S} s; this is how far it came:\n{said_last}")
    assert done.returncode == 0, done.stderr[-4000:]
    _, *said = done.stderr.split(" CPUs:\n")
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(zip((1, 2, 3, 0), zip(found, [*said, ""], strict=True), strict=True))


pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIME_LIMIT_S + 20)]


@pytest.mark.parametrize("cpus", [1, 2, 3])
def test_every_stage_finishes_on_a_small_cluster(results, cpus):
    found, said = results[cpus]
    assert (found["epochs"], found["users"], found["splits"]) == (1, 300, ["test", "valid"])
    assert found.get("trials") == ({"finished": 1} if cpus == 1 else None)
    for section in ("train", "tune", "score"):
        shrunk = f"{section}: 1 worker instead of {section}.num_workers=2" in said
        assert shrunk == (cpus == 1), said


@pytest.mark.parametrize("cpus", [1, 2, 3])
def test_every_stage_that_lacks_gpus_is_refused_within_seconds(results, cpus):
    refusals = results[cpus][0]["refusals"]
    stages = [message.partition(" needs at least 1 GPU")[0] for message, _ in refusals]
    assert stages == ["train", "tune", "evaluate", "score"]
    assert max(seconds for _, seconds in refusals) < REFUSED_WITHIN_S


def test_preprocessing_without_a_cpu_is_refused_within_seconds(results):
    ((message, seconds),) = results[0][0]["refusals"]
    assert message.startswith("preprocess needs at least 1 CPU, which the cluster does not have")
    assert seconds < REFUSED_WITHIN_S
