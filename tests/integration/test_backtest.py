"""A backtest of two nights on a real Ray, from the command line: measured, and found again."""

import json
from datetime import UTC, datetime, timedelta
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
]


def write_log(path: Path) -> None:
    """Users who go round a circle of items, one each twelve hours."""
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    lines = [
        f"u{user},i{(user + step) % 12},{(begin + timedelta(hours=12 * step)).isoformat()}\n"
        for step in range(14)
        for user in range(60)
    ]
    path.write_text("user_id,item_id,timestamp\n" + "".join(lines))


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
    assert 0 <= first["next_metrics"]["any hit@10"]["value"] <= 1
    assert "next_users" not in second
    assert first["root_bytes"] < second["root_bytes"]
    policy = told["policies"]["configured"]
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
