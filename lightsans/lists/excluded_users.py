"""Users that a dataset, or one that it was made from, has left out: hashes of their ids.

    datasets/<id>/excluded.parquet    user_hash, ascending; absent where nobody was left out

A list of users to leave out stands for years, and a dataset made from a base has no row of those
whom the base left out already. They are told from ids that were never there by this file, which
does not hold the ids themselves.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lightsans.arrays import UInt64
from lightsans.columns.hashing import hash_ids
from lightsans.lists.id_lists import IdList
from lightsans.storage.location import Location
from lightsans.storage.schemas import id_type

_FILE = "excluded.parquet"


@dataclass(frozen=True, slots=True)
class ExcludedIds:
    """Hashes of the users that were left out, ascending."""

    hashes: UInt64

    @classmethod
    def of(cls, dataset: Location) -> "ExcludedIds":
        """The users that a dataset has left out."""
        file = dataset / _FILE
        if not file.exists():
            return cls.none()
        return cls(file.read_table()["user_hash"].to_numpy())

    def known(self, listed: IdList, user_id_type: str) -> pa.Array:
        """The ids of a list, as the log has them, that were left out."""
        ids = listed.of_type(id_type(user_id_type))
        return ids.filter(pa.array(np.isin(hash_ids(ids.cast(pa.string())), self.hashes)))

    @classmethod
    def none(cls) -> "ExcludedIds":
        """Nobody."""
        return cls(np.array([], np.uint64))

    def with_users(self, ids: pa.Array | None) -> "ExcludedIds":
        """The ids and some more."""
        if ids is None:
            return self
        return ExcludedIds(np.union1d(self.hashes, hash_ids(ids.cast(pa.string()))))

    def save(self, dataset: Location) -> None:
        """Write the file of a dataset, if there is anybody."""
        if len(self.hashes):
            (dataset / _FILE).write_table(pa.table({"user_hash": self.hashes}))
