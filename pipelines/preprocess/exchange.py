"""Exchange rows between the tasks that read units and those that write parts.

Small inputs are exchanged by plain tasks, larger ones by the shuffle of Ray Data: see
`is_exchanged_by_tasks`.
"""

import itertools
import pickle
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import pyarrow as pa
import ray

from lightsans.preparation.packing import PART
from lightsans.reading.units import ReadPlan, ReadUnit
from pipelines.preprocess.identity import Source, num_pieces
from pipelines.session.cpus import usable_cpus
from pipelines.session.ray_session import configure_ray_data, iterate_tables
from pipelines.session.tasks import Ref, remote, task_memory

Read = Callable[[pa.Table], Iterator[pa.Table]]
"""A table of pickled units -> packed rows, stretch by stretch."""
Write = Callable[[pa.Table], pa.Table]
"""All packed rows of some parts -> what is noted of them."""

_FEW_PIECES = 128
"""Inputs up to this size are exchanged by tasks: about 130 million rows."""
_FEW_OBJECTS = 2**12
"""Most objects of such an exchange, one for each piece and writer. Ray keeps those of up to 100 KB,
which only smaller inputs have, in the memory of the driver."""
GATHERED_BYTES = 64 * 2**20
"""Packed rows that a task gathers before it cuts them by writer: about a piece."""
_STRETCH_BYTES, _ROW_BYTES = 2048, 8
"""A packed stretch takes this much for each of its parts, and a row of text at least so much."""


def is_exchanged_by_tasks(plan: ReadPlan, source: Source, num_parts: int, num_writers: int) -> bool:
    """Whether the driver can keep count of what every task has read for every writer."""
    # Rows take about as much packed as in text. What a small file has for a part takes far more.
    slices = [piece for unit in plan.units for piece in unit.slices]
    stretches = sum(min(num_parts, -(-piece.num_bytes // _ROW_BYTES)) for piece in slices)
    pieces = num_pieces(source.files, source.data) + stretches * _STRETCH_BYTES // GATHERED_BYTES
    pieces += len(plan.units)  # what is left of each
    return pieces <= _FEW_PIECES and pieces * num_writers <= _FEW_OBJECTS


def exchange_by_shuffle(
    units: Sequence[ReadUnit], read: Read, write: Write, num_writers: int, size: float
) -> Iterator[pa.Table]:
    """Exchange rows by Ray Data; yield the result of ``write`` for each partition."""
    import ray.data  # takes .4 s, which the tasks of other steps are spared
    from ray.data import ExecutionResources

    configure_ray_data()
    items = [{"unit": pickle.dumps(unit)} for unit in units]
    data = ray.data.from_items(items, override_num_blocks=len(items))
    limits = ExecutionResources.for_limits(cpu=usable_cpus())
    data.context.execution_options.resource_limits = limits
    rows = data.map_batches(read, batch_size=None, batch_format="pyarrow", memory=task_memory())
    parts = rows.repartition(num_writers, keys=[PART])
    # Parts of the usual size need no more than Ray Data reckons with by itself.
    memory = task_memory(size) if size > 1 else None
    written = parts.map_batches(write, batch_size=None, batch_format="pyarrow", memory=memory)
    return iterate_tables(written)


def exchange_by_tasks(
    units: Sequence[ReadUnit], read: Read, write: Write, num_writers: int, size: float
) -> Generator[pa.Table, None, None]:
    """The same by plain tasks: the processes that read also write, and go on with later steps.

    Ray Data would start processes of their own for either side of its shuffle, and keep cores for
    them. What a task reads goes to the object store, cut by writer. The first task that fails ends
    the others, and so does whoever asks for no more tables.
    """

    def read_one(pickled: bytes) -> Iterator[pa.Table]:
        yield from cut_by_writer(read(pa.table({"unit": [pickled]})), num_writers)

    def write_some(*packed: pa.Table) -> pa.Table:
        return write(pa.concat_tables(packed))

    reader = remote(read_one, num_returns="streaming")
    writer = remote(write_some, size=size)
    at_work = [reader.remote(pickle.dumps(unit)) for unit in units]
    try:
        packed = _wait_for_all(at_work)
        at_work = [
            writer.remote(*itertools.chain(*(tables[number::num_writers] for tables in packed)))
            for number in range(num_writers)
        ]
        del packed  # what a writer is done with leaves the object store
        while at_work:
            [ready], at_work = ray.wait(at_work, num_returns=1)
            table: pa.Table = ray.get(ready)
            yield table
    except BaseException:
        for task in at_work:
            ray.cancel(task)
        raise


def _wait_for_all(reading: Sequence[Ref]) -> list[list[Ref]]:
    """Tables that each task has yielded, once all have ended; raises what the first one raised."""
    numbers = {task.completed(): number for number, task in enumerate(reading)}
    waiting, packed = list(numbers), [list[Ref]() for _ in reading]
    while waiting:
        [ready], waiting = ray.wait(waiting, num_returns=1)
        number = numbers[ready]
        packed[number] = list(reading[number])
        ray.get(packed[number][-1])  # the error, if any: no part is written without its rows
    return packed


def cut_by_writer(stretches: Iterable[pa.Table], num_writers: int) -> Iterator[pa.Table]:
    """Cut packed rows by writer: a table for each in turn, and again after `GATHERED_BYTES`.

    Every small file is a stretch of its own. Their order does not matter: rows know their place.
    """
    for packed in _gather(stretches):
        writers = packed[PART].to_numpy() % num_writers
        for number in range(num_writers):
            yield packed.filter(pa.array(writers == number))


def _gather(stretches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    gathered, size = list[pa.Table](), 0
    for stretch in stretches:
        gathered.append(stretch)
        size += stretch.nbytes
        if size >= GATHERED_BYTES:
            whole, size = pa.concat_tables(gathered).combine_chunks(), 0
            gathered.clear()  # else they would stay while the whole is cut
            yield whole
    if gathered:
        yield pa.concat_tables(gathered).combine_chunks()
