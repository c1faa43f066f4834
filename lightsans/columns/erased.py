"""Erased users: keyed hashes by which they are known again without their ids."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.arrays import Bool
from lightsans.columns.arrow import as_dictionary, codes_of, value_type
from lightsans.columns.hashing import NUM_BUCKETS, pieces_of, user_buckets
from lightsans.columns.nulls import bools

DIGEST_BYTES = 16
DIGEST = pa.binary(DIGEST_BYTES)
_WHOLE = re.compile(r"([+-]?[0-9]{1,40})(\.0*)?")


@dataclass(frozen=True)
class ErasedUsers:
    """Users whose rows no dataset of a root may have again.

    Text and integers are different ids: ``7`` of a log with text is not 7 of one with integers.
    """

    key: bytes
    """Drawn once for a root: hashes of two roots cannot be compared."""
    digests: pa.Array
    """(E,) BLAKE2b under the key, of the type and the text of each id; each once, ascending."""
    buckets: Sequence[int]
    """Buckets that have such users, ascending; hashes are taken of ids in these alone."""

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all of them, which stands in the ids of datasets."""
        return hashlib.sha256(self.key + b"".join(self.digests.to_pylist())).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.digests)

    def with_ids(self, ids: Iterable[pa.Array]) -> "ErasedUsers":
        """The users and some more, whose ids are text or integers."""
        found, buckets = set(self.digests.to_pylist()), set(self.buckets)
        for each in ids:
            if len(each):
                found |= {self._digest(_kind(each.type), value) for value in each.to_pylist()}
                buckets |= set(user_buckets(each).tolist())
        return ErasedUsers(self.key, pa.array(sorted(found), DIGEST), sorted(buckets))

    def is_among(self, ids: pa.Array | pa.ChunkedArray) -> Bool:
        """(R,) whether each user is an erased one; ids have no nulls."""
        if not len(ids):
            return np.zeros(0, bool)
        if isinstance(ids, pa.ChunkedArray) or pa.types.is_dictionary(ids.type):
            column = as_dictionary(ids)
            return self.is_among(column.dictionary)[codes_of(column)]
        is_used = np.zeros(NUM_BUCKETS, bool)
        is_used[list(self.buckets)] = True
        suspects = np.flatnonzero(is_used[user_buckets(ids)])
        kind = _kind(value_type(ids.type))
        values = ids.take(pa.array(suspects)).to_pylist()
        digests = pa.array([self._digest(kind, value) for value in values], DIGEST)
        is_erased = np.zeros(len(ids), bool)
        is_erased[suspects] = bools(pc.is_in(digests, value_set=self.digests))
        return is_erased

    def knows(self, text: str) -> bool:
        """Whether a text that a row has as its user stands for an erased one, of either type."""
        candidates = {self._digest(kind, each) for kind in (b"s", b"i") for each in alike(text)}
        found = pc.is_in(pa.array(sorted(candidates), DIGEST), value_set=self.digests)
        return bool(pc.any(found).as_py())

    def parts(self, num_parts: int) -> list[int]:
        """Numbers of the parts of a dataset that may have erased users."""
        buckets = np.array(self.buckets, np.int32)
        return [int(part) for part in np.unique(pieces_of(buckets, num_parts))]

    def _digest(self, kind: bytes, value: str | int) -> bytes:
        content = kind + str(value).encode(errors="surrogatepass")
        return hashlib.blake2b(content, key=self.key, digest_size=DIGEST_BYTES).digest()


def alike(text: str) -> set[str]:
    """Texts of the users that a text may stand for: as it is, without blanks, as an integer."""
    stripped = text.strip()
    whole = _WHOLE.fullmatch(stripped)
    return {text, stripped} | ({str(int(whole[1]))} if whole else set())


def _kind(kind: pa.DataType) -> bytes:
    return b"i" if pa.types.is_integer(kind) else b"s"
