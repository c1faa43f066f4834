"""Benchmarks run, and print what scripts read."""

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from typing import Any
from unittest import mock

import pytest
import torch

from tests.commands import ROOT

APART = ("fixed_cost", "preprocess", "score", "tables", "train_epoch")
"""Benchmarks that start processes or a Ray and measure them: each has a process of its own."""


def report_of(name: str, *arguments: str) -> dict[str, Any]:
    """Report of ``make bench NAME=name ARGS="--smoke --json …"``."""
    words = ["--smoke", "--json", *arguments]
    said = run_apart(name, words) if name in APART else run_here(name, words)
    report: dict[str, Any] = json.loads(said.splitlines()[-1])
    assert report["benchmark"] == name
    for case in report["cases"]:
        assert {"case", "ours", "peer", "unit", "ratio", "goal"} <= set(case)
    return report


def run_here(name: str, words: list[str]) -> str:
    """Output of a benchmark in this process, which has imported what takes seconds."""
    said, threads = io.StringIO(), torch.get_num_threads()
    try:
        with (
            contextlib.chdir(ROOT),
            contextlib.redirect_stdout(said),
            mock.patch.object(sys, "argv", [name, *words]),
        ):
            importlib.import_module(f"benchmarks.{name}").main()
    finally:
        torch.set_num_threads(threads)
    return said.getvalue()


