"""Benchmarks run, and print what scripts read."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_topk_benchmark_runs_and_its_engines_agree():
    ran = subprocess.run(
        [sys.executable, "benchmarks/topk.py", "--smoke", "--json"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report["benchmark"] == "topk"
    assert {"case", "ours", "peer", "unit", "ratio", "goal"} <= set(report["cases"][0])
