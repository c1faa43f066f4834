"""Fixtures of the tests on several hosts, which are made here: see `tests.hosts.host`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.cluster import HostCluster, host_cluster
from tests.hosts.host import reason_against
from tests.nights import write_log


@pytest.fixture(scope="session")
def hosts_allowed() -> None:
    """Skip where this machine cannot be several hosts."""
    reason = reason_against()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster(hosts_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCluster]:
    """One cluster of three workers for all tests, with the log of `tests.nights` in its bucket."""
    log: Path = tmp_path_factory.mktemp("log") / "log.csv"
    write_log(log)
    with host_cluster() as made:
        made.put("log.csv", log.read_text())
        yield made
