"""Packages that read tables."""

import sys

import pytest

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError
from lightsans.warehouse.tables import list_log_inputs, open_output
from tests.run_tables import key_of


@pytest.mark.parametrize(
    ("address", "package"),
    [("delta:///lake/log", "deltalake"), ("iceberg:///lake/log", "pyiceberg")],
)
def test_without_the_package_of_a_table_the_way_to_get_it_is_told(address, package, monkeypatch):
    for name in (package, f"{package}.table"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    told = rf"/lake/log: \w+ tables need a package: pip install 'lightsans\[{package}\]'"
    with pytest.raises(ConfigError, match=told):
        list_log_inputs([address], StorageConfig())
    with pytest.raises(ConfigError, match=told):
        open_output(address, StorageConfig()).has(key_of("r1"), "append")
