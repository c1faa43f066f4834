"""A backtest of two nights on a real Ray, from the command line: measured, and found again.

Its nights are those that depend most on each other: made from the dataset before, cut by time, with
refits, the second trained from the weights of the first.
"""

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.commands.app import app
from tests.integration.conftest import TINY

SETTINGS = [
    *TINY,
    "data.columns.rating=null",
    "data.num_parts=1",
    "score.num_workers=1",
    "train.num_workers=1",
    "train.epochs=1",
    "nightly.beat_baselines=[]",
    "nightly.max_relative_drop=null",
    "nightly.train.start=warm",
    "data.split=temporal",
    "data.temporal={valid_fraction: 0.2, test_fraction: 0.2}",
]


def write_log(path: Path, days: int = 7) -> None:
    """Users who go round a circle of items, one each twelve hours; one is only met late."""
    begin = datetime(2026, 11, 1, tzinfo=UTC) - timedelta(days=days - 7)
    lines = [
        f"u{user},i{(user + step) % 12},{(begin + timedelta(hours=12 * step)).isoformat()}\n"
        for step in range(2 * days)
        for user in range(60)
    ]
    lines += [
        f"u{user},late,{(begin + timedelta(days=3, hours=23)).isoformat()}\n" for user in (1, 2)
    ]
    path.write_text("user_id,item_id,timestamp\n" + "".join(lines))


def assert_warm_and_complete(root: Path, before: Any) -> None:
    """The second night began with the model that the first one judged, and learnt everything."""
    report = json.loads((root / "reports" / "nightly-2026-11-06.json").read_text())
    first = json.loads((root / "reports" / "nightly-2026-11-05.json").read_text())
    decided = {each["subject"]: each["decided"] for each in report["decisions"]}
    assert decided["train from"] == f"model {first['model_id']}"
    for name in ("model_id", "refit_model_id"):
        config = (root / "models" / report[name] / "config.yaml").read_text()
        assert f"warm_start: {first['model_id']}" in config
    judged, full = (
        json.loads((root / "datasets" / report[name] / "manifest.json").read_text())
        for name in ("dataset_id", "full_dataset_id")
    )
    # Each was made from what the night before recommended from, and knows its rows.
    assert judged["base"] == before["full_dataset_id"] == first["full_dataset_id"]
    assert full["base"] == judged["id"]
    assert (full["items"], full["interactions"]) == (13, 10 * 60 + 2)


@pytest.mark.slow
def test_nights_of_the_past_are_replayed_measured_and_found_again(ray_cluster, tmp_path):
    write_log(tmp_path / "log.csv")
    settings = [f"root={tmp_path}/root", f"data.input={tmp_path}/log.csv", *SETTINGS]
    words = ["backtest", "--from", "2026-11-05", "--to", "2026-11-06"]
    words += [word for each in settings for word in ("-s", each)]

    def call(*more: str) -> Any:
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, done.output
        return done.stdout

    told = json.loads(call("--json").splitlines()[-1])
    first, second = told["nights"]
    assert [first["date"], second["date"]] == ["2026-11-05", "2026-11-06"]
    assert first["outcome"] == second["outcome"] == "published"
    assert first["next_users"] == 60  # each met two items between the nights
    for metrics in (first["next_metrics"], first["judged_metrics"]):
        assert 0 <= metrics["any hit@10"]["value"] <= 1
    assert "next_users" not in second
    assert first["root_bytes"] < second["root_bytes"]
    assert_warm_and_complete(Path(told["path"]) / "configured", first)
    policy = told["policies"]["configured"]
    assert policy["lead_over_judged"].keys() == first["next_metrics"].keys()
    assert set(policy["stage_minutes"]) >= {"preprocess", "train", "evaluate", "score"}
    assert json.loads(call("--json").splitlines()[-1]) == told
    shown = call()
    assert "2026-11-06" in shown
    assert "configured" in shown
    assert (Path(told["path"]) / "report.png").exists()


def test_a_backtest_that_makes_no_sense_ends_before_anything_is_made(tmp_path):
    for words in (["--from", "2026-11-06", "--to", "2026-11-05"], ["--every", "1x"]):
        ends = [] if "--from" in words else ["--from", "2026-11-05", "--to", "2026-11-06"]
        with pytest.raises(ValueError, match="--"):
            CliRunner().invoke(
                app, ["backtest", *ends, *words, "-s", f"root={tmp_path}/root"],
                catch_exceptions=False,
            )  # fmt: skip
    assert not (tmp_path / "root").exists()


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_many_nights_leave_no_more_behind_than_few(ray_cluster, tmp_path):
    """NIGHTS is their number, 30 by default; what the sixth and the last left is printed."""
    count = int(os.environ.get("NIGHTS", "30"))
    write_log(tmp_path / "log.csv", 8 + count)
    bounds = ["nightly.clean=true", "clean.keep=2", "clean.keep_reports=4"]
    settings = [f"root={tmp_path}/root", f"data.input={tmp_path}/log.csv", *SETTINGS, *bounds]
    settings += ["nightly.train.every_nights=7", "nightly.train.if_metric_drops=null"]
    first = date(2026, 11, 7) - timedelta(days=count - 1)
    words = ["backtest", "--from", f"{first}", "--to", "2026-11-07", "--json"]
    words += [word for each in settings for word in ("-s", each)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    nights = json.loads(done.stdout.splitlines()[-1])["nights"]
    for night in nights:
        print({**night["machine"], **{n: night[n] for n in ("date", "root_bytes", "root_files")}})
    few, many = nights[min(5, count - 2)], nights[-1]
    assert many["outcome"] == "published"
    assert many["root_files"] < 1.5 * few["root_files"]
    assert many["root_bytes"] < 2 * few["root_bytes"]  # the log itself grows
    assert many["machine"]["processes"] <= few["machine"]["processes"] + 3
    # A Ray that others started may monitor logs: it holds files of ended workers, 200 at most.
    assert many["machine"]["handles"] < few["machine"]["handles"] + 300
