"""Figures of a night in Ray's own exporter, read as Prometheus reads it."""

import urllib.request

import ray
from prometheus_client.parser import text_string_to_metric_families

from pipelines.operations import gauges
from pipelines.operations.gauges import Sample, show_on_cluster
from tests.commands import wait_until


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


def test_who_reads_rays_exporter_sees_the_figures_of_a_night(ray_cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "a-cluster:6379")  # where nights of clusters run
    monkeypatch.setattr(gauges, "SCRAPED_WITHIN_S", 0.0)
    labels = {"root": "s3://b/x", "stage": "train"}
    show_on_cluster([Sample("lightsans_night_stage_seconds", 12.5, labels)])
    name = "ray_lightsans_night_stage_seconds"
    assert wait_until(lambda: name in exported(), timeout_s=60)
    value, found = exported()[name]
    assert value == 12.5
    assert labels.items() <= found.items()
