import pytest
import ray

from pipelines.session.tasks import TASK_BYTES, memory_for, task_memory

GB = 10**9


def set_machines(monkeypatch, memories, head=0):
    """Machines with a CPU, a head without one, and a machine that has died."""
    nodes = [{"Alive": True, "Resources": {"CPU": 4, "memory": memory}} for memory in memories]
    nodes.append({"Alive": True, "Resources": {"memory": head}})
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {}}])


@pytest.mark.parametrize(
    ("size", "machines", "expected"),
    [
        (0.1, [8 * GB], TASK_BYTES),
        (1, [8 * GB], TASK_BYTES),
        (4, [8 * GB, 2 * GB], 4 * TASK_BYTES),  # a terabyte of text in 4,096 parts
        (40, [8 * GB, 2 * GB], 8 * GB),  # else no machine would ever run it
        (1, [GB // 4], GB // 4),
        (4, [], 4 * TASK_BYTES),
    ],
)
def test_a_task_asks_for_memory_in_proportion_to_its_part(monkeypatch, size, machines, expected):
    set_machines(monkeypatch, machines)
    assert task_memory(size) == expected


def test_the_memory_of_a_head_without_cpus_is_no_room_for_a_task(monkeypatch):
    set_machines(monkeypatch, [2 * GB, 1 * GB], head=64 * GB)
    assert memory_for(8 * GB) == 2 * GB
