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
TIME_LIMIT_S = 100
"""Of one pipeline that takes about 20 seconds here; a hang would last for ever."""

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
refusals = []
def run(stage, *arguments):
    try:
        return stage(config, *arguments)
    except ResourceError as error:
        refusals.append(str(error))

dataset = run(run_preprocess)
result = {}
if dataset is not None:
    model = run(run_train, dataset.dataset_id)
    if model is not None:
        ids = (dataset.dataset_id, model.model_id)
        evaluation, scored = run(run_evaluate, *ids), run(run_score, *ids)
        result = {"epochs": model.manifest["epochs"], "users": scored.manifest["users"],
                  "splits": sorted(evaluation.metrics["model"])}
print(json.dumps({**result, "refusals": refusals}))
"""


def run_stages(cpus, root, *overrides):
    """What the script prints as JSON, and what it says to people."""
    settings = [f"root={root}", "train.num_workers=2", "train.epochs=1", "score.num_workers=2"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(cpus), *settings, *overrides],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(TIME_LIMIT_S + 20)
@pytest.mark.parametrize("cpus", [1, 2, 3])
def test_every_stage_finishes_on_a_small_cluster(cpus, tiny_config, tmp_path):
    config = tiny_config(tmp_path)
    result, said = run_stages(
        cpus,
        tmp_path,
        f"data.input={config.data.input[0]}",
        "data.num_parts=3",
        "model.hidden_size=16",
        "model.max_seq_len=12",
    )
    assert result == {"epochs": 1, "users": 300, "splits": ["test", "valid"], "refusals": []}
    for section in ("train", "score"):
        shrunk = f"{section}: 1 worker instead of {section}.num_workers=2" in said
        assert shrunk == (cpus == 1), said


@pytest.mark.slow
def test_a_cluster_without_cpus_is_refused_at_once(tiny_config, tmp_path):
    """A head without work, before its first worker came, and nobody has said that any will come."""
    config = tiny_config(tmp_path)
    result, _ = run_stages(0, tmp_path, f"data.input={config.data.input[0]}")
    (refusal,) = result["refusals"]
    assert "preprocess needs at least 1 CPU" in refusal
    assert "resources.max_cpus" in refusal
