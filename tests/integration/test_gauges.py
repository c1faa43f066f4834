"""Figures of a night in Ray's own exporter, read as Prometheus reads it."""

import json
import os
import subprocess
import sys
import urllib.request

import ray
from prometheus_client.parser import text_string_to_metric_families

from pipelines.operations import gauges
from pipelines.operations.gauges import Sample, show_on_cluster
from tests.commands import ROOT, wait_until

LABELS = {"root": "s3://b/x", "stage": "train"}
NAME = "ray_lightsans_night_stage_seconds"


def exported() -> dict[str, tuple[float, dict[str, str]]]:
    """Values and labels of our gauges by name."""
    [node] = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            sample.name: (sample.value, sample.labels)
            for family in families
            for sample in family.samples
            if "lightsans" in sample.name
        }


def show() -> None:
    """Show a figure on a Ray with all its processes, and print what its exporter says of it."""
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    os.environ["RAY_ADDRESS"] = "a-cluster:6379"  # where nights of clusters run
    gauges.SCRAPED_WITHIN_S = 0.0
    show_on_cluster([Sample("lightsans_night_stage_seconds", 12.5, LABELS)])
    assert wait_until(lambda: NAME in exported(), timeout_s=60)
    print(json.dumps(exported()[NAME]))


def test_who_reads_rays_exporter_sees_the_figures_of_a_night(monkeypatch):
    """In a process of its own: the Ray of the other tests has no exporter."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    command = [sys.executable, "-c", "from tests.integration.test_gauges import show; show()"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    value, found = json.loads(ran.stdout.splitlines()[-1])
    assert value == 12.5
    assert LABELS.items() <= found.items()
