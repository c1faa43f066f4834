"""An Iceberg catalog in a file of SQLite, as pyiceberg's configuration names one."""

from pathlib import Path

import pytest


def made_catalog(
    monkeypatch: pytest.MonkeyPatch, directory: Path, warehouse: str | None = None
) -> None:
    """Have pyiceberg know the catalog ``prod``, and no other one."""
    (directory / "home").mkdir()
    monkeypatch.setenv("HOME", str(directory / "home"))
    monkeypatch.setenv("PYICEBERG_HOME", str(directory / "home"))
    (directory / "home" / ".pyiceberg.yaml").write_text(
        f"catalog:\n  prod:\n    type: sql\n    uri: sqlite:///{directory}/catalog.db\n"
        f"    warehouse: {warehouse or f'file://{directory}/warehouse'}\n"
    )
