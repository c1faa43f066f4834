"""Check before a stage starts that the cluster has, or may grow to, the resources it needs.

Ray queues what it cannot place, without an end and nearly without a word: an actor that never
starts looks like a slow one. So each stage counts first. What does not fit is spread over fewer
workers, which no result depends on, and said; what cannot be spread is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import le
from typing import Literal, NamedTuple

import ray

from lightsans.config import ResourcesConfig, RunConfig
from lightsans.errors import ResourceError
from lightsans.storage.location import locate
from pipelines.console.progress import say
from pipelines.session.shared_root import require_shared
from pipelines.session.tasks import TASK_BYTES
from pipelines.session.waiting import tell_while

Stage = Literal["preprocess", "train", "tune", "evaluate", "score"]

EXCHANGE_MEMORY = 512 << 20
"""Logical memory that one task of the exchange by user may ask for: two to three times its input,
which is cut at 64 MiB, and some room for an uneven partition."""


class Node(NamedTuple):
    """Resources that one machine offers to Ray."""

    cpus: float
    gpus: float
    memory: float
    """Logical memory in bytes."""

    def is_met(self, nodes: "Sequence[Node]") -> bool:
        """Whether a machine offers at least this."""
        return any(all(map(le, self, node)) for node in nodes)

    def __str__(self) -> str:
        """Name what is asked for: ``1 CPU and 448 MiB of Ray's logical memory``."""
        words = [f"{self.cpus:g} CPU"] if self.cpus else []
        words += [f"{self.gpus:g} GPU"] if self.gpus else []
        words += [f"{int(self.memory) >> 20} MiB of Ray's logical memory"] if self.memory else []
        return " and ".join(words)


@dataclass(frozen=True, slots=True)
class Plan:
    """The configuration to run with, and what to tell about it."""

    config: RunConfig
    notes: tuple[str, ...] = ()


def preflight(stage: Stage, config: RunConfig, memory: int = 0) -> RunConfig:
    """The configuration that fits the connected cluster; says what it changed.

    Args:
        stage: Stage that is about to run.
        config: The run.
        memory: See `plan`.

    Raises:
        ResourceError: The stage could never run here.
        ConfigError: The root is a directory that a machine of the cluster does not share.
    """
    require_shared(locate(config.root, config.storage))
    planned = plan(stage, config, _nodes(), memory)
    for note in planned.notes:
        say(note)
    need = _need(stage, planned.config, memory)
    # A machine that is there already decides how much memory is asked for: `memory_for`.
    if not need._replace(memory=0).is_met(_nodes()):
        say_what_it_waits_for(stage, need, _connected_nodes)
    return planned.config


def say_what_it_waits_for(
    stage: Stage, need: Node, look: Callable[[], Sequence[Node] | None]
) -> None:
    """Say once a minute which machine a stage waits for, until there is one.

    Ray starts none that does not suit, and says so in its own logs alone.

    Args:
        stage: Stage that is about to run.
        need: The least that a machine must offer.
        look: Machines that there are; None once nobody is connected any more.
    """

    def lasts() -> bool:
        nodes = look()
        return nodes is not None and not need.is_met(nodes)

    def text(seconds: float) -> str:
        return (
            f"{stage}: waiting for a machine with {need}; none has come in {seconds:.0f} s. Where "
            "none comes, `ray status` says why; with a provider of your own, a group is started "
            "for such work only if its `resources` name all of that, `memory` in bytes"
        )

    tell_while(lasts, text, "waiting for a machine")


def _connected_nodes() -> list[Node] | None:
    return _nodes() if ray.is_initialized() else None


def _need(stage: Stage, config: RunConfig, memory: int) -> Node:
    """The least that a machine must offer, so that the stage begins."""
    if stage in ("train", "tune"):
        return Node(0, 1, 0) if config.train.use_gpu else Node(1, 0, 0)
    if stage == "preprocess":
        return Node(1, 0, TASK_BYTES)
    return Node(1, int(config.score.use_gpu), memory)


def train_places(config: RunConfig) -> int:
    """Number of train workers that fit the connected cluster, once it has grown."""
    return _train_places(config, _nodes())


def _nodes() -> list[Node]:
    listed = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [node["Resources"] for node in listed if node["Alive"]]
    return [Node(r.get("CPU", 0), r.get("GPU", 0), r.get("memory", 0)) for r in alive]


def _train_places(config: RunConfig, nodes: Sequence[Node]) -> int:
    per_worker = (0, 1) if config.train.use_gpu else (1, 0)
    return _count_places(*per_worker, nodes, config.resources)


