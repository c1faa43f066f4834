import pytest
import ray

from pipelines.session.tasks import TASK_BYTES, task_memory

GB = 10**9


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
    nodes = [{"Alive": True, "Resources": {"memory": memory}} for memory in machines]
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {}}])
    assert task_memory(size) == expected
