"""Reports of finished models: none of them fails a model, each is tried again."""

import importlib.util
from dataclasses import asdict, replace

import pytest

from lightsans.config import RunConfig
from lightsans.errors import ConfigError
from lightsans.storage.location import Location
from lightsans.storage.model_files import HISTORY
from lightsans.training.progress import EpochRow
from pipelines.train import tracking
from pipelines.train.tracking import (
    PENDING,
    mark_pending,
    require_mlflow,
    write_pending_reports,
)
from tests.factories import local
from tests.manifests import model_manifest

MANIFEST = model_manifest("m")


@pytest.fixture
def model(tmp_path) -> Location:
    """A directory with a learning curve of two epochs."""
    directory = local(tmp_path / "m")
    rows = [
        EpochRow(
            epoch=epoch,
            loss=1 / epoch,
            targets=9,
            distinct_targets=9,
            train_s=1.0,
            valid_s=0.5,
            valid={"ndcg@10": 0.1 * epoch},
        )
        for epoch in (1, 2)
    ]
    (directory / HISTORY).write_json([asdict(row) for row in rows])
    return directory


def tracked(uri: str | None) -> RunConfig:
    config = RunConfig()
    return replace(config, train=replace(config.train, mlflow_uri=uri))


def test_an_mlflow_outage_is_said_and_the_next_run_logs(model, tmp_path, monkeypatch, capsys):
    from mlflow import MlflowClient  # a second to import

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = tracked("http://127.0.0.1:9")
    mark_pending(away, model)
    write_pending_reports(away, model, MANIFEST)
    assert "model m is finished, but its report mlflow failed" in capsys.readouterr().err
    assert (model / PENDING).read_json() == {"reports": ["mlflow"]}
    assert (model / "curves.png").exists()

    back = tracked(f"file://{tmp_path}/mlruns")
    write_pending_reports(back, model, MANIFEST)
    assert not (model / PENDING).exists()
    client = MlflowClient(f"file://{tmp_path}/mlruns")
    experiment = client.get_experiment_by_name("lightsans")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "m"
    assert run.info.status == "FINISHED"


def test_what_is_logged_is_not_logged_again(model, tmp_path, monkeypatch):
    config = tracked(f"file://{tmp_path}/mlruns")
    logged: list[str] = []
    monkeypatch.setattr(tracking, "log_to_mlflow", lambda *_: logged.append("once"))
    mark_pending(config, model)
    write_pending_reports(config, model, MANIFEST)
    write_pending_reports(config, model, MANIFEST)
    assert logged == ["once"]


def test_a_picture_that_cannot_be_drawn_fails_nothing_and_is_drawn_later(
    model, monkeypatch, capsys
):
    def fail(*_: object) -> None:
        raise RuntimeError("no fonts")

    config = tracked(None)
    mark_pending(config, model)
    with monkeypatch.context() as patched:
        patched.setattr(tracking, "write_curves", fail)
        write_pending_reports(config, model, MANIFEST)
    assert "its report curves failed (RuntimeError: no fonts)" in capsys.readouterr().err
    write_pending_reports(config, model, MANIFEST)
    assert (model / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (model / PENDING).exists()


def test_missing_mlflow_is_said_before_training(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"train\.mlflow_uri=x needs MLflow; run `pip install"):
        require_mlflow(tracked("x"))
    require_mlflow(tracked(None))
