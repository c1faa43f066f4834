"""Commands of the worked examples in docs/data.md, on real exports where they are there."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from tests.commands import ROOT
from tests.exports import export

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]  # not for faults, but for minutes
PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(
    r"```sh\n(python submit.py inspect (\S+))\n"
    r"(python submit.py pipeline --config (\w+)\.yaml)\n```",
    PAGE,
)
SMALL = ("train.epochs=1", "model.hidden_size=16", "model.inner_size=16", "model.n_layers=1",
         "model.n_heads=2", "model.loss_type=sampled_softmax", "root=root")  # fmt: skip
SHORTER = " ".join([*(f"--set {setting}" for setting in SMALL), "--json"])


@pytest.mark.parametrize("example", COMMANDS, ids=lambda example: example[3])
def test_a_worked_example_inspects_pastes_and_recommends(
    ray_cluster: object, tmp_path: Path, example: tuple[str, str, str, str]
) -> None:
    inspect, file, pipeline, name = example
    (tmp_path / file).symlink_to(export(file))
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}

    def run(command: str) -> str:
        words = shlex.split(command)
        assert words[:2] == ["python", "submit.py"]
        words[:2] = [sys.executable, str(ROOT / "submit.py")]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, timeout=800, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = run(f"{inspect} --json")
    (tmp_path / f"{name}.yaml").write_text(json.loads(printed.splitlines()[-1])["yaml"])
    result = json.loads(run(f"{pipeline} {SHORTER}").splitlines()[-1])
    assert result["recommendations"]["users"] == result["dataset"]["users"] > 100
