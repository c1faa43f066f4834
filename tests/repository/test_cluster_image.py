"""The image, and what a job uploads: checked without building or uploading anything."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pathspec
import pytest

from tests.cluster_files import CLUSTER, LOCK, PODS, pins
from tests.commands import ROOT

# ---- the image -----------------------------------------------------------------------------------


def instructions(keyword):
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{keyword} (.*)$", text, flags=re.MULTILINE)


def hadolint(text):
    command = [str(Path(sys.executable).with_name("hadolint")), "--no-color", "-"]
    done = subprocess.run(command, input=text, cwd=CLUSTER, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_hadolint_finds_nothing_in_the_dockerfile():
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    assert hadolint(text) == (0, "")
    status, found = hadolint(text.replace("# hadolint ignore=DL3008", ""))
    assert status == 1
    assert "DL3008" in found, "without its reason, the unpinned apt-get is found"


def test_the_image_runs_as_a_user_that_kubernetes_can_tell_from_root():
    assert instructions("USER")[-1] == "1000:1000"
    assert PODS["head"]["spec"]["securityContext"]["runAsUser"] == 1000


def test_the_image_has_no_entry_point_that_would_swallow_kuberay_s_command():
    assert instructions("ENTRYPOINT") == []
    (command,) = instructions("CMD")
    assert json.loads(command)[:2] == ["python", "submit.py"]


def test_every_installation_is_held_by_the_lock():
    for run in instructions("RUN"):
        for install in re.findall(r"pip install (?:(?!&&|;).)*", run):
            assert "--constraint requirements.lock" in install or "requirements.lock" in install


def test_what_the_image_installs_is_in_the_lock():
    """The dependencies that the Dockerfile reads out of pyproject.toml, by its own words."""
    (script,) = re.findall(r"python -c '(.*?)' >", " ".join(instructions("RUN")))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [re.split(r"[\[<>=~! ;]", line)[0].lower() for line in done.stdout.splitlines()]
    assert {"ray", "torch", "s3fs", "optuna"} <= set(names)
    assert set(names) <= set(LOCK)


@pytest.mark.parametrize("name", ["requirements-aws.txt", "requirements-gcp.txt"])
def test_what_a_cloud_adds_is_pinned_here_or_in_the_lock_and_never_in_both(name):
    path = CLUSTER / name
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert not pins(path).keys() & LOCK.keys()
    assert {line for line in lines if "==" not in line} <= LOCK.keys()


def test_boto3_goes_with_the_locked_botocore():
    assert pins(CLUSTER / "requirements-aws.txt")["boto3"] == LOCK["botocore"]


def test_the_docker_context_holds_what_is_copied_and_nothing_private():
    patterns = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    kept = [line[1:] for line in patterns if line.startswith("!")]
    assert next(line for line in patterns if not line.startswith("#")) == "**"  # and then:
    for copy_line in instructions("COPY"):
        for source in copy_line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert pathspec.PathSpec.from_lines("gitignore", kept).match_file(source), source
    assert not [name for name in kept if name.startswith((".", "data", "tests"))]


# ---- what a job uploads --------------------------------------------------------------------------


def uploaded(directory):
    """Files and their sizes, as Ray's own code packs them by .gitignore and .rayignore."""
    from ray._private.runtime_env.packaging import _dir_travel

    found = {}

    def note(path):
        if path.is_file():
            found[str(path.relative_to(directory))] = path.stat().st_size

    _dir_travel(directory, [], note, include_gitignore=True)
    return found


def test_a_job_uploads_what_it_runs_and_little_else():
    found = uploaded(ROOT)
    needed = [
        "submit.py",
        "lightsans/config/__init__.py",
        "pipelines/train/stage.py",
        "cluster/nightly.yaml",
    ]
    needed += ["pipelines/profiles/autoscaling.yaml", "pipelines/configs/quickstart.yaml"]
    assert set(needed) <= found.keys()
    folders = {name.split("/")[0] for name in found if "/" in name}
    assert folders == {"lightsans", "pipelines", "cluster"}
    assert not [name for name in found if "__pycache__" in name]
    assert sum(found.values()) < 4 * 2**20


def test_what_lies_beside_the_code_stays_behind_whatever_its_name(tmp_path):
    """The log and the results of the README's own example, environments, secrets, big files."""
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, tmp_path)
    mine = ["my.yaml", "hyper.test", "submit.py", "pipelines/configs/debug.yaml"]
    others = ["logs/a.inter", "my-recommendations/models/m/model.safetensors", "venv/bin/python"]
    others += [".venv-bench/bin/python", ".env", "dump.parquet", "x/y/z.yaml", "data/u.data"]
    for name in mine + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    assert uploaded(tmp_path).keys() == set(mine)
