"""The erased users of a root, on storage."""

import pyarrow as pa

from lightsans.lists.erased_users import (
    Erasures,
    nobody_erased,
    read_erased,
    read_erasures,
    share_erased,
    write_erased,
    write_erasures,
)
from tests.factories import local


def test_erased_users_are_read_back_and_shared_with_another_root(tmp_path):
    root, other = local(tmp_path) / "root", local(tmp_path) / "other"
    assert read_erased(root) is None
    share_erased(root, other)
    assert not other.exists()
    users = nobody_erased().with_ids([pa.array(["a-long-name"]), pa.array([7])])
    write_erased(root, users)
    found = read_erased(root)
    assert found is not None
    assert found.fingerprint == users.fingerprint
    assert found.is_among(pa.array(["a-long-name", "7"])).tolist() == [True, False]
    assert b"a-long-name" not in (root / "erased" / "users.parquet").read_bytes()
    share_erased(root, other)
    theirs = read_erased(other)
    assert theirs is not None
    assert theirs.fingerprint == users.fingerprint


def test_two_roots_have_different_keys():
    assert nobody_erased().key != nobody_erased().key


def test_the_current_result_is_found_through_several_erasures(tmp_path):
    root = local(tmp_path)
    assert read_erasures(root) == Erasures()
    made = Erasures(replaced={"a": "b", "b": "c", "x": ""}, models={"m": "why"})
    write_erasures(root, made)
    assert read_erasures(root) == made
    assert [made.current(name) for name in ("a", "b", "c", "x")] == ["c", "c", "c", "x"]
