import threading

import pytest

from lightsans.config.file import parse_config
from lightsans.errors import ConfigError, ResourceError
from pipelines.session import waiting
from pipelines.session.preflight import Node, plan, say_what_it_waits_for

GIB = 2**30
STAGES = ("preprocess", "train", "tune", "evaluate", "score")


def config(*overrides):
    return parse_config("", "debug.yaml", overrides).config


def nodes(*cpus_and_gpus, memory=4 * GIB):
    return [Node(cpus, gpus, memory) for cpus, gpus in cpus_and_gpus]


def workers(planned):
    return planned.config.train.num_workers, planned.config.score.num_workers


@pytest.mark.parametrize("stage", STAGES)
def test_a_cluster_with_room_changes_nothing_and_says_nothing(stage):
    planned = plan(stage, config(), nodes((4, 0)))
    assert planned.config == config()
    assert planned.notes == ()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("cpus", [1, 2, 3])
def test_two_workers_fit_on_two_cpus_and_become_one_on_a_single_cpu(stage, cpus):
    """Fewer of a stage's own workers, that is, and it says so; preprocess has none."""
    planned = plan(stage, config("train.num_workers=2", "score.num_workers=2"), nodes((cpus, 0)))
    shrunk = {"train": (1, 2), "tune": (1, 2), "evaluate": (2, 1), "score": (2, 1)}
    expected = shrunk.get(stage, (2, 2)) if cpus == 1 else (2, 2)
    assert workers(planned) == expected
    assert len(planned.notes) == (expected != (2, 2))


def test_training_takes_as_many_workers_as_there_are_cpus_and_says_so():
    planned = plan("train", config("train.num_workers=8"), nodes((2, 0), (1, 0)))
    assert workers(planned) == (3, 2)
    (note,) = planned.notes
    assert note.startswith("train: 3 workers instead of train.num_workers=8")
    assert "every worker draws dropout masks of its own, so weights differ" in note


def test_without_dropout_another_number_of_workers_trains_the_same():
    without = config(
        "train.num_workers=8", "model.hidden_dropout_prob=0", "model.attn_dropout_prob=0"
    )
    (note,) = plan("train", without, nodes((2, 0))).notes
    assert note.endswith("results stay the same, but for float error")


def test_the_workers_of_a_trial_are_told_by_the_setting_of_tune():
    (note,) = plan("tune", config("train.num_workers=4"), nodes((3, 0))).notes
    assert note.startswith("tune: 3 workers instead of tune.num_workers=4")


def test_scoring_takes_as_many_actors_as_there_are_cpus_and_says_so():
    planned = plan("score", config("score.num_workers=8"), nodes((1, 0)))
    assert workers(planned) == (2, 1)
    assert planned.notes[0].startswith("score: 1 worker instead of score.num_workers=8")


def test_the_least_number_of_actors_never_exceeds_what_there_is_room_for():
    asked = config("score.num_workers=8", "score.min_workers=4")
    assert plan("score", asked, nodes((2, 0))).config.score.min_workers == 2
    assert plan("score", asked, nodes((6, 0))).config.score.min_workers == 4


def test_a_gpu_worker_of_training_takes_a_gpu_and_no_cpu():
    gpu = config("train.num_workers=4", "train.use_gpu=true")
    assert workers(plan("train", gpu, nodes((0, 3))))[0] == 3


def test_a_gpu_actor_of_scoring_needs_a_cpu_on_the_machine_of_its_gpu():
    """Two GPUs beside one CPU give one place, and so does a machine with both; CPUs alone none."""
    gpu = config("score.num_workers=4", "score.use_gpu=true")
    assert workers(plan("score", gpu, nodes((1, 2), (1, 1), (16, 0))))[1] == 2
    with pytest.raises(ResourceError, match="1 GPU and 1 CPU on one machine"):
        plan("score", gpu, nodes((0, 2), (16, 0)))


def test_half_a_cpu_is_no_place():
    assert workers(plan("train", config("train.num_workers=4"), nodes((1.5, 0), (2.5, 0))))[0] == 3


