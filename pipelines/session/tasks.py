"""Tasks over the parts of a dataset: a few at a time, results as they finish or merged into one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
import ray

from pipelines.console.progress import bar
from pipelines.session.cpus import cpus_per_task, set_torch_threads, usable_cpus
from pipelines.session.ray_session import original_errors

_RETRIES = 8
"""Times that a task is run again after its worker or node was lost."""
TASK_BYTES = 448 * 2**20
"""Memory of a task on a part of the usual size, or one that reads: its process and its columns."""
_WAITING_PER_CPU = 4
"""Tasks submitted at a time: enough to keep every CPU busy, few enough to look after."""
FAN_IN = 8
"""Objects that one task merges."""

Ref = Any
"""``ray.ObjectRef``, whose type says nothing of several returns."""


def remote(
    function: Callable[..., Any],
    num_returns: int | Literal["streaming"] = 1,
    size: float = 1.0,
) -> Any:
    """A function, which may be a partial one, as a Ray task that survives the loss of workers.

    Args:
        function: Work of the task.
        num_returns: Objects that it returns; ``streaming`` for those that it yields.
        size: See `task_memory`.
    """

    def call(*arguments: Any) -> Any:  # Ray takes nothing but plain functions
        return function(*arguments)

    def stream(*arguments: Any) -> Iterator[Any]:
        yield from function(*arguments)

    call = stream if num_returns == "streaming" else call
    call.__name__ = call.__qualname__ = getattr(function, "func", function).__name__
    return ray.remote(call).options(
        num_returns=num_returns,
        max_retries=_RETRIES,
        memory=task_memory(size),
        num_cpus=cpus_per_task(),
    )


def task_memory(size: float = 1.0) -> int:
    """Logical memory that a task asks for: `TASK_BYTES` or more, at most the largest machine's.

    Ray runs no more tasks on a machine than its logical memory has room for.

    Args:
        size: Size of the part that the task works on; 1 is the usual one. Smaller ones ask for as
            much: the process takes most of it.
    """
    return memory_for(TASK_BYTES * max(1.0, size))


def memory_for(wanted: float) -> int:
    """Logical memory to ask for: what is wanted, at most that of the largest machine with a CPU."""
    listed = ray.nodes()  # type: ignore[no-untyped-call]
    machines = [node["Resources"] for node in listed if node["Alive"]]
    found = [machine.get("memory", 0) for machine in machines if machine.get("CPU", 0) >= 1]
    return int(min(wanted, max(found, default=wanted) or wanted))


def run_tasks(submit: Callable[[Any], Ref], arguments: Sequence[Any], title: str) -> Iterator[Any]:
    """Yield the result of ``submit(argument)`` for each argument, as tasks finish.

    The first task that fails ends the others, and so does whoever asks for no more results.
    """
    limit = _WAITING_PER_CPU * usable_cpus()
    left, waiting = list(reversed(arguments)), set[Ref]()
    with bar(title, len(arguments)) as progress, original_errors():
        try:
            while left or waiting:
                while left and len(waiting) < limit:
                    waiting.add(submit(left.pop()))
                [ready], _ = ray.wait(list(waiting), num_returns=1)
                waiting.discard(ready)
                result = ray.get(ready)
                progress.advance()
                yield result
        except BaseException:
            for task in waiting:
                ray.cancel(task)
            raise


class MergeTree:
    """One object out of many: ``merge.remote(*objects)`` on up to `FAN_IN` of them at a time.

    The driver holds none. They may be added before they are made. References to merged ones are
    dropped, so that Ray frees them.

    Args:
        merge: A Ray task that takes one or more objects.
    """

    def __init__(self, merge: Any) -> None:
        self._merge = merge
        self._levels: list[list[Ref]] = []

    def add(self, ref: Ref) -> None:
        """Take one more object."""
        self._add(ref, 0)

    def root(self) -> Ref:
        """The merge of all objects; at least one was added."""
        left: list[Ref] = []
        for level in self._levels:
            level += left
            left = [self._merge.remote(*level)] if len(level) > 1 else level
        return left[0]

    def _add(self, ref: Ref, level: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(ref)
        if len(self._levels[level]) == FAN_IN:
            merged = self._merge.remote(*self._levels[level])
            self._levels[level] = []
            self._add(merged, level + 1)


def merge_all(merge: Any, refs: Iterable[Ref]) -> Ref:
    """The merge of all objects, of which there is at least one."""
    tree = MergeTree(merge)
    for ref in refs:
        tree.add(ref)
    return tree.root()


def run_in_one_task(
    make: Callable[..., Callable[[pa.Table], pa.Table]],
    arguments: Sequence[Any],
    rows: Sequence[dict[str, Any]],
    memory: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows that a pool of one actor would give, in order, without the seconds that a pool takes.

    One task on one CPU does all of it, in a process that earlier tasks have left. It is run again,
    from its first row, after its worker or node was lost.

    Args:
        make: Class, or function, whose result takes a table of one row and returns one.
        arguments: Arguments of ``make``.
        rows: Input of each call.
        memory: Logical memory to ask for in bytes; None for none.
    """
    task = _one_by_one.options(num_returns="streaming", max_retries=_RETRIES, memory=memory)
    results: Any = task.remote(make, tuple(arguments), list(rows))  # Ray's types miss generators
    for found in results:
        yield from ray.get(found)


@ray.remote(num_cpus=1)
def _one_by_one(
    make: Callable[..., Callable[[pa.Table], pa.Table]],
    arguments: tuple[Any, ...],
    rows: list[dict[str, Any]],
) -> Iterator[list[dict[str, Any]]]:
    set_torch_threads()
    work = make(*arguments)
    for row in rows:
        yield work(pa.Table.from_pylist([row])).to_pylist()
