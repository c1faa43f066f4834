"""Exchange rows between the tasks that read units and those that write parts.

Small inputs are exchanged by plain tasks, larger ones by the shuffle of Ray Data: see
`is_exchanged_by_tasks`.
"""

import itertools
import pickle
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import ray

from lightsans.preparation.packing import PART
from lightsans.reading.units import ReadPlan, ReadUnit
from pipelines.preprocess.identity import Source, num_pieces
from pipelines.session.merge_tree import Ref
from pipelines.session.ray_session import configure_ray_data, iterate_tables, usable_cpus
from pipelines.session.tasks import remote, task_memory

Read = Callable[[pa.Table], Iterator[pa.Table]]
"""A table of pickled units -> packed rows, stretch by stretch."""
Write = Callable[[pa.Table], pa.Table]
"""All packed rows of some parts -> what is noted of them."""

_FEW_PIECES = 128
"""Inputs up to this size are exchanged by tasks: about 130 million rows."""
_FEW_OBJECTS = 2**12
"""Most objects of such an exchange, one for each piece and writer. Ray keeps those of up to 100 KB,
which only smaller inputs have, in the memory of the driver."""


def is_exchanged_by_tasks(plan: ReadPlan, source: Source, num_writers: int) -> bool:
    """Whether the driver can keep count of what every task has read for every writer."""
    pieces = num_pieces(source.files, source.data) + len(plan.units)
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
) -> Iterator[pa.Table]:
    """The same by plain tasks: the processes that read also write, and go on with later steps.

    Ray Data would start processes of their own for either side of its shuffle, and keep cores for
    them. What a task reads goes to the object store stretch by stretch, cut by writer.
    """

    def read_one(pickled: bytes) -> Iterator[pa.Table]:
        for packed in read(pa.table({"unit": [pickled]})):
            writers = packed[PART].to_numpy() % num_writers
            for number in range(num_writers):
                yield packed.filter(pa.array(writers == number))

    def write_some(*packed: pa.Table) -> pa.Table:
        return write(pa.concat_tables(packed))

    reader = remote(read_one, num_returns="streaming")
    writer = remote(write_some, size=size)
    reading = [reader.remote(pickle.dumps(unit)) for unit in units]
    packed = list[list[Ref]]()
    try:
        for stretches in reading:
            packed.append(list(stretches))
            ray.get(packed[-1][-1])  # raises what a task did: no part is written without its rows
    except BaseException:
        for stretches in reading:
            ray.cancel(stretches)
        raise
    writing = [
        writer.remote(*itertools.chain(*(stretches[number::num_writers] for stretches in packed)))
        for number in range(num_writers)
    ]
    del packed, reading  # what a writer is done with leaves the object store
    while writing:
        [ready], writing = ray.wait(writing, num_returns=1)
        table: pa.Table = ray.get(ready)
        yield table