def plan(stage: Stage, config: RunConfig, nodes: Sequence[Node], memory: int = 0) -> Plan:
    """Fit a stage to a cluster.

    A train worker takes one CPU or one GPU, and nothing else in training takes any: workers read
    their own files. A trial of tune takes what its workers take. An actor of score or evaluate
    takes one CPU and, with ``score.use_gpu``, one GPU of the same machine. The tasks of preprocess
    take one CPU each, one after the other if need be, and memory, as actors of evaluate do.

    Args:
        stage: Stage that is about to run.
        config: Its ``resources`` say how far the cluster may grow.
        nodes: The machines there are now.
        memory: Bytes that an actor of evaluate needs; none asks for more than the largest machine
            has.

    Raises:
        ResourceError: Not even one worker fits.
    """
    if stage == "preprocess":
        _require_place(stage, _count_places(1, 0, nodes, config.resources), config, False)
        _require_memory(config, nodes)
        return Plan(config)
    if stage in ("train", "tune"):
        train = (
            config.train
        )  # of a trial, too: `pipelines.tune.stage` puts its tune.num_workers here
        places = _train_places(config, nodes)
        _require_place(stage, places, config, train.use_gpu)
        if places >= train.least_workers:  # between least and most, Ray Train takes what there is
            return Plan(config)
        smaller = replace(config, train=replace(train, num_workers=places))
        return Plan(smaller, (_note(stage, stage, train.least_workers, places) + _effect(config),))
    score = config.score
    places = _count_places(1, int(score.use_gpu), nodes, config.resources, memory)
    if not places and _count_places(1, int(score.use_gpu), nodes, config.resources):
        raise ResourceError(
            f"{stage} needs {memory >> 20} MiB of Ray's logical memory on a machine with 1 CPU"
            f"{' and 1 GPU' if score.use_gpu else ''}; start Ray there with a larger --memory, or "
            "lower evaluate.counted_interactions"
        )
    _require_place(stage, places, config, score.use_gpu)
    if places >= score.num_workers:
        return Plan(config)
    least = min(score.min_workers, places)
    smaller = replace(config, score=replace(score, num_workers=places, min_workers=least))
    return Plan(
        smaller, (_note(stage, "score", score.num_workers, places) + "; results stay the same",)
    )


def _count_places(
    cpus: int, gpus: int, nodes: Sequence[Node], growth: ResourcesConfig, memory: int = 0
) -> int:
    """Number of workers of one shape that fit today's machines, or once the cluster has grown.

    The memory of machines to come is not known.
    """
    # As `pipelines.session.tasks.memory_for` asks.
    most = max((node.memory for node in nodes if node.cpus >= 1), default=0)
    asked = min(memory, most)
    today = 0
    for node in nodes:
        fitting = _fit(cpus, gpus, node.cpus, node.gpus)
        today += min(fitting, int(node.memory // asked)) if asked else fitting
    all_cpus = sum(node.cpus for node in nodes)
    all_gpus = sum(node.gpus for node in nodes)
    grown_cpus = all_cpus if growth.max_cpus is None else growth.max_cpus
    grown_gpus = all_gpus if growth.max_gpus is None else growth.max_gpus
    if growth.max_cpus is None and growth.max_gpus is None:
        return today
    return max(today, _fit(cpus, gpus, grown_cpus, grown_gpus))


def _fit(cpus: int, gpus: int, free_cpus: float, free_gpus: float) -> int:
    by_cpu = [int(free_cpus // cpus)] if cpus else []
    by_gpu = [int(free_gpus // gpus)] if gpus else []
    return min(by_cpu + by_gpu)


def _require_place(stage: Stage, places: int, config: RunConfig, use_gpu: bool) -> None:
    if places:
        return
    trains = stage in ("train", "tune")
    section = "train" if trains else "score"
    need = "1 CPU"
    way_out = "start the cluster with CPUs, or unset RAY_ADDRESS to run on this machine"
    grows = "resources.max_cpus"
    if use_gpu:
        need = "1 GPU" if trains else "1 GPU and 1 CPU on one machine"
        need += f" ({section}.use_gpu is true)"
        way_out = f"set {section}.use_gpu=false, or add a machine with a GPU"
        grows = "resources.max_gpus"
    limits = [f"resources.{k}={v}" for k, v in _limits(config.resources).items() if v is not None]
    growth = f", even when grown to {' and '.join(limits)}" if limits else ""
    raise ResourceError(
        f"{stage} needs at least {need}, which the cluster does not have{growth}; {way_out}. If "
        f"it grows on demand, say how far: {grows} (profile=autoscaling does)"
    )


def _limits(resources: ResourcesConfig) -> dict[str, int | None]:
    return {"max_cpus": resources.max_cpus, "max_gpus": resources.max_gpus}


def _require_memory(config: RunConfig, nodes: Sequence[Node]) -> None:
    """Machines that will come are not known; only today's can be too small."""
    if config.resources.max_cpus is not None:
        return
    largest = max(node.memory for node in nodes if node.cpus >= 1)
    if largest < EXCHANGE_MEMORY:
        raise ResourceError(
            f"preprocess needs {EXCHANGE_MEMORY >> 20} MiB of Ray's logical memory on one machine; "
            f"the largest has {int(largest) >> 20} MiB: start Ray with a larger --memory, or on a "
            "larger machine"
        )


def _note(stage: Stage, section: str, asked: int, places: int) -> str:
    what = "worker" if places == 1 else "workers"
    return (
        f"{stage}: {places} {what} instead of {section}.num_workers={asked}, as many as the "
        "cluster has room for"
    )


def _effect(config: RunConfig) -> str:
    """The effect of another number of workers on what is trained."""
    model = config.model
    if model.hidden_dropout_prob == model.attn_dropout_prob == 0:
        return "; results stay the same, but for float error"
    return (
        "; every worker draws dropout masks of its own, so weights differ from those of another "
        "number of workers as those of another seed do"
    )
