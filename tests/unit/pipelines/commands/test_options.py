"""``tune --space FILE``, ``evaluate --recommendations FILE``: a file becomes a setting."""

import json

import pytest
from typer.testing import CliRunner

from lightsans.config.file import load_config
from lightsans.errors import ConfigError
from pipelines.commands.app import app
from pipelines.commands.options import with_recommendations, with_space
from pipelines.jobs import client as jobs


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "hyper.test"
    path.write_text("num_layers choice [1,2]\nlearning_rate loguniform -8,-4\n")
    return str(path)


def test_a_file_becomes_the_setting_and_wins_over_that_of_the_configuration(space):
    overrides = with_space(["tune.space={k_interests: {choice: [5]}}", "train.epochs=3"], space)
    config = load_config(None, overrides).config
    assert set(config.tune.space) == {"model.n_layers", "train.learning_rate"}
    assert config.tune.space["model.n_layers"] == {"choice": [1, 2]}
    assert config.train.epochs == 3


def test_lists_become_the_setting_whatever_their_path():
    path = 'in cumbent/it\'s, "x".csv'
    config = load_config(None, with_recommendations(["score.k=7"], path)).config
    assert (config.evaluate.recommendations, config.score.k) == (path, 7)
    assert with_recommendations(["score.k=7"], None) == ["score.k=7"]


def test_without_a_file_nothing_is_added():
    assert with_space(None, None) == []
    assert with_space(["train.epochs=3"], None) == ["train.epochs=3"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the search space .*nothing\.test"):
        with_space(None, str(tmp_path / "nothing.test"))


def test_a_job_gets_the_content_of_the_file_and_not_its_name(space, monkeypatch):
    sent: list[list[str]] = []

    def submit_job(client: None, arguments: list[str], **options: object) -> str:
        sent.append(arguments)
        return "job"

    monkeypatch.setattr(jobs, "connect", lambda address: None)
    monkeypatch.setattr(jobs, "submit_job", submit_job)
    called = ["tune", "--space", space, "--cluster", "http://head:8265", "--no-wait"]
    called += ["-s", "root=s3://bucket/x", "-s", "data.input=s3://bucket/log.parquet"]
    done = CliRunner().invoke(app, called)
    assert done.exit_code == 0, done.output
    [arguments] = sent
    assert "--space" not in arguments
    [setting] = [word for word in arguments if word.startswith("tune.space=")]
    assert json.loads(setting.removeprefix("tune.space="))["model.n_layers"] == {"choice": [1, 2]}