def run_apart(name: str, words: list[str]) -> str:
    """Output of a benchmark in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_topk_benchmark_runs_and_its_engines_agree():
    assert report_of("topk")["cases"]


def test_lists_under_rules_are_compared_with_plain_ones():
    cases = report_of("rules")["cases"]
    assert len(cases) == 9
    assert all(case["ours"] > 0 and case["peer"] > 0 for case in cases)


def test_tables_are_compared_with_the_files_that_they_are_made_of(tmp_path):
    cases = report_of("tables", "--directory", str(tmp_path))["cases"]
    assert [case["case"] for case in cases] == ["delta", "iceberg"]
    assert all(case["ours"] > 0 and case["peer"] > 0 for case in cases)


def test_the_cost_of_a_small_pipeline_is_that_of_all_its_processes():
    (case,) = report_of("fixed_cost")["cases"]
    assert case["ours"] > 0
    assert case["processes"] > 5


def test_similar_items_are_compared_with_torch():
    (case,) = report_of("similar")["cases"]
    assert case["ours"] > 0
    assert case["peer"] > 0


def test_new_items_are_ranked_by_their_features_and_by_baselines():
    cases = report_of("cold")["cases"]
    assert [case["unit"] for case in cases] == ["hit@10"] * 9 + ["ndcg@10"]
    assert all(0 <= case["peer"] <= 1 for case in cases)


def test_training_speed_is_compared_with_a_causal_sasrec_where_recbole_is_missing():
    cases = report_of("train_step", "--threads", "1")["cases"]
    assert any("causal against causal SASRec" in case["case"] for case in cases)
    assert all(case["ours"] > 0 and case["peer"] > 0 for case in cases)


def test_quality_is_set_against_time_and_recboles_epochs(tmp_path):
    epochs = tmp_path / "epochs.jsonl"
    rows = [{"epoch": 1, "ndcg@10": 0.0}, {"epoch": 2, "ndcg@10": 0.01}, {"epoch": 3, "ndcg@10": 0}]
    epochs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    peer = ["--recbole", str(epochs), "--recbole-speed", "2"]
    report = report_of("quality", "--threads", "1", *peer)
    assert [kind["kind"] for kind in report["kinds"]] == ["reference", "masked", "causal"]
    for kind, case in zip(report["kinds"], report["cases"], strict=True):
        # Two epochs at two targets a second.
        assert case["peer"] == kind["distinct_targets_per_epoch"]
        assert case["ratio"] == pytest.approx(case["peer"] / case["ours"], rel=0.05)
        assert kind["test ndcg@10"]["sd"] == 0


def test_the_scoring_stage_is_compared_with_its_arithmetic_alone():
    (case,) = report_of("score")["cases"]
    assert case["ratio"] == pytest.approx(case["ours"] / case["peer"], rel=0.01)


def test_a_search_is_set_against_its_training_and_the_defaults(ray_cluster):
    overhead, time, defaults = report_of("tune")["cases"]
    assert 0 < overhead["ours"] < 1
    assert time["ours"] > 0
    assert 0 < defaults["peer"] <= 1
    assert set(defaults["test"]) == {"winner", "defaults"}


@pytest.mark.parametrize("name", ["attention_scaling", "loss_scaling", "step_options"])
def test_benchmarks_of_the_model_run(name):
    assert all(
        case["ours"] > 0 for case in report_of(name)["cases"] if case["unit"] != "power of L"
    )


@pytest.mark.slow
def test_whole_epochs_are_compared_with_a_bare_loop():
    cases = report_of("train_epoch")["cases"]
    assert len(cases) == 6
    assert all(case["ours"] > 0 and case["peer"] > 0 for case in cases)
    [share] = [case["communication_share"] for case in cases if "communication_share" in case]
    assert 0 < share < 1


def test_quality_is_set_beside_what_was_published():
    report = report_of("train_to_quality", "--threads", "1")
    assert set(report["runs"]) == {"recbole", "sasrec"}
    assert len(report["cases"]) == 2 * (2 + 7)


def test_preprocessing_writes_what_polars_and_duckdb_write(tmp_path):
    report = report_of("preprocess", "--work", str(tmp_path))
    assert set(report["cases"][0]["all"]) == {"ours", "polars", "duckdb"}
    assert 0 < report["packed_bytes_per_row"] < report["plain_bytes_per_row"]


def test_purchases_are_predicted_from_views_too_and_alone():
    [case] = report_of("events")["cases"]
    assert case["both"]["users"] > 20
    assert case["alone"]["segments"].keys() == {"not within the hour before"}


def test_a_ladder_trains_its_rungs_and_prints_them(tmp_path):
    twins = ("beauty-seen-kept", "beauty-seen-removed")
    cases = report_of("ladder", "--protocol", twins[0], "--keep", str(tmp_path))["cases"]
    # One training a rung; each twin has its own line, its own test and its own weights.
    assert {case["case"].split(",")[0] for case in cases} == set(twins)
    assert len(list(tmp_path.glob("*.npy"))) == 2 * len(twins)


def test_runs_that_are_behind_are_cut_and_chosen_by_nothing():
    cut = ["--protocol", "ml-1m-recbole", "--cut", "1", "1.1"]
    assert report_of("ladder", *cut)["cases"] == []


def test_the_cost_of_interests_that_fade_is_set_against_plain_ones():
    [case] = report_of("fading_cost")["cases"]
    assert case["ours"] > 0
    assert 0 <= case["steep_chunks"] < case["chunks"]


def test_models_baselines_and_a_peer_are_tested_on_a_split_by_time(tmp_path):
    report = report_of("temporal", "--work", str(tmp_path))
    baselines = ["popular", "popular, 7 days", "successor"]
    peer = ["SASRec of RecTools 0.19"] * (ROOT / ".venv-rectools/bin/python").exists()
    tested = [case["case"].rsplit(", ours", 1)[1] for case in report["cases"][::4]]
    ours = [
        [f": {other}" for other in ["ours, boosted", *others]]
        + [f", boosted: {other}" for other in ["ours", *others]]
        for others in (baselines + peer, baselines)
    ]
    assert tested == ours[0] + ours[1]  # judged, then refit
    for case in report["cases"]:
        value, low, high = case["lead"]
        assert value == pytest.approx(case["ours"] - case["peer"], abs=1e-3)
        assert low <= value <= high
    # What is there is neither trained nor tested again.
    assert report_of("temporal", "--work", str(tmp_path))["cases"] == report["cases"]


def test_the_released_code_and_the_paper_are_taken_apart():
    names = ("reference", "softmax")
    runs = report_of("reference_parts", "--variants", *names)["runs"]
    assert [run["variant"] for run in runs] == list(names)


def test_sasrec_of_rectools_stands_beside_ours_where_it_is_installed():
    report = report_of("peer_sasrec")
    is_installed = (ROOT / ".venv-rectools/bin/python").exists()
    assert len(report["epochs"]) == 2 * is_installed
    # Ours ends where it has reached the peer's best.
    best = max((row["ndcg@10"] for row in report["epochs"]), default=2.0)
    assert all(valid < best for valid in report["ours"][:-1])
    assert len(report["ours"]) == 2 or report["ours"][-1] >= round(best, 4)
    assert all(case["ours"] > 0 for case in report["cases"])


def test_what_a_gpu_is_asked_runs_without_one():
    """Its other parts are the commands and the benchmarks above."""
    report = report_of(
        "gpu", "--device", "cpu", "--parts", "quality", "precision", "memory", "scoring"
    )
    assert [name for name, part in report["parts"].items() if "failed" in part] == []
    assert report["parts"]["quality"]["distinct_targets_per_s"] > 0
    assert report["parts"]["scoring"]["encoder_and_lists_users_per_s"] > 0


@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_refits_are_set_against_the_model_that_was_judged(split):
    cases = report_of("refit", "--split", split)["cases"]
    assert len(cases) == 2 * 5
    assert all(0 <= case["ours"] <= 1 and case["users"] > 0 for case in cases)
    assert [case["lead_over_judged"][0] for case in cases[:2]] == [0, 0]


def test_policies_of_training_are_replayed_and_go_on_after_an_interruption(tmp_path):
    report = report_of("replay", "--work", str(tmp_path))
    names = [case["case"].split(": ", 1)[1].rsplit(", ", 1)[0] for case in report["cases"]]
    policies = ["nightly", "nightly, judged", "nightly, continue", "weekly", "weekly, warm"]
    policies.append("nightly, judged by time")
    others = ["popular", "popular, 7 days", "newcomers: popular"]
    assert names[::4] == policies + others
    by_name = dict(zip(names[::4], report["cases"][::4], strict=True))
    assert len({by_name[name]["users"] for name in policies}) == 1
    # Two nights of the first week: one training of the weekly policies, and its refit.
    assert [by_name[name]["trainings"] for name in policies] == [4, 2, 4, 2, 2, 2]
    # What was done is found, whatever it took.
    assert report_of("replay", "--work", str(tmp_path))["cases"] == report["cases"]
