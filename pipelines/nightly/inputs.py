"""The listing of a date: a night that is repeated reads the files that it read at first.

    reports/nightly-<date>.inputs.json    patterns, and the files that they stood for

Without it, a file that arrives after the night would make another dataset of the same date, though
all its rows may lie after that date.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from lightsans.config import RunConfig
from lightsans.storage.listing import list_inputs
from lightsans.storage.location import Location
from pipelines.console.progress import say


def report_name(as_of: str, moment: datetime) -> str:
    """The date of a night in file names: as it was given where no offset was.

    Args:
        as_of: The date or time that was given, in ``data.timezone`` unless it says otherwise.
        moment: The same in UTC.
    """
    given = moment
    try:
        parsed = datetime.fromisoformat(as_of.strip())
    except ValueError:  # a form that only the reader of logs understands
        pass
    else:
        given = parsed if parsed.tzinfo is None else moment
    is_midnight = given.time() == datetime.min.time()
    return given.strftime("%Y-%m-%d" if is_midnight else "%Y-%m-%dT%H%M%S")


def pin_inputs(config: RunConfig, remembered: Location, moment: datetime) -> RunConfig:
    """The configuration, which reads the files that this night read when it first ran.

    Args:
        config: The run.
        remembered: Where the listing is kept.
        moment: Date of the night.

    Raises:
        InputError: A pattern matches nothing, or a file of the listing is gone.
    """
    patterns = list(config.data.input)
    listed = list_inputs(patterns, config.storage).files
    uris = [file.location.uri for file in listed]
    question = {"input": patterns, "as_of": moment.isoformat()}
    before = _read(remembered)
    if before is None or {name: before.get(name) for name in question} != question:
        files = [[file.location.uri, file.size, file.etag] for file in listed]
        remembered.write_json({**question, "files": files})
        return config
    pinned = [str(file[0]) for file in before["files"]]
    if pinned == uris:
        return config
    new = sorted(set(uris) - set(pinned))
    say(
        f"nightly: reads the {len(pinned)} files of its first attempt ({remembered}); {len(new)} "
        + (f"more, such as {new[0]}, are left out; " if new else "more are there; ")
        + "remove that file to read what is there now"
    )
    return replace(config, data=replace(config.data, input=tuple(pinned)))


def _read(remembered: Location) -> dict[str, Any] | None:
    try:
        return remembered.read_json()
    except FileNotFoundError:
        return None
