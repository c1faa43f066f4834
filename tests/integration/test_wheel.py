"""The wheel in an empty environment: the pipeline outside any checkout, here and on a head."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.ray_head import run_head

SMALL = [
    *("train.num_workers=1", "train.epochs=1", "score.num_workers=1", "model.max_seq_len=10"),
    "score.remove_seen=false",  # here everybody has seen everything
]

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that finds nothing of this checkout by itself."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAY_ADDRESS")}
    line = [str(word) for word in command]
    return subprocess.run(
        line, cwd=cwd, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a new environment with the wheel and, out of the lock, what it asks for."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("lightsans", "pipelines"):
        shutil.copytree(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    built = run(*build, "--wheel-dir", directory, source, cwd=directory)
    assert built.returncode == 0, built.stderr
    [wheel] = directory.glob("*.whl")
    venv.create(directory / "env")
    programs = directory / "env" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python")]
    # What is imported is compiled then, and most of it never is.
    install = [*pip, "install", "--quiet", "--no-compile", "-c", str(ROOT / "requirements.lock")]
    installed = run(*install, wheel, cwd=directory)
    assert installed.returncode == 0, installed.stderr
    checked = run(*pip, "check", cwd=directory)
    assert checked.returncode == 0, checked.stdout
    return programs


def pipeline(programs: Path, settings: list[str]) -> list[str]:
    chosen = [word for setting in SMALL for word in ("--set", setting)]
    return [str(programs / "lightsans"), "pipeline", *settings, *chosen, "--json"]


def test_the_installed_program_runs_the_pipeline_here_and_as_a_job(programs, tmp_path):
    """The job's code is that of the wheel; nothing of a checkout is there to be uploaded."""
    with run_head(Path(sys.executable).parent) as head:
        local = run(*pipeline(programs, head.settings("here")), cwd=tmp_path)
        assert local.returncode == 0, local.stderr
        words = [*pipeline(programs, head.settings("there")), "--cluster", head.url]
        words += ["--cluster-python", str(programs / "python")]
        remote = head.run(*words, cwd=tmp_path)
        assert remote.returncode == 0, remote.stdout + remote.stderr
        here, there = (json.loads(done.stdout.splitlines()[-1]) for done in (local, remote))
        for result, root in ((here, "here"), (there, "there")):
            assert (result["dataset"]["users"], result["dataset"]["items"]) == (7, 5)
            path = Path(result["recommendations"]["path"])
            assert path.is_relative_to(head.directory / root)
            assert (path / "manifest.json").exists()
        assert here["dataset"]["dataset_id"] == there["dataset"]["dataset_id"]
    assert not list(tmp_path.iterdir())


def test_the_installed_program_has_the_options_and_statuses_of_submit_py(programs, tmp_path):
    shown = run(programs / "lightsans", "train", "--help", cwd=tmp_path)
    ours = run(sys.executable, ROOT / "submit.py", "train", "--help", cwd=ROOT)
    assert shown.returncode == ours.returncode == 0
    assert "lightsans train --config my.yaml" in shown.stdout
    options = [
        line for line in ours.stdout.splitlines() if "--" in line and "submit.py" not in line
    ]
    assert options
    assert set(options) <= set(shown.stdout.splitlines())
    wrong = run(programs / "lightsans", "models", "-s", "train.epoch=1", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "train.epoch" in wrong.stderr
    profile = run(programs / "lightsans", "config", "-s", "profile=laptop", cwd=tmp_path)
    assert profile.returncode == 0, profile.stderr
