"""Every stage on real clusters of one, two and three CPUs: it finishes or refuses, and never hangs.

Each cluster is a process of its own with a time limit, because a hang is what is looked for, and
because the cluster of the other tests has four CPUs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIME_LIMIT_S = 180
"""Of one pipeline that takes 20 to 30 seconds on two idle cores; a hang would last for ever."""

SCRIPT = """
import json, logging, sys
import ray
from lightsans.config_file import load_config
from lightsans.errors import ResourceError
from pipelines.evaluate import run_evaluate
from pipelines.preprocess import run_preprocess
from pipelines.score import run_score
from pipelines.train import run_train

cpus, *overrides = sys.argv[1:]
ray.init(
    address="local", num_cpus=int(cpus), object_store_memory=200 << 20, include_dashboard=False,
    log_to_driver=False, logging_level=logging.WARNING,
)
config = load_config(None, overrides).config
dataset = run_preprocess(config)
model = run_train(config, dataset.dataset_id)
ids = (dataset.dataset_id, model.model_id)
evaluation, scored = run_evaluate(config, *ids), run_score(config, *ids)

refusals = []
gpus = load_config(None, [*overrides, "train.use_gpu=true", "score.use_gpu=true"]).config
for stage, arguments in (run_train, ids[:1]), (run_evaluate, ids), (run_score, ids):
    try:
        stage(gpus, *arguments, force=True)
    except ResourceError as error:
        refusals.append(str(error))
print(json.dumps({
    "epochs": model.manifest["epochs"],
    "users": scored.manifest["users"],
    "splits": sorted(evaluation.metrics["model"]),
    "refusals": refusals,
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(TIME_LIMIT_S + 20)
@pytest.mark.parametrize("cpus", [1, 2, 3])
def test_every_stage_finishes_on_a_small_cluster_and_refuses_gpus(cpus, small_log, tmp_path):
    settings = [f"root={tmp_path}", f"data.input={small_log}", "data.num_parts=3"]
    settings += ["model.hidden_size=16", "model.max_seq_len=12"]
    settings += ["train.num_workers=2", "train.epochs=1", "score.num_workers=2"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(cpus), *settings],
        cwd=ROOT,
        env={**environment, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    refusals = result.pop("refusals")
    assert result == {"epochs": 1, "users": 300, "splits": ["test", "valid"]}
    for section in ("train", "score"):
        shrunk = f"{section}: 1 worker instead of {section}.num_workers=2" in done.stderr
        assert shrunk == (cpus == 1), done.stderr
    assert [refusal.partition(" needs at least 1 GPU")[0] for refusal in refusals] == [
        "train",
        "evaluate",
        "score",
    ]
