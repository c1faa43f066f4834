import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
import typer
from ray.job_submission import JobDetails, JobStatus
from typer.testing import CliRunner

from lightsans.config import ColumnsConfig, DataConfig, ModelConfig, RunConfig
from lightsans.config.file import dump_yaml, load_config
from lightsans.errors import ConfigError, NotFoundError
from pipelines.commands import jobs as job_commands
from pipelines.commands.options import (
    ConfigOption,
    DatasetOption,
    ForceOption,
    JsonOption,
    SetOption,
)
from pipelines.jobs import client as jobs


def make_details(status: str, code: int | None = None, message: str = "") -> JobDetails:
    return JobDetails(
        type="SUBMISSION",
        submission_id="j",
        status=status,
        entrypoint="python submit.py train",
        driver_exit_code=code,
        message=message,
    )


class FakeCluster:
    """A job whose log grows by one line with every look at it, through streams that break off."""

    def __init__(self, log: list[str], streams: list[int], errors: dict[int, Exception]) -> None:
        self._log, self._streams, self._errors = log, iter(streams), errors
        self.looks = 0

    def get_job_info(self, job_id: str) -> JobDetails:
        self.looks += 1
        if self.looks in self._errors:
            raise self._errors[self.looks]
        over = self.looks > len(self._log)
        return make_details("SUCCEEDED" if over else "RUNNING", 0 if over else None)

    def get_job_logs(self, job_id: str) -> str:
        return "".join(self._log[: self.looks])

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        chars = next(self._streams, None)
        if chars is None:
            raise OSError("no stream")
        whole = self.get_job_logs(job_id)
        for start in range(0, chars, 3):
            yield whole[start : min(start + 3, chars)]
            await asyncio.sleep(0)


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "STATUS_EVERY_S", 0.01)
    monkeypatch.setattr(jobs, "RECONNECT_AFTER_S", 0.015)


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize("streams", [[], [0, 4], [7, 10**6], [1, 2, 3, 4, 5]])
def test_every_line_is_shown_once_however_often_the_stream_breaks(streams):
    log = [f"line {n} — ö\n" for n in range(20)] + ["no newline at the end"]
    cluster = FakeCluster(log, streams, {})
    shown: list[str] = []
    details = jobs.follow(cluster, "j", shown.append)
    assert shown == "".join(log).split("\n")
    assert jobs.exit_status(details) == 0


@pytest.mark.usefixtures("_fast")
def test_a_cluster_out_of_reach_for_a_while_is_asked_again(capsys):
    away: dict[int, Exception] = {n: jobs.OutOfReachError("nothing answers") for n in (2, 3, 4)}
    cluster = FakeCluster(["a\n"] * 6, [], away)
    assert jobs.follow(cluster, "j", lambda line: None).status == JobStatus.SUCCEEDED
    assert capsys.readouterr().err.count("trying again") == 1


@pytest.mark.usefixtures("_fast")
def test_only_an_absence_without_a_break_is_given_up_on(monkeypatch):
    monkeypatch.setattr(jobs, "GIVE_UP_AFTER_S", 0.2)
    away: dict[int, Exception] = {
        n: jobs.OutOfReachError("nothing answers") for n in range(2, 60, 2)
    }
    cluster = FakeCluster(["a\n"] * 60, [], away)  # 0.6 s in all
    assert jobs.follow(cluster, "j", lambda line: None).status == JobStatus.SUCCEEDED


@pytest.mark.usefixtures("_fast")
def test_a_cluster_that_stays_away_leaves_the_job_to_itself(monkeypatch):
    monkeypatch.setattr(jobs, "GIVE_UP_AFTER_S", 0.05)
    away: dict[int, Exception] = {n: jobs.OutOfReachError("nothing answers") for n in range(999)}
    with pytest.raises(jobs.ClusterError, match=r"may still be running: .* logs j --follow"):
        jobs.follow(FakeCluster(["a\n"], [], away), "j", lambda line: None)


def test_a_job_that_the_cluster_forgot_is_not_found():
    forgotten = RuntimeError("Request failed with status code 404: Job j does not exist")
    with pytest.raises(NotFoundError, match=r"knows no job j; `submit\.py jobs` lists them"):
        jobs.get_job(FakeCluster([], [], {1: forgotten}), "j")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", -9, 137),
        ("FAILED", None, 1),
        ("STOPPED", None, 1),
    ],
)
def test_the_exit_status_is_that_of_the_command_in_the_job(status, code, expected):
    assert jobs.exit_status(make_details(status, code)) == expected


