"""The whole pipeline: the same on S3 as on disk, through the command line as people use it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightsans.config.file import load_config
from lightsans.storage.location import Location
from lightsans.storage.manifests import manifest_json
from pipelines.run_pipeline import run_pipeline
from tests.commands import ROOT
from tests.integration.conftest import TINY


def submit(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [sys.executable, "submit.py", *arguments],
        cwd=ROOT, env=environment, timeout=280, capture_output=True, text=True,
    )  # fmt: skip


def files_of(directory: Location) -> set[str]:
    """All files below a directory, without what names the moment of a run."""
    found = directory.filesystem.find(directory.path)
    names = {path.removeprefix(directory.path) for path in found}
    return {name for name in names if "/tensorboard/" not in name and "/checkpoints/" not in name}


@pytest.fixture(scope="module")
def log(small_log: Path) -> Path:
    """Real data where it is at hand."""
    real = ROOT.parent / "shared" / "data" / "ml-100k.inter"
    return real if real.exists() else small_log


def test_the_root_on_s3_gives_the_same_fingerprint_and_metrics_as_on_disk(
    ray_cluster, s3_server, log, tmp_path
):
    settings = [*TINY, f"data.input={log}", "train.epochs=2"]
    local = run_pipeline(load_config(None, [*settings, f"root={tmp_path}"]).config)
    remote_settings = [
        f"root={s3_server.uri('pipeline')}",
        f"storage.endpoint_url={s3_server.endpoint_url}",
    ]
    remote = run_pipeline(load_config(None, [*settings, *remote_settings]).config)
    assert remote.dataset.dataset_id == local.dataset.dataset_id
    assert remote.dataset.manifest.fingerprint == local.dataset.manifest.fingerprint
    assert remote.evaluation.metrics == local.evaluation.metrics
    for stage in ("dataset", "model", "recommendations"):
        assert files_of(getattr(remote, stage).location) == files_of(getattr(local, stage).location)
    for name in ("part-00000.parquet", "part-00002.parquet"):
        written = [(r.recommendations.location / name).read_table() for r in (local, remote)]
        assert written[0].equals(written[1])
    again = run_pipeline(load_config(None, [*settings, *remote_settings]).config)
    stages = (again.dataset, again.model, again.evaluation, again.recommendations)
    assert all(stage.skipped for stage in stages)
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    config = (remote.model.location / "config.yaml").read_bytes().decode()
    assert secret not in config + json.dumps(manifest_json(remote.dataset.manifest))


def test_the_command_line_runs_a_stage_and_prints_one_json_object_last(small_log, tmp_path):
    done = submit("preprocess", "--json", "-s", f"root={tmp_path}", "-s", f"data.input={small_log}")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    result = json.loads(done.stdout)
    assert result["users"] == 300
    assert (Path(result["path"]) / "manifest.json").exists()
    again = submit("preprocess", "-s", f"root={tmp_path}", "-s", f"data.input={small_log}")
    assert "is up to date" in again.stderr
    assert result["dataset_id"] in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "-s", "model.k_interest=3"], "did you mean model.k_interests?"),
        (["train", "-s", "model.n_heads=3"], "model.hidden_size=64 is not divisible by"),
        (["preprocess", "-s", "data.input=nowhere.csv"], "nowhere.csv: no such file"),
        (["preprocess"], "data.input is empty"),
        (["recommend", "--config", "missing.yaml", "-u", "1"], "missing.yaml"),
        (["pipeline", "--no-such-option"], "No such option"),
    ],
)
def test_bad_usage_configuration_and_input_end_with_status_two(arguments, message):
    done = submit(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


SMALL = """
import sys
import ray
from lightsans.config.file import load_config
from pipelines.run_pipeline import run_pipeline

run_pipeline(load_config(None, sys.argv[1:]).config)
assert "torch" not in sys.modules

@ray.remote
def has(name):
    return name in sys.modules

assert ray.get(has.remote("torch"))
assert not ray.get(has.remote("torch._dynamo"))
"""


def test_a_small_run_imports_pytorch_in_workers_alone_and_its_compiler_nowhere(small_log, tmp_path):
    """Each takes a second, of a dozen that such a run takes."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    settings = (*TINY, "train.num_workers=2", f"root={tmp_path}", f"data.input={small_log}")
    done = subprocess.run(
        [sys.executable, "-c", SMALL, *settings],
        cwd=ROOT, env=environment, timeout=280, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
