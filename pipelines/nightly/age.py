"""The newest row of a log before a night."""

from datetime import datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.times import to_datetime
from lightsans.preparation.part_files import load_interactions
from lightsans.storage.location import Location
from pipelines.preprocess.parts import Part, largest, read_marker
from pipelines.session.ray_session import ensure_ray
from pipelines.session.tasks import remote, run_tasks


def newest_before(dataset: Location, night: datetime) -> datetime | None:
    """Time of the newest row before a night; None where there is none.

    Only parts with later rows are read: the others' newest time is noted.
    """
    end = round(night.timestamp() * 1e6)
    notes = read_marker(dataset).parts
    found = [note.newest for note in notes if note.newest < end]
    mixed = [Part.of(note) for note in notes if note.newest >= end > note.oldest]
    if mixed:
        ensure_ray()
        look = remote(partial(_newest_of_part, dataset, end), size=largest(mixed))
        found += run_tasks(look.remote, mixed, "nightly: newest row")
    return to_datetime(max(found)) if found else None


def _newest_of_part(dataset: Location, end: int, part: Part) -> int:
    tables = [load_interactions(file, ["timestamp"]) for file in part.files(dataset)]
    times = pa.concat_tables(tables)["timestamp"]
    return int(pc.max(times.filter(pc.less(times, end))).as_py())
