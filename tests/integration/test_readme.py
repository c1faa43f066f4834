"""README's commands and code run as they stand, in order, in a copy of the repository.

Each starts a Ray of its own, as it does for who reads them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightsans.config import StorageConfig
from lightsans.storage.location import locate
from tests.commands import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)

# What the test adds to commands as they stand in the README, so that it takes seconds.
ON_S3 = "python submit.py pipeline --config my.yaml --set root=s3://my-bucket/lightsans"
FETCH = "python submit.py fetch generated --to logs"
SHORTER = {
    FETCH: f"{FETCH} && sed -i '25001,$d' logs/generated.inter",
    "make demo": "make demo ARGS='--set train.epochs=1'",
    "make test": "make -n test",
    ON_S3: f"{ON_S3} --set train.epochs=1",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The files that git tracks or would, beside the environment of this checkout."""
    directory = tmp_path_factory.mktemp("readme") / "lightsans"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    environment = Path(sys.prefix)
    (directory / ".venv").symlink_to(environment)
    # The stamp that says the environment is complete must not be older than the copied files.
    for name in ("requirements.lock", "pyproject.toml"):
        os.utime(directory / name, (0, 0))
    return directory


def run(command: str, directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=directory, env=environment, timeout=280, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(900)
def test_every_command_and_code_block_runs(copy, s3_server):
    storage = StorageConfig(endpoint_url=s3_server.endpoint_url)
    locate("s3://my-bucket/x", storage).filesystem.mkdir("my-bucket")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": s3_server.endpoint_url,
        "RAY_AUTH_MODE": "disabled",
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
    }
    environment.pop("RAY_ADDRESS", None)
    assert all(f"{command}\n" in README for command in SHORTER)
    ran = 0
    for language, text in BLOCKS:
        if language == "sh":
            for line in text.splitlines():
                if line and not line.startswith("source "):
                    run(SHORTER.get(line, line), copy, environment)
                    ran += 1
        elif language == "yaml":
            name = re.match(r"# (\S+)", text)
            assert name, "the first line of a YAML block names its file"
            (copy / name[1]).write_text(text)
        elif language == "python":
            (copy / "block.py").write_text(text)
            run("python block.py", copy, environment)
            ran += 1
        else:
            assert language == "text", f"what is a {language} block?"
    assert ran > 10
