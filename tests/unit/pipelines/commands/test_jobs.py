"""The commands about jobs: which cluster, what a job's log contains, what its list shows."""

import json
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus
from typer.testing import CliRunner

from lightsans.errors import ConfigError
from pipelines.commands import jobs as job_commands
from pipelines.commands.app import app
from pipelines.jobs import client


def test_a_json_result_is_found_among_the_lines_of_a_log(capsys):
    log = job_commands.JobLog(to_stderr=True)
    for line in ["hello", 'tail{"lightsans-result: {"users": 3}2026 INFO behind', "bye"]:
        log.show(line)
    assert log.result == '{"users": 3}'
    assert capsys.readouterr().err.splitlines() == ["hello", 'tail{"', "bye"]


def test_the_cluster_of_the_environment_is_only_taken_when_it_is_a_dashboard(monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ConfigError, match="which cluster"):
        job_commands.cluster_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert job_commands.cluster_address(None) == "http://head:8265"
    assert job_commands.cluster_address("http://other:1") == "http://other:1"


@pytest.mark.parametrize("as_json", [False, True])
def test_the_list_of_jobs_shows_no_secret_of_a_command_line(as_json, monkeypatch):
    job = SimpleNamespace(
        submission_id="j",
        status=JobStatus.FAILED,
        driver_exit_code=137,
        start_time=1_000,
        end_time=3_000,
        entrypoint="python submit.py train --set train.mlflow_uri=https://ann:hunter22@host",
    )
    monkeypatch.setattr(client, "connect", lambda address: SimpleNamespace(list_jobs=lambda: [job]))
    line = ["jobs", "--cluster", "http://ann:hunter22@head:8265", *(["--json"] if as_json else [])]
    shown = CliRunner().invoke(app, line).output
    assert "hunter22" not in shown
    assert "submit.py train" in shown
    if as_json:
        [found] = json.loads(shown)["jobs"]
        assert (found["exit_status"], found["duration_s"]) == (1, 2)


def test_the_list_of_jobs_shows_the_date_of_a_night_and_how_it_ended(monkeypatch):
    long_path = "/opt/environments/of/somebody/bin/python"
    job = SimpleNamespace(
        submission_id="lightsans-nightly-0a1b2c3d",
        status=JobStatus.FAILED,
        driver_exit_code=3,
        start_time=1_000,
        end_time=3_000,
        entrypoint=f"{long_path} submit.py nightly --as-of 2026-11-05 --set root=s3://b/a/long/one",
    )
    monkeypatch.setattr(client, "connect", lambda address: SimpleNamespace(list_jobs=lambda: [job]))
    shown = CliRunner().invoke(app, ["jobs", "--cluster", "http://head:8265"]).output
    [line] = [line for line in shown.splitlines() if "lightsans-nightly" in line]
    assert "submit.py nightly --as-of 2026-11-05" in line
    assert line.split()[:2] == ["lightsans-nightly-0a1b2c3d", "FAILED"]
    assert " 3 " in line
    assert "--set" not in line
