"""The command `erase`, without Ray: nobody of the list is in the root."""

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from lightsans.config import NightlyTrainConfig
from lightsans.lists.erased_users import Erasures, write_erasures
from lightsans.storage.manifests import write_manifest
from pipelines.commands.app import app
from pipelines.publish import publish_run, read_published
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest, run_manifest


@pytest.fixture
def words(tmp_path):
    """A root of a published night of 2026-01-02 in Berlin, and the command on it."""
    root = local(tmp_path) / "root"
    data = {**dataset_manifest().data, "as_of": "2026-01-02", "timezone": "Europe/Berlin"}
    write_manifest(root / "datasets" / "d", dataset_manifest("d", data=data))
    write_manifest(root / "models" / "m", model_manifest("m", dataset_id="d"))
    (root / "models" / "m" / "metrics.json").write_json({"valid": {}})
    write_manifest(root / "recommendations" / "r", run_manifest("r", dataset_id="d"))
    publish_run(read_published(root), "r", "nightly")
    (tmp_path / "users.txt").write_text("nobody-here")
    settings = ["-s", f"root={root}", "-s", "data.timezone=Europe/Berlin"]
    settings += ["-s", "nightly.train.every_nights=7", "-s", "nightly.train.start=warm"]
    return ["erase", "--users", f"{tmp_path}/users.txt", "--allow-unmatched", *settings]


@pytest.fixture
def nights(monkeypatch):
    """Nights that were run, by a fake that publishes at once."""
    found = []

    def run(config, as_of):
        found.append((config.nightly.train, as_of))
        return SimpleNamespace(run_id="r2", outcome="published")

    monkeypatch.setattr("pipelines.nightly.stage.run_nightly", run)
    return found


def test_retraining_runs_the_published_night_again_from_scratch(words, nights):
    done = CliRunner().invoke(app, [*words, "--retrain", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["retrained"] == "run r2 is published"
    assert (found["listed"], found["found"]) == (1, 0)
    [(train, as_of)] = nights
    assert as_of == "2026-01-02"
    scratch = NightlyTrainConfig()
    assert (train.every_nights, train.start) == (1, scratch.start)


def test_a_dry_run_changes_and_trains_nothing(words, nights, tmp_path):
    done = CliRunner().invoke(app, [*words, "--retrain", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "0 of 1 listed users were found" in done.stdout
    assert nights == []
    assert not (tmp_path / "root" / "erased").exists()


def test_models_lists_those_that_can_be_read(words, tmp_path):
    settings = words[words.index("-s") :]
    models = local(tmp_path) / "root" / "models"
    known = CliRunner().invoke(app, ["models", "--json", *settings])
    (models / "my backup" / "manifest.json").write_bytes(b"{")
    manifest = json.loads((models / "m" / "manifest.json").read_bytes())
    (models / "no metrics" / "manifest.json").write_json(manifest)
    done = CliRunner().invoke(app, ["models", "--json", *settings])
    assert json.loads(done.stdout) == json.loads(known.stdout)
    assert "WARNING: passed over" in done.stderr
    assert "my backup/manifest.json" in done.stderr
    assert "no metrics/metrics.json" in done.stderr


def test_models_says_which_have_learnt_from_erased_users(words, tmp_path):
    settings = words[words.index("-s") :]
    plain = CliRunner().invoke(app, ["models", *settings]).stdout
    assert "erased" not in plain
    write_erasures(local(tmp_path) / "root", Erasures(models={"m": "dataset d had erased users"}))
    assert "learnt from erased users" in CliRunner().invoke(app, ["models", *settings]).stdout
    found = json.loads(CliRunner().invoke(app, ["models", "--json", *settings]).stdout)
    assert found["models"][0]["learnt_from_erased"] == "dataset d had erased users"
