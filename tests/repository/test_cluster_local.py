"""Machines of one's own: the file of `ray up` for them, and the table of faults."""

import json
import subprocess

import pytest
import yaml

from tests.cluster_files import CLUSTER
from tests.commands import ROOT
from tests.hosts.cells import read_cells, table, with_table
from tests.hosts.s3_files import csv_file


@pytest.fixture(scope="module")
def launched():
    """The file as Ray completes and accepts it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(yaml.safe_load((CLUSTER / "local.yaml").read_text()))
    validate_config(prepared)
    return prepared


def test_the_launcher_accepts_the_file_and_keeps_all_machines(launched):
    (group,) = launched["available_node_types"].values()
    machines = launched["provider"]["worker_ips"]
    assert group["min_workers"] == group["max_workers"] == launched["max_workers"] == len(machines)


def test_a_shell_on_a_machine_finds_ray_as_ray_down_calls_it(launched):
    assert any("local.profile' >> ~/.bashrc" in line for line in launched["setup_commands"])


def test_every_ray_starts_with_token_and_the_head_takes_no_work_and_hides_its_dashboard(launched):
    for kind in ("head", "worker"):
        for line in launched[f"{kind}_start_ray_commands"]:
            assert line.startswith(". /srv/lightsans/cluster/local.profile; ")
    (start,) = (line for line in launched["head_start_ray_commands"] if "ray start" in line)
    assert "--num-cpus=0" in start
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start


def test_the_profile_exports_token_path_and_the_variables_of_storage(tmp_path):
    (tmp_path / ".lightsans").mkdir()
    (tmp_path / ".lightsans/environment").write_text("AWS_REGION=eu-north-1\n")
    program = f". {CLUSTER}/local.profile; env"
    done = subprocess.run(
        ["sh", "-c", program], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert found["AWS_REGION"] == "eu-north-1"
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_enable_autoscaler_v2"] == "0", "it would leave one machine out"
    assert found["RAY_AUTH_TOKEN_PATH"] == f"{tmp_path}/.lightsans/token/auth_token"
    assert found["PATH"].startswith("/srv/lightsans/.venv/bin:")


def test_all_that_the_environment_is_made_from_is_copied_and_nothing_that_a_machine_made(launched):
    copied = {
        there.removeprefix("/srv/lightsans/"): here
        for there, here in launched["file_mounts"].items()
        if there.startswith("/srv")
    }
    assert all((ROOT / here).exists() and there == here for there, here in copied.items())
    assert {"Makefile", "requirements.lock", "pyproject.toml", "tools", "lightsans"} <= {*copied}
    assert not {".", ".venv", ".git"} & {*copied.values()}, "Ray hashes all of it"


def test_the_recorded_table_of_faults_has_one_good_cell_for_each_pair():
    cells = read_cells(CLUSTER / "faults.jsonl")
    assert len({(cell.stage, cell.fault) for cell in cells}) == len(cells)
    assert all(cell.is_good for cell in cells)
    shown = table(cells)
    assert all(f"{cell.lost_min} min; {cell.requests:+,}" in shown for cell in cells)
    assert shown.count(" min; ") == len(cells)
    page = (CLUSTER / "README.md").read_text()
    assert with_table(page, cells) == page, "run python -m tests.hosts.cells"
    assert all(json.dumps(cell.said) for cell in cells)


def test_a_log_that_is_filled_in_has_the_same_rows_in_few_and_many_files():
    whole = csv_file(range(100)).splitlines()
    pieces = [
        row
        for n in range(0, 100, 7)
        for row in csv_file(range(n, min(100, n + 7))).splitlines()[1:]
    ]
    assert whole == [b"user_id,item_id,timestamp", *pieces]
    assert len({*whole}) == 101
