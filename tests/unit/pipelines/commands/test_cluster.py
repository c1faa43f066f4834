"""``--cluster``: a stage becomes a job with the same options and settings."""

import json
import math
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from lightsans.errors import ConfigError
from pipelines.commands.cluster import runs_on_cluster
from pipelines.commands.options import (
    ConfigOption,
    DatasetOption,
    ForceOption,
    JsonOption,
    SetOption,
)
from pipelines.jobs import client as jobs
from pipelines.session.stage import wait_setting


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Jobs that a command hands to the Jobs API, which is not there."""
    found: dict[str, Any] = {}

    def submit_job(client: object, arguments: list[str], **rest: object) -> str:
        found.update(arguments=arguments, **rest)
        return "lightsans-stage-1"

    monkeypatch.setattr(jobs, "connect", lambda address: None)
    monkeypatch.setattr(jobs, "submit_job", submit_job)
    return found


def make_app() -> typer.Typer:
    app = typer.Typer()

    @app.command("stage")
    @runs_on_cluster
    def stage(
        config: ConfigOption = None,
        overrides: SetOption = None,
        dataset: DatasetOption = None,
        names: Annotated[list[str] | None, typer.Option("--name")] = None,
        workers: int = 0,
        force: ForceOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """A stage."""
        print("ran here", force, dataset)

    app.command("other")(lambda: None)
    return app


def test_without_cluster_a_stage_runs_here():
    result = CliRunner().invoke(make_app(), ["stage", "--force", "--dataset", "d"])
    assert result.output == "ran here True d\n"


def test_a_submitted_stage_keeps_its_options_and_the_settings_of_a_file_elsewhere(
    submitted, tmp_path
):
    (tmp_path / "my.yaml").write_text("root: s3://bucket\ntrain: {epochs: 7}\n")
    line = ["stage", "-c", str(tmp_path / "my.yaml"), "--dataset", "d 1", "--name", "a"]
    line += ["--name", "b", "--force", "--json", "--cluster", "http://head:8265", "--no-wait"]
    line += ["--cluster-python", "/opt/python", "--workers", "3", "-s", "score.k=5"]
    result = CliRunner().invoke(make_app(), line)
    assert json.loads(result.stdout) == {"job_id": "lightsans-stage-1"}
    assert submitted["python"] == "/opt/python"
    words = ["stage", "--dataset", "d 1", "--name", "a", "--name", "b", "--workers", "3"]
    words += ["--force", "--json", "--set", 'root="s3://bucket"', "--set", "train.epochs=7"]
    assert submitted["arguments"] == [*words, "--set", "score.k=5"]


def test_a_wrong_setting_is_told_before_anything_is_submitted(submitted):
    line = ["stage", "-s", "train.epoch=1", "--cluster", "http://head:8265"]
    result = CliRunner().invoke(make_app(), line)
    assert isinstance(result.exception, ConfigError)
    assert submitted == {}


def test_no_wait_prints_nothing_but_the_job_id_on_standard_output(submitted):
    line = ["stage", "-s", "root=s3://b", "--cluster", "http://head:8265", "--no-wait"]
    assert CliRunner().invoke(make_app(), line).stdout == "lightsans-stage-1\n"


def test_a_stage_inside_a_job_warns_of_a_root_that_is_deleted_with_it(monkeypatch, capsys):
    content = {"metadata": {"job_submission_id": "j-1"}, "runtime_env": {}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(content))
    CliRunner().invoke(make_app(), ["stage"])
    result = CliRunner().invoke(make_app(), ["stage", "-s", "root=./here"])
    assert "root=./here is relative" in result.stderr
    assert "relative" not in CliRunner().invoke(make_app(), ["stage", "-s", "root=/x"]).stderr


def test_the_time_to_wait_for_another_process_is_set_here_and_sent_to_a_job(submitted):
    CliRunner().invoke(make_app(), ["stage", "--wait", "2.5"])
    assert wait_setting() == 2.5
    CliRunner().invoke(make_app(), ["stage"])
    assert wait_setting() == math.inf
    line = ["stage", "--wait", "3", "-s", "root=/x", "--cluster", "http://head:8265", "--no-wait"]
    CliRunner().invoke(make_app(), line)
    assert "--wait 3.0" in " ".join(submitted["arguments"])
    assert CliRunner().invoke(make_app(), ["stage", "--wait", "-1"]).exit_code == 2
