"""The erased users of a root.

    erased/users.parquet    digest: keyed hashes of their ids; the key, and buckets, in its footer
    erased/erasures.json    results that were replaced, and models that learnt from erased users

Logs still hold erased users, so every dataset that is made later leaves them out by these hashes.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from lightsans.columns.erased import DIGEST, ErasedUsers
from lightsans.storage.location import Location
from lightsans.storage.records import from_json, to_json

ERASED = "erased"
_USERS, _ERASURES = "users.parquet", "erasures.json"
_KEY, _BUCKETS = b"lightsans.key", b"lightsans.buckets"
_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Erasures:
    """Consequences of all erasures of a root so far."""

    replaced: Mapping[str, str] = field(default_factory=dict)
    """Ids of the results that took the place of others, by the id of these; empty where nothing
    was left."""
    models: Mapping[str, str] = field(default_factory=dict)
    """The reason why a model counts as one that has learnt from erased users, by its id."""

    def current(self, result_id: str) -> str:
        """Id of the result that stands for another one now."""
        seen = {result_id}
        while (following := self.replaced.get(result_id)) and following not in seen:
            seen.add(result_id := following)
        return result_id


def read_erased(root: Location) -> ErasedUsers | None:
    """The erased users of a root; None where nobody was erased.

    Raises:
        InputError: The file is damaged.
    """
    try:
        table = (root / ERASED / _USERS).read_table()
    except FileNotFoundError:
        return None
    metadata = table.schema.metadata
    digests = table["digest"].combine_chunks().cast(DIGEST)
    return (
        ErasedUsers(metadata[_KEY], digests, json.loads(metadata[_BUCKETS]))
        if len(digests)
        else None
    )


def nobody_erased() -> ErasedUsers:
    """The erased users of a root before the first: nobody, with a new key."""
    return ErasedUsers(secrets.token_bytes(_KEY_BYTES), pa.array([], DIGEST), [])


def write_erased(root: Location, users: ErasedUsers) -> None:
    """Write the erased users of a root, all of them."""
    metadata = {_KEY: users.key, _BUCKETS: json.dumps(list(users.buckets)).encode()}
    table = pa.table({"digest": users.digests}).replace_schema_metadata(metadata)
    (root / ERASED / _USERS).write_table(table)


def share_erased(root: Location, other: Location) -> None:
    """Give another root, a backtest's for example, the erased users of this one."""
    users, theirs = read_erased(root), read_erased(other)
    if users is not None and (theirs is None or theirs.fingerprint != users.fingerprint):
        write_erased(other, users)


def read_erasures(root: Location) -> Erasures:
    """Consequences of the erasures of a root so far.

    Raises:
        InputError: The file is damaged.
    """
    file = root / ERASED / _ERASURES
    try:
        return from_json(Erasures, file.read_json(), str(file))
    except FileNotFoundError:
        return Erasures()


def write_erasures(root: Location, erasures: Erasures) -> None:
    """Write consequences of the erasures of a root, all of them."""
    (root / ERASED / _ERASURES).write_json(to_json(erasures))
