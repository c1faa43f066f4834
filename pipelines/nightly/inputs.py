"""The listing of a date: a night that is repeated reads the files that it read at first.

    reports/nightly-<date>.inputs.json    patterns, and the files that they stood for

Without it, a file that arrives after the night would make another dataset of the same date, though
all its rows may lie after that date.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from lightsans.config import RunConfig
from lightsans.storage.location import Location
from lightsans.storage.records import from_json, to_json
from lightsans.warehouse.tables import list_log_inputs, pinned_inputs, tables_of
from pipelines.console.progress import say
from pipelines.operations.attempts import name_of_night


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
    return name_of_night(given)


@dataclass(frozen=True, kw_only=True, slots=True)
class NightInputs:
    """The files that a night read when it first ran."""

    input: tuple[str, ...]
    """The patterns of ``data.input``."""
    as_of: str
    """ISO time of the night."""
    files: tuple[tuple[str, int, str], ...]
    """Address, size and etag of each file."""
    addresses: tuple[str, ...] | None = None
    """Addresses that stand for the files, versions of tables included; None without tables."""


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
    listed = list_log_inputs(patterns, config.storage).files
    uris = [file.location.uri for file in listed]
    files = tuple((file.location.uri, file.size, file.etag) for file in listed)
    addresses = pinned_inputs(listed) if tables_of(listed) else None
    now = NightInputs(
        input=tuple(patterns), as_of=moment.isoformat(), files=files, addresses=addresses
    )
    before = _read(remembered)
    if before is None or (before.input, before.as_of) != (now.input, now.as_of):
        remembered.write_json(to_json(now))
        return config
    pinned = [uri for uri, _, _ in before.files]
    changed = sorted(
        uri for uri, *identity in before.files if uri in uris and (uri, *identity) not in files
    )
    if changed:
        say(
            f"WARNING: nightly: {len(changed)} files of the first attempt ({remembered}) changed "
            f"since, such as {changed[0]}: this is not the same data again"
        )
    if pinned == uris and before.addresses == now.addresses:
        return config
    again = tuple(pinned) if before.addresses is None else before.addresses
    new = sorted(set(uris) - set(pinned))
    say(
        f"nightly: reads the {len(pinned)} files of its first attempt ({remembered}); {len(new)} "
        + (f"more, such as {new[0]}, are left out; " if new else "more are there; ")
        + "remove that file to read what is there now"
    )
    return replace(config, data=replace(config.data, input=again))


def _read(remembered: Location) -> NightInputs | None:
    try:
        return from_json(NightInputs, remembered.read_json(), str(remembered))
    except FileNotFoundError:
        return None
