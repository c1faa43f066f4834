"""The real RecBole beside us: scores, losses, and models that move both ways.

RecBole needs an environment of its own: `make bench-env` makes it and runs this file there.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.recbole_peer import (
    MISSING,
    interaction,
    is_installed,
    link_log,
    make_model,
    prepare,
)
from lightsans import LightSANs
from lightsans.config.file import load_config
from lightsans.losses.objective import NextItemObjective
from lightsans.recbole.weights import from_recbole, to_recbole
from pipelines.commands.app import app
from pipelines.evaluate.stage import run_evaluate
from pipelines.preprocess.stage import run_preprocess
from pipelines.train.stage import run_train
from tests.integration.conftest import TINY

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason=MISSING),
    pytest.mark.filterwarnings("ignore"),  # RecBole's own
]
SETTINGS = {
    "MAX_ITEM_LIST_LENGTH": 12,
    "k_interests": 3,
    "hidden_size": 16,
    "inner_size": 24,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "initializer_range": 0.3,
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """RecBole writes log/ and saved/ where it runs, and reads the command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["recbole"])


@pytest.fixture(scope="module")
def log(small_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users with four interactions and more: with three, RecBole has no valid target for them."""
    header, *rows = small_log.read_text().splitlines(keepends=True)
    count = Counter(row.split("\t")[0] for row in rows)
    path = tmp_path_factory.mktemp("log") / "four.inter"
    path.write_text(header + "".join(row for row in rows if count[row.split("\t")[0]] >= 4))
    return path


def random_histories(num_items: int, L: int, rows: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.randint(1, L + 1, (rows,))
    item_ids = torch.randint(1, num_items + 1, (rows, L))
    return item_ids * (torch.arange(L) < lengths.unsqueeze(1)), lengths


def options(overrides: list[str]) -> list[str]:
    return [word for item in overrides for word in ("--set", item)]


def command(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("n_layers", [1, 3])
def test_scores_and_ten_training_steps_are_recboles(n_layers):
    theirs = make_model("LightSANs", SETTINGS | {"n_layers": n_layers}, num_items=30)
    ours = from_recbole(theirs.state_dict(), **SETTINGS)
    histories, lengths = random_histories(30, 12)
    targets = torch.randint(1, 31, (9,))
    batch = interaction(histories, lengths, targets)
    expected = theirs.full_sort_predict(batch)
    torch.testing.assert_close(ours.score_items(histories, lengths), expected, rtol=0, atol=1e-5)
    objective = NextItemObjective(ours.train())
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-3) for m in (theirs, ours)]
    for _ in range(10):
        losses = (
            theirs.calculate_loss(batch),
            objective(histories, lengths, targets) / len(targets),
        )
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-5)
    theirs.load_state_dict(to_recbole(ours))
    expected = theirs.full_sort_predict(batch)
    torch.testing.assert_close(ours.score_items(histories, lengths), expected, rtol=0, atol=1e-5)


def test_a_model_that_recbole_trained_evaluates_here_as_it_does_there(ray_cluster, log, tmp_path):
    settings = SETTINGS | {"epochs": 2, "checkpoint_dir": "saved", "learning_rate": 0.01}
    there = prepare(link_log(log, tmp_path / "data"), "LightSANs", settings)
    from recbole.model.sequential_recommender import LightSANs as RecBoleLightSANs
    from recbole.trainer import Trainer

    model = RecBoleLightSANs(there.config, there.train.dataset)
    trainer = Trainer(there.config, model)
    trainer.fit(there.train, there.valid, saved=True)
    checkpoint = torch.load(trainer.saved_model_file, weights_only=False)
    model.load_state_dict(checkpoint["state_dict"])
    expected = {
        "valid": trainer.evaluate(there.valid, load_best_model=False),
        "test": trainer.evaluate(there.test, load_best_model=False),
    }

    overrides = [f"root={tmp_path / 'root'}", f"data.input={log}"]
    config = load_config(None, overrides).config
    dataset = run_preprocess(config)
    made = command("import-recbole", trainer.saved_model_file, *options(overrides))
    items = pq.read_table(Path(made["path"]) / "items.parquet")["raw_item_id"].to_pylist()
    assert items == there.train.dataset.field2id_token["item_id"][1:].tolist()
    found = run_evaluate(config, dataset.dataset_id, made["model_id"], map_items=True)
    for split, metrics in expected.items():
        for name in ("hit@10", "ndcg@10", "mrr@10"):
            assert found.metrics["model"][split][name] == pytest.approx(metrics[name], abs=1e-6)
    ours = LightSANs.from_pretrained(made["path"])
    for rows, *_ in there.test:
        scores = ours.score_items(rows["item_id_list"], rows["item_length"])
        torch.testing.assert_close(scores, model.full_sort_predict(rows), rtol=0, atol=1e-5)


def test_a_model_trained_here_evaluates_in_recbole_as_it_does_here(ray_cluster, log, tmp_path):
    overrides = [f"root={tmp_path / 'root'}", *TINY, f"data.input={log}"]
    overrides += ["model.attention=reference", "train.epochs=2", "train.batch_size=512"]
    config = load_config(None, overrides).config
    dataset = run_preprocess(config)
    trained = run_train(config, dataset.dataset_id)
    file = tmp_path / "ours.pth"
    command("export-recbole", "--to", file, *options(overrides), "--model", trained.model_id)
    checkpoint = torch.load(file, weights_only=True)

    sizes = {name: value for name, value in checkpoint["config"].items() if name != "n_items"}
    there = prepare(link_log(log, tmp_path / "data"), "LightSANs", sizes)
    from recbole.model.sequential_recommender import LightSANs as RecBoleLightSANs
    from recbole.trainer import Trainer

    trainer = Trainer(there.config, RecBoleLightSANs(there.config, there.train.dataset))
    trainer.model.load_state_dict(checkpoint["state_dict"])
    found = run_evaluate(config, dataset.dataset_id, trained.model_id)
    for split, rows in (("valid", there.valid), ("test", there.test)):
        metrics = trainer.evaluate(rows, load_best_model=False)
        for name in ("hit@10", "ndcg@10", "mrr@10"):
            assert metrics[name] == pytest.approx(found.metrics["model"][split][name], abs=1e-6)