@pytest.mark.parametrize("stage", STAGES)
def test_a_cluster_without_cpus_is_refused_with_a_way_out(stage):
    with pytest.raises(ResourceError) as caught:
        plan(stage, config(), nodes((0, 0)))
    message = str(caught.value)
    assert message.startswith(f"{stage} needs at least 1 CPU, which the cluster does not have")
    assert "resources.max_cpus" in message


@pytest.mark.parametrize(
    ("stage", "section"), [("train", "train"), ("tune", "train"), ("score", "score")]
)
def test_a_cluster_without_gpus_is_refused_with_the_setting_that_asks_for_them(stage, section):
    with pytest.raises(ResourceError) as caught:
        plan(stage, config(f"{section}.use_gpu=true"), nodes((16, 0)))
    assert f"({section}.use_gpu is true)" in str(caught.value)
    assert f"set {section}.use_gpu=false" in str(caught.value)


def test_what_the_cluster_may_grow_to_counts():
    growing = config("train.num_workers=8", "resources.max_cpus=6")
    assert workers(plan("train", growing, nodes((0, 0))))[0] == 6
    gpu = config("score.num_workers=8", "score.use_gpu=true", "resources.max_gpus=3")
    assert workers(plan("score", gpu, nodes((16, 0))))[1] == 3


def test_a_cluster_that_has_more_than_it_may_grow_to_is_taken_as_it_is():
    growing = config("train.num_workers=8", "resources.max_cpus=2")
    assert workers(plan("train", growing, nodes((8, 0))))[0] == 8


def test_a_limit_that_is_too_low_is_named():
    with pytest.raises(ResourceError, match=r"even when grown to resources\.max_gpus=0"):
        plan("train", config("train.use_gpu=true", "resources.max_gpus=0"), nodes((4, 0)))


def test_preprocessing_needs_room_for_a_task_of_the_exchange():
    with pytest.raises(
        ResourceError, match=r"512 MiB of Ray's logical memory.*the largest has 200"
    ):
        plan("preprocess", config(), nodes((4, 0), memory=200 * 2**20))
    plan("train", config(), nodes((4, 0), memory=200 * 2**20))  # asks Ray for none


def test_it_is_an_error_of_configuration():
    assert issubclass(ResourceError, ConfigError)  # submit.py ends those with exit status 2


def test_actors_of_an_evaluation_are_as_many_as_there_is_memory_for():
    asked = config("score.num_workers=8")
    machines = nodes((8, 0), (8, 0), memory=5 * GIB)
    planned = plan("evaluate", asked, machines, memory=2 * GIB)
    assert workers(planned)[1] == 4  # two on each
    assert planned.notes[0].startswith("evaluate: 4 workers instead of score.num_workers=8")
    assert workers(plan("evaluate", asked, machines, memory=64 * GIB))[1] == 2  # all of a machine
    head = Node(0, 0, 64 * GIB)
    assert workers(plan("evaluate", asked, [head, *machines], memory=64 * GIB))[1] == 2


def test_a_gpu_beside_too_little_memory_is_told_from_no_gpu():
    gpu = config("score.use_gpu=true")
    machines = [Node(8, 0, 64 * GIB), Node(8, 1, 4 * GIB)]
    with pytest.raises(ResourceError, match=r"needs 8192 MiB .*lower evaluate\.counted_inter"):
        plan("evaluate", gpu, machines, memory=8 * GIB)


def test_a_machine_that_does_not_come_is_named_with_all_that_it_must_offer(monkeypatch, capsys):
    """A group without memory is never started for a task that asks for memory."""
    monkeypatch.setattr(waiting, "POLL_S", 0.0)
    monkeypatch.setattr(waiting, "TELL_EVERY_S", 0.0)
    need, head, suited = Node(1, 0, 448 << 20), Node(0, 0, 9e9), Node(1, 0, 448 << 20)
    looks = iter([[head], [head, Node(1, 0, 1e6)], [head, suited]])
    say_what_it_waits_for("preprocess", need, lambda: next(looks))
    for thread in threading.enumerate():
        if thread.name == "waiting for a machine":
            thread.join(20)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "preprocess: waiting for a machine with 1 CPU and 448 MiB of Ray's logical memory; none "
        "has come in 0 s."
    )
    assert "`memory` in bytes" in lines[0]
    assert str(Node(1, 1, 0)) == "1 CPU and 1 GPU"