@pytest.mark.parametrize(
    ("code", "last_line"),
    [(127, "sh: 1: python: not found"), (1, "ModuleNotFoundError: No module named 'ray'")],
)
def test_a_job_without_a_fitting_interpreter_says_how_to_name_one(code, last_line):
    text = jobs.explain_end(make_details("FAILED", code), [last_line])
    assert "--cluster-python /path/to/python" in text
    assert ("has no ray" in text) == (code == 1)


@pytest.mark.parametrize(
    "last_line", ["failed: the loss is not finite", "No module named 'pipelines.nothing'"]
)
def test_a_job_that_failed_by_itself_is_not_blamed_on_the_interpreter(last_line):
    text = jobs.explain_end(make_details("FAILED", 1), [last_line])
    assert text == "job j failed with exit status 1"


def test_a_job_that_never_started_gives_the_reason_of_the_cluster():
    details = make_details("FAILED", None, "runtime env setup failed: no space left")
    assert "no space left" in jobs.explain_end(details, [])


def test_settings_that_travel_as_overrides_make_the_same_configuration(tmp_path):
    config = RunConfig(
        root='s3://b/ü😀 "quoted" $HOME',
        data=DataConfig(
            input=("/a/*.csv", "/b,c.csv"),
            separator="\t",
            header=False,
            columns=ColumnsConfig(user="0", item=1, timestamp=2, rating=None),
            quote_char=None,
            as_of="2026-11-01",
        ),
        model=ModelConfig(layer_norm_eps=1e-9, hidden_dropout_prob=0.0),
    )
    (tmp_path / "all.yaml").write_text(dump_yaml(config))
    overrides = jobs.settings_as_overrides(load_config(str(tmp_path / "all.yaml")))
    assert load_config(None, overrides).config == config


def test_only_chosen_settings_travel_even_when_the_choice_is_the_default():
    assert jobs.settings_as_overrides(load_config(None)) == []
    loaded = load_config(None, ["train.epochs=100"])  # it may stand against a profile
    assert jobs.settings_as_overrides(loaded) == ["train.epochs=100"]


@pytest.mark.parametrize(
    "setting", ["root", "data.input", "data.exclude_users", "score.deny_items"]
)
def test_a_path_relative_to_this_machine_is_refused_by_name(setting):
    settings = {"root": "/shared", "data.input": "s3://b/x", setting: "./here"}
    config = load_config(None, [f"{name}={path}" for name, path in settings.items()]).config
    with pytest.raises(ConfigError, match=rf"^{setting}=\./here is relative to this directory"):
        jobs.require_reachable_paths(config)


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "auto"])
def test_an_address_that_is_no_dashboard_is_refused(address):
    with pytest.raises(ConfigError, match="http://HEAD:8265"):
        jobs.connect(address)


def test_a_closed_port_explains_itself(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:2")  # the argument wins
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    expected = r"http://127\.0\.0\.1:1 \(Connection refused\).*ray\[default\]"
    with pytest.raises(jobs.ClusterError, match=expected):
        jobs.connect("http://127.0.0.1:1")


def test_a_command_too_long_for_a_shell_names_the_way_out():
    arguments = ["train", "--set", f"data.input={json.dumps(['/x' * 100] * 1000)}"]
    with pytest.raises(ConfigError, match="as a directory or glob"):
        jobs.submit_job(None, arguments, python="python", variables={})  # type: ignore[arg-type]


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command hands to the Jobs API, which is not there."""
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
    @job_commands.runs_on_cluster
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


def test_a_stage_inside_a_job_warns_of_a_root_that_is_deleted_with_it(monkeypatch, capsys):
    content = {"metadata": {"job_submission_id": "j-1"}, "runtime_env": {}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(content))
    CliRunner().invoke(make_app(), ["stage"])
    result = CliRunner().invoke(make_app(), ["stage", "-s", "root=./here"])
    assert "root=./here is relative" in result.stderr
    assert "relative" not in CliRunner().invoke(make_app(), ["stage", "-s", "root=/x"]).stderr
