"""RecBole's own LightSANs trained by RecBole's own trainer, to convergence, with a log of epochs.

    .venv-bench/bin/python -m benchmarks.train_recbole LOG.inter OUTPUT [--set name=value ...]

The peer of `benchmarks/quality.py`: RecBole's defaults (batches of 2,048 prefixes, learning rate
1e-3, dropout .5, early stopping after ten epochs) and the split of the quickstart. ``OUTPUT`` gets
``epochs.jsonl``, a line per epoch with loss, valid metrics, wall-clock and processor seconds, and
``resume.pth``; a second call with the same ``OUTPUT`` goes on after the last whole epoch. When
training ends, the best epoch is evaluated on test once and ``result.json`` written.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.recbole_peer import MISSING, Log, is_installed, link_log, prepare


class EpochLog:
    """Writes a line and a checkpoint to resume from after every epoch."""

    def __init__(self, trainer: Any, output: Path) -> None:
        self._trainer, self._output = trainer, output
        self._rows = output / "epochs.jsonl"
        self._valid: dict[str, float] = {}
        self._keep_valid_result()
        self._start()

    def resume(self) -> None:
        """Take up weights, optimizer, random numbers and early stopping where they were left."""
        path = self._output / "resume.pth"
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        trainer = self._trainer
        trainer.model.load_state_dict(saved["weights"])
        trainer.optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"])
        trainer.start_epoch, trainer.cur_step = saved["epoch"] + 1, saved["cur_step"]
        trainer.best_valid_score = saved["best_valid_score"]
        trainer.saved_model_file = saved["saved_model_file"]
        rows = self._rows.read_text().splitlines()[: trainer.start_epoch]
        self._rows.write_text("".join(row + "\n" for row in rows))

    def __call__(self, epoch: int, score: float) -> None:
        """Called by RecBole's trainer after an epoch's validation."""
        trainer = self._trainer
        row = {
            "epoch": epoch + 1,
            "loss": trainer.train_loss_dict[epoch],
            **self._valid,
            "wall_s": round(time.monotonic() - self._wall, 2),
            "cpu_s": round(time.process_time() - self._cpu, 2),
            "best": bool(score == trainer.best_valid_score),
        }
        with self._rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        saved = {
            "weights": trainer.model.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "epoch": epoch,
            "cur_step": trainer.cur_step,
            "best_valid_score": float(trainer.best_valid_score),
            "saved_model_file": trainer.saved_model_file,
        }
        torch.save(saved, self._output / "resume.tmp")
        os.replace(self._output / "resume.tmp", self._output / "resume.pth")
        self._start()

    def _start(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def _keep_valid_result(self) -> None:
        """Record all metrics: RecBole passes the score alone to its callback."""
        evaluate = self._trainer.evaluate

        def noting(*args: Any, **kwargs: Any) -> Any:
            result = evaluate(*args, **kwargs)
            self._valid = {name: float(value) for name, value in result.items()}
            return result

        self._trainer.evaluate = noting


def train(log: Log, output: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Train to the end of early stopping; gives the best epoch, its valid and its test metrics."""
    prepared = prepare(log, "LightSANs", {"checkpoint_dir": str(output / "saved")} | settings)
    from recbole.model.sequential_recommender import (
        LightSANs,
    )
    from recbole.trainer import Trainer

    # Importing RecBole's models turns this on, which doubles the time and changes no number.
    torch.autograd.set_detect_anomaly(False)
    config = prepared.config
    trainer = Trainer(config, LightSANs(config, prepared.train.dataset))
    print(config, trainer.model, f"{len(prepared.train.dataset)} targets an epoch", flush=True)
    epoch_log = EpochLog(trainer, output)
    epoch_log.resume()
    trainer.fit(prepared.train, prepared.valid, saved=True, callback_fn=epoch_log)
    rows = [json.loads(row) for row in (output / "epochs.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: row["ndcg@10"])
    weights = torch.load(trainer.saved_model_file, weights_only=False)["state_dict"]
    trainer.model.load_state_dict(weights)
    test = trainer.evaluate(prepared.test, load_best_model=False)
    return {
        "targets_per_epoch": len(prepared.train.dataset),
        "epochs": len(rows),
        "best": best,
        "test": {name: float(value) for name, value in test.items()},
    }


def main() -> None:
    """Parse, train, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    if not is_installed():
        parser.exit(1, MISSING + "\n")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    settings = {k: yaml.safe_load(v) for k, v in (item.split("=", 1) for item in options.set)}
    output: Path = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    log = link_log(options.log, output / "data")
    os.chdir(output)  # RecBole writes log/ and log_tensorboard/ where it runs
    result = train(log, output, settings)
    (output / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
