import os

import pytest
import ray
import torch

from pipelines.session import cpus
from pipelines.session.cpus import cpus_per_task, machine_cpus, set_torch_threads, usable_cpus

VERSION_1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A host of 64 CPUs, all of them ours, and the directory of a container's limits."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(cpus, "CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"cpu.max": "200000 100000\n"}, 2),  # docker --cpus=2
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "20000 100000\n"}, 1),  # a fifth of one
        ({"cpu.max": "max 100000\n"}, 64),
        (dict(zip(VERSION_1, ("300000\n", "100000\n"), strict=True)), 3),
        (dict(zip(VERSION_1, ("-1\n", "100000\n"), strict=True)), 64),
        ({VERSION_1[0]: "300000\n"}, 64),
    ],
)
def test_a_container_has_as_many_cpus_as_its_quota(cgroup, files, expected):
    for name, text in files.items():
        (cgroup / name).parent.mkdir(exist_ok=True)
        (cgroup / name).write_text(text)
    assert machine_cpus() == expected


def test_cpus_that_affinity_denies_do_not_count(cgroup, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert machine_cpus() == 2


def test_a_machine_without_affinity_has_all_its_cpus(cgroup, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine_cpus() == 64


@pytest.mark.parametrize(("address", "usable", "per_task"), [("", 2, 8), ("10.0.0.1:6379", 16, 1)])
def test_tasks_of_an_embedded_ray_are_no_more_than_the_cpus_of_its_container(
    address, usable, per_task, cgroup, monkeypatch
):
    """A Ray of 16 logical CPUs. One that runs elsewhere has its own machines."""
    (cgroup / "cpu.max").write_text("200000 100000")
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16.0})
    assert (usable_cpus(), cpus_per_task()) == (usable, per_task)


@pytest.mark.parametrize(("given", "threads"), [("3", 3), (None, 1)])
def test_a_task_has_the_threads_that_ray_gives_it_though_torch_is_there(
    given, threads, monkeypatch
):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    try:
        torch.set_num_threads(2)
        set_torch_threads()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
