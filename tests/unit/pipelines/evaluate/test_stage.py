"""Evaluations are of the weights that the model has; without Ray."""

from dataclasses import replace

import pytest

from lightsans import LightSANs
from lightsans.config import TemporalConfig, to_dict
from lightsans.config.file import dump_yaml
from lightsans.errors import InputError
from lightsans.reports.evaluation_figures import EvaluationFigures
from lightsans.storage import model_files as files
from lightsans.storage.manifests import is_finished
from pipelines.evaluate import stage
from pipelines.evaluate.ranks import evaluate_parts
from pipelines.evaluate.stage import protocol_dict, protocol_text, run_evaluate
from pipelines.session.lease import hold
from tests.scored_here import configure, make_root, train_again


def metrics_of_weights(job, parts, manifest, memory):
    number = float(LightSANs.from_pretrained(job.model).item_embedding.weight.detach().sum())
    values = {"valid": {}, "test": {"ndcg@10": number}}
    return EvaluationFigures(
        metrics=dict.fromkeys(("model", "popular", "successor"), values),
        users={"valid": 1, "test": 1},
        intervals={"model": {"valid": {}, "test": {}}},
    ), ()


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "ensure_ray", lambda: None)
    monkeypatch.setattr(stage, "preflight", lambda name, config, memory: config)
    monkeypatch.setattr(stage, "evaluate_parts", metrics_of_weights)
    monkeypatch.setattr(stage, "draw_evaluation", lambda found, heading: b"")
    return make_root(tmp_path)


def test_metrics_of_other_weights_are_not_served(root):
    before = run_evaluate(configure(root), "d", "m")
    assert run_evaluate(configure(root), "d", "m").skipped
    train_again(root, -2.0)
    after = run_evaluate(configure(root), "d", "m")
    assert not after.skipped
    assert after.location == before.location
    number = before.metrics["model"]["test"]["ndcg@10"]
    assert after.metrics["model"]["test"]["ndcg@10"] == pytest.approx(-2 * number)
    metrics = (root / "models" / "m" / files.METRICS).read_json()
    assert metrics["test"] == after.metrics["model"]["test"]  # beside the weights they are of
    assert run_evaluate(configure(root), "d", "m").skipped


def test_a_picture_that_cannot_be_drawn_costs_no_evaluation(root, monkeypatch, capfd):
    def fail(found, heading):
        raise ValueError("no font")

    monkeypatch.setattr(stage, "draw_evaluation", fail)
    made = run_evaluate(configure(root), "d", "m")
    assert is_finished(made.location)
    assert "WARNING: evaluate: no pictures were drawn" in capfd.readouterr().err
    monkeypatch.setattr(stage, "draw_evaluation", lambda found, heading: b"png")
    assert run_evaluate(configure(root), "d", "m").skipped
    assert (made.location / "report.png").read_bytes() == b"png"


def test_an_evaluation_that_is_made_anew_is_unfinished_meanwhile(root, monkeypatch):
    made = run_evaluate(configure(root), "d", "m")

    def fail(job, parts, manifest, memory):
        assert not is_finished(made.location)
        raise InputError("interrupted")

    monkeypatch.setattr(stage, "evaluate_parts", fail)
    with pytest.raises(InputError, match="interrupted"):
        run_evaluate(configure(root), "d", "m", force=True)
    assert not is_finished(made.location)


@pytest.mark.parametrize("kind", ["datasets/d", "models/m"])
def test_items_that_were_replaced_are_refused(root, monkeypatch, kind):
    """Numbers of items would mean others: by name, without metrics."""
    monkeypatch.setattr(stage, "evaluate_parts", evaluate_parts)
    items = root / kind / "items.parquet"
    table = items.read_table()
    items.write_table(table.set_column(1, "raw_item_id", table["raw_item_id"][::-1]))
    with pytest.raises(InputError, match=rf"{kind}/items\.parquet: other items than the manifest"):
        run_evaluate(configure(root), "d", "m")


def test_metrics_are_not_written_beside_a_model_that_is_being_trained_again(
    root, monkeypatch, capfd
):
    monkeypatch.setattr(stage, "METRICS_WAIT_S", 0.0)
    run_evaluate(configure(root), "d", "m")
    metrics = root / "models" / "m" / files.METRICS
    metrics.write_json({"valid": {}})  # of the training that has just ended
    with hold(root / "locks" / "model-m.json", "train of model m", 60):
        assert run_evaluate(configure(root), "d", "m").skipped
    assert metrics.read_json() == {"valid": {}}
    assert "no metrics were written beside the model: " in capfd.readouterr().err
    run_evaluate(configure(root), "d", "m")
    assert "test" in metrics.read_json()


def test_metrics_are_not_written_beside_weights_that_they_are_not_of(root, monkeypatch):
    """The model is trained again after its evaluation has ended, and before they are written."""
    monkeypatch.setattr(stage, "draw_missing", lambda *_: train_again(root, 3.0))
    run_evaluate(configure(root), "d", "m")
    assert (root / "models" / "m" / files.METRICS).read_json() == {"valid": {}}


def test_the_protocol_is_that_of_the_dataset_whatever_the_configuration_says(root):
    config = configure(root)
    assert protocol_text(config).startswith("leave-one-out, no filter")
    data = replace(
        config.data,
        split="temporal",
        temporal=TemporalConfig(valid_from="2026-01-01", test_from="2026-02-01"),
        min_rating=4.0,
    )
    made_with = to_dict(data)
    del made_with["min_item_interactions"]  # of an early version
    cuts = "temporal (valid from 2026-01-01, test from 2026-02-01), rating >= 4, "
    assert protocol_text(config, made_with).startswith(cuts)
    assert protocol_text(replace(config, data=data)).startswith(cuts)
    found = protocol_dict(config, made_with)
    assert (found["split"], found["temporal"]["test_from"]) == ("temporal", "2026-02-01")
    assert "temporal" not in protocol_dict(config)
    assert protocol_text(config, run_evaluate(config, "d", "m").made_with) == protocol_text(config)


def test_metrics_of_another_protocol_are_not_written_beside_a_model(root, capfd):
    """`models` and nights compare them with metrics of the protocol that it was chosen by."""
    model = root / "models" / "m"
    (model / files.CONFIG).write_bytes(dump_yaml(configure(root)).encode())
    seen_removed = configure(root, "evaluate.remove_seen=true")
    assert run_evaluate(seen_removed, "d", "m").metrics["model"]["test"]
    assert (model / files.METRICS).read_json() == {"valid": {}}
    assert "was trained with evaluate.remove_seen=False" in capfd.readouterr().err
    found = run_evaluate(configure(root, "evaluate.ks=[10]"), "d", "m")
    assert (model / files.METRICS).read_json()["test"] == found.metrics["model"]["test"]
