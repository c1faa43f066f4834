"""The files of cluster/ as plain data: what the tests about them share."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.commands import ROOT

CLUSTER = ROOT / "cluster"
LAUNCHER = ["aws.yaml", "gcp.yaml"]
TEXTS = sorted(path for path in CLUSTER.rglob("*") if path.is_file() and path.suffix != ".pyc")


def load_all(name: str) -> list[Any]:
    """The documents of a YAML file."""
    folder = CLUSTER if name in LAUNCHER else CLUSTER / "kuberay"
    return list(yaml.safe_load_all((folder / name).read_text(encoding="utf-8")))


def load(name: str) -> Any:
    """The only document of a YAML file."""
    (document,) = load_all(name)
    return document


def cluster_spec(name: str) -> Any:
    """The RayCluster part of a KubeRay manifest."""
    spec = load(name)["spec"]
    spec = spec.get("jobTemplate", spec)
    return spec.get("rayClusterSpec", spec)


def _pod_templates() -> Iterator[tuple[str, Any]]:
    spec = cluster_spec("rayjob.yaml")
    yield "head", spec["headGroupSpec"]["template"]
    for group in spec["workerGroupSpecs"]:
        yield group["groupName"], group["template"]
    yield "submitter", load("rayjob.yaml")["spec"]["submitterPodTemplate"]
    yield "nightly", load("nightly-cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]


PODS = dict(_pod_templates())
"""Pod templates by what runs in them."""


def pins(path: Path) -> dict[str, str]:
    """Name to version of a file of ``name==version`` lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {
        name: version
        for name, _, version in (line.partition("==") for line in lines)
        if version and re.fullmatch(r"[A-Za-z0-9._-]+", name)
    }


LOCK = pins(ROOT / "requirements.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
