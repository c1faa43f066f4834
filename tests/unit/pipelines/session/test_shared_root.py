import pytest

from lightsans.storage.location import Location
from pipelines.session.shared_root import machines_to_ask, not_shared
from tests.factories import local


def node(number, address, cpus=2, alive=True):
    return {
        "NodeID": number,
        "NodeManagerAddress": address,
        "NodeManagerHostname": f"host-{address[-1]}",
        "Alive": alive,
        "Resources": {"CPU": cpus} if cpus else {},
    }


HERE = "10.0.0.1"


def test_every_other_machine_that_works_is_asked_once(tmp_path):
    nodes = [node("a", HERE), node("b", "10.0.0.2"), node("c", "10.0.0.2"), node("d", "10.0.0.3")]
    nodes += [node("e", "10.0.0.4", cpus=0), node("f", "10.0.0.5", alive=False)]
    asked = machines_to_ask(nodes, "a", local(tmp_path))
    assert asked == [("c", "10.0.0.2", "host-2"), ("d", "10.0.0.3", "host-3")]


@pytest.mark.parametrize("address", [HERE, "10.0.0.2"])
def test_nobody_is_asked_on_one_machine_or_about_storage_of_all(tmp_path, address):
    nodes = [node("a", HERE, cpus=0), node("b", address)]
    root = (
        local(tmp_path)
        if address == HERE
        else Location("s3://bucket/root", local(tmp_path).storage)
    )
    assert machines_to_ask(nodes, "a", root) == []


def test_the_message_names_machines_and_the_way_out():
    blind = [(f"10.0.0.{n}", f"host-{n}") for n in (5, 2, 3, 4)]
    said = not_shared(Location("/srv/results", local("/").storage), blind)
    assert said.startswith("root=/srv/results is not shared by the machines of the cluster: ")
    assert "host-2 (10.0.0.2), host-3 (10.0.0.3), host-4 (10.0.0.4) and 1 more cannot see" in said
    assert "use s3://bucket/prefix" in said
