"""`import-recbole`, `export-recbole` and `export`, with items from a file: no dataset, no Ray."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from lightsans import LightSANs
from lightsans.errors import ConfigError, InputError, LeaseError, NotFoundError
from lightsans.recbole.checkpoint_file import read_checkpoint
from pipelines.commands.app import app
from pipelines.console.exit_status import ExitStatus, status_of
from pipelines.session.lease import hold
from tests.factories import local

GOLDEN = Path(__file__).parents[3] / "golden"
CHECKPOINT = str(GOLDEN / "recbole_tiny.pth")


@pytest.fixture
def tokens(tmp_path):
    with np.load(GOLDEN / "recbole_tiny.npz", allow_pickle=False) as arrays:
        names = arrays["tokens"].tolist()
    path = tmp_path / "tokens.txt"
    path.write_text("\n".join(names) + "\n")
    return path


def run(tmp_path, *arguments):
    command = [*map(str, arguments), "--set", f"root={tmp_path / 'root'}", "--json"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_an_imported_model_is_a_model_and_returns_to_recbole_as_it_came(tmp_path, tokens):
    made = run(tmp_path, "import-recbole", CHECKPOINT, "--tokens", tokens)
    directory = Path(made["path"])
    original = read_checkpoint(Path(CHECKPOINT).read_bytes(), "tiny.pth")
    model = LightSANs.from_pretrained(str(directory))
    assert made["items"] == model.num_items == 28
    items = pq.read_table(directory / "items.parquet")["raw_item_id"].to_pylist()
    assert items == tokens.read_text().split()[1:]
    assert [m["id"] for m in run(tmp_path, "models")["models"]] == [made["model_id"]]

    reversed_tokens = tmp_path / "reversed.txt"
    reversed_tokens.write_text("\n".join(items[::-1]))
    back = tmp_path / "back.pth"
    for order, expected in ((tokens, slice(None)), (reversed_tokens, slice(None, None, -1))):
        arguments = ("--model", made["model_id"], "--tokens", order, "--to", back)
        run(tmp_path, "export-recbole", *arguments)
        written = torch.load(back, weights_only=True)["state_dict"]
        assert written.keys() == original.state_dict.keys()
        name = "item_embedding.weight"
        rows = torch.from_numpy(original.state_dict[name][1:].numpy()[expected].copy())
        assert torch.equal(written[name][1:], rows)
        assert torch.equal(written[name][0], original.state_dict[name][0])


def test_an_exported_model_is_complete_and_its_vectors_are_the_models(tmp_path, tokens):
    made = run(tmp_path, "import-recbole", CHECKPOINT, "--tokens", tokens)
    trained_by = Path(made["path"]) / "manifest.json"
    trained_by.write_text(trained_by.read_text().replace(torch.__version__, "2.13.99"))
    exported = run(tmp_path, "export", "--model", made["model_id"])
    target, serving = Path(exported["path"]), Path(exported["directory"])
    names = {"user_encoder.pt2", "items.parquet", "item_vectors.npy", "manifest.json"}
    assert {path.name for path in serving.iterdir()} == names
    manifest = json.loads((target / "manifest.json").read_bytes())
    assert {target / path for path in manifest["files"].values()} == {
        serving / name for name in names - {"manifest.json"}
    }
    assert [manifest[name] for name in ("max_seq_len", "hidden_size", "items")] == [8, 8, 28]
    assert manifest["torch"] == torch.__version__  # that the program was made with
    encoder = torch.export.load(io.BytesIO((serving / "user_encoder.pt2").read_bytes())).module()
    with np.load(GOLDEN / "recbole_tiny.npz", allow_pickle=False) as arrays:
        batch = [torch.from_numpy(arrays[n]).long() for n in ("item_ids", "lengths")]
        expected = arrays["scores"][:, 1:]
    scores = encoder(*batch).detach().numpy() @ np.load(serving / "item_vectors.npy").T
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused_with_a_way_out(tmp_path, tokens):
    few = tmp_path / "few.txt"
    few.write_text("a\nb\n")
    with pytest.raises(InputError, match=r"has 28 items, but 2 are named.*--tokens"):
        run(tmp_path, "import-recbole", CHECKPOINT, "--tokens", few)
    with pytest.raises(InputError, match="there is no such file"):
        run(tmp_path, "import-recbole", tmp_path / "none.pth", "--tokens", tokens)
    with pytest.raises(NotFoundError, match="give its items with --tokens"):
        run(tmp_path, "import-recbole", CHECKPOINT, "--dataset", "0123456789ab")
    with pytest.raises(ConfigError, match=r"set data\.input to its log, or give --tokens"):
        run(tmp_path, "import-recbole", CHECKPOINT)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": {"hidden_act": "foo"}}, "RecBole's hidden_act='foo'"),
        ({"config": {"n_heads": "2"}}, "RecBole's n_heads='2'"),
        ({"item_embedding.weight": torch.zeros(29)}, r"item_embedding\.weight has shape \(29,\)"),
    ],
)
def test_a_bad_field_of_a_checkpoint_is_a_mistake_that_names_it(tmp_path, tokens, change, named):
    checkpoint = read_checkpoint(Path(CHECKPOINT).read_bytes(), "tiny.pth")
    weights = {**checkpoint.state_dict, **change}
    config = {**checkpoint.settings, **weights.pop("config", {})}
    bad = tmp_path / "bad.pth"
    torch.save({"config": config, "epoch": 0, "state_dict": weights}, bad)
    with pytest.raises(ConfigError, match=named) as raised:
        run(tmp_path, "import-recbole", bad, "--tokens", tokens)
    assert status_of(raised.value) == ExitStatus.USAGE
    assert not (tmp_path / "root").exists()


def test_a_model_that_was_imported_before_is_found_as_it_is(tmp_path, tokens):
    """With the metrics that it has gained since, and the weights that scores were made of."""
    made = run(tmp_path, "import-recbole", CHECKPOINT, "--tokens", tokens)
    directory = Path(made["path"])
    (directory / "metrics.json").write_text('{"valid": {}, "test": {"ndcg@10": 0.1}}')
    before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    again = run(tmp_path, "import-recbole", CHECKPOINT, "--tokens", tokens)
    assert again == made
    assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before


def test_while_another_process_makes_the_model_an_import_waits_or_gives_up(tmp_path, tokens):
    made = run(tmp_path, "import-recbole", CHECKPOINT, "--tokens", tokens)
    (Path(made["path"]) / "manifest.json").unlink()
    lock = local(tmp_path) / "root" / "locks" / f"model-{made['model_id']}.json"
    with hold(lock, "another import", 60):
        words = ["import-recbole", CHECKPOINT, "--tokens", str(tokens), "--wait", "0"]
        words += ["--set", f"root={tmp_path / 'root'}"]
        result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, LeaseError)
    assert "another import" in str(result.exception)
    assert status_of(result.exception) == ExitStatus.BUSY
