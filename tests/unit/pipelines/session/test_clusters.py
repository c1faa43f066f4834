import socket
from collections.abc import Iterator

import pytest
from ray._private import services

from lightsans.errors import ConfigError
from pipelines.session import clusters
from pipelines.session.clusters import ClusterUnreachableError, require_cluster


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of something that listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(clusters, "ANSWER_WITHIN_S", 0.5)


def test_an_address_where_nobody_listens_is_an_outage_that_names_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ClusterUnreachableError, match=f"RAY_ADDRESS={free}.*refused.*unset"):
        require_cluster(free)


def test_so_is_one_where_something_else_listens(silent):
    with pytest.raises(ClusterUnreachableError, match="does not answer as Ray does"):
        require_cluster(silent)


def test_and_a_name_that_no_one_has():
    with pytest.raises(ClusterUnreachableError, match=r"absent\.invalid"):
        require_cluster("ray://absent.invalid:10001")


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:0", "head:99999", "a b"])
def test_what_is_no_address_is_a_wrong_setting(address):
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        require_cluster(address)


def test_the_address_of_a_dashboard_leads_to_the_option():
    with pytest.raises(ConfigError, match="add --cluster http://head:8265"):
        require_cluster("http://head:8265")


def test_the_cluster_that_was_the_last_on_this_machine_may_be_gone(monkeypatch):
    """Ray would wait for it for a minute, and then end the process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: [])
    monkeypatch.setattr(services, "find_bootstrap_address", lambda directory: free)
    with pytest.raises(ClusterUnreachableError, match=rf"RAY_ADDRESS=auto \({free}, which"):
        require_cluster("auto")
    monkeypatch.setattr(services, "find_bootstrap_address", lambda directory: None)
    require_cluster("auto")
