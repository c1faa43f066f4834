"""Tables without erased users."""

import pyarrow as pa
import pytest

from lightsans.columns.erased import DIGEST, ErasedUsers
from lightsans.storage.manifest_kinds import RunFile
from lightsans.storage.model_files import sha256
from pipelines.erasure.tables import LeftRows, replaced_id, run_part_without, take_out
from tests.factories import local
from tests.manifests import run_part

ERASED = ErasedUsers(b"key", pa.array([], DIGEST), []).with_ids([pa.array(["ann", "eve"])])


def test_rows_of_erased_users_go_and_all_else_of_a_table_stays(tmp_path):
    """In the long layout a user has several rows."""
    table = pa.table(
        {
            "user_id": ["ann", "ann", "bob", "eve"],
            "rank": pa.array([1, 2, 1, 1], pa.int32()),
            "source": ["model", "model", "popular", "popular"],
        }
    ).replace_schema_metadata({"lightsans.run": "r"})
    old, new = local(tmp_path) / "old", local(tmp_path) / "new"
    (old / "part.parquet").write_table(table)
    left = take_out(old, new, "part.parquet", ERASED)
    found = (new / "part.parquet").read_table()
    assert found.equals(table.slice(2, 1), check_metadata=True)
    assert (left.users, left.popular, left.file.rows) == (2, 1, 1)
    content = (new / "part.parquet").read_bytes()
    assert (left.file.bytes, left.file.sha256) == (len(content), sha256(content))


@pytest.mark.parametrize(
    ("path", "popular"), [("source=popular/p.parquet", 1), ("source=model/p.parquet", 0)]
)
def test_in_directories_by_source_the_path_tells_whose_list_it_was(tmp_path, path, popular):
    old, new = local(tmp_path) / "old", local(tmp_path) / "new"
    (old / path).write_table(pa.table({"user_id": ["ann", "bob"]}))
    assert take_out(old, new, path, ERASED).popular == popular


def test_a_table_without_erased_users_is_linked(tmp_path):
    old, new = local(tmp_path) / "old", local(tmp_path) / "new"
    (old / "part.parquet").write_table(pa.table({"user_id": ["bob", "cid"]}))
    left = take_out(old, new, "part.parquet", ERASED)
    assert (left.users, left.file.rows) == (0, 2)
    inodes = {(tmp_path / name / "part.parquet").stat().st_ino for name in ("old", "new")}
    assert len(inodes) == 1


def test_the_counts_of_a_part_lose_the_erased_users():
    file = RunFile(path="p", rows=1, bytes=1, sha256="")
    old = run_part("p", users=5, popular_users=3, carried_users=5, files=(file, file))
    part = run_part_without(old, [LeftRows(file, 2, 1), LeftRows(file, 1, 1)])
    assert (part.users, part.popular_users, part.carried_users) == (2, 1, 2)


def test_a_replacement_has_an_id_of_its_own_for_everybody_who_is_erased():
    more = ERASED.with_ids([pa.array(["cid"])])
    found = {replaced_id(kind, "a", users) for kind in ("x", "y") for users in (ERASED, more)}
    assert len(found) == 4
    assert replaced_id("x", "a", ERASED) in found
