import pytest
import ray

from pipelines.session.tasks import (
    FAN_IN,
    TASK_BYTES,
    MergeTree,
    memory_for,
    merge_all,
    task_memory,
)

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


class Concatenate:
    """A merge that runs at once, as Ray's task would, and remembers its widths."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def remote(self, *lists: list[int]) -> list[int]:
        self.widths.append(len(lists))
        return sorted(n for each in lists for n in each)


@pytest.mark.parametrize("count", [1, 2, FAN_IN, FAN_IN + 1, FAN_IN**2 - 1, FAN_IN**2 + 3, 600])
def test_every_object_is_merged_once_and_few_at_a_time(count):
    merge = Concatenate()
    assert merge_all(merge, ([n] for n in range(count))) == list(range(count))
    assert all(1 < width < 2 * FAN_IN for width in merge.widths)


def test_full_groups_are_merged_while_objects_still_come():
    merge = Concatenate()
    tree = MergeTree(merge)
    for n in range(FAN_IN**2):
        tree.add([n])
    assert len(merge.widths) == FAN_IN + 1
    assert tree.root() == list(range(FAN_IN**2))
