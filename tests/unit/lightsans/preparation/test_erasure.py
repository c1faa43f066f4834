"""Parts of erased users, and what erasure leaves."""

import json

import pyarrow as pa

from lightsans.lists.erased_users import nobody_erased
from lightsans.preparation.erasure import forget_users, parts_of_users
from lightsans.storage.schemas import REJECTS_WITH_VALUES


def test_users_are_looked_for_in_their_parts_only():
    users = pa.array(["ann", "bob", "cid"])
    assert parts_of_users(users, 1) == [0]
    assert len(parts_of_users(users, 4096)) == 3


def test_refused_rows_of_an_erased_user_stay_as_positions():
    values = [json.dumps({"user": "7", "item": "x"}), None, json.dumps({"user": "8", "item": ""})]
    rejects = pa.table([["f"] * 3, [1, 2, 3], ["r"] * 3, values], schema=REJECTS_WITH_VALUES)
    left, found = forget_users(rejects, ["7", "9"])
    assert found == {"7"}
    assert left["values"].to_pylist() == [None, None, values[2]]
    assert left.drop_columns("values") == rejects.drop_columns("values")


def test_an_erased_user_is_known_however_refused_rows_write_it():
    texts = [json.dumps({"user": user}) for user in ("7", "007", " 7", "7.0", "70")]
    rejects = pa.table([["f"] * 5, range(5), ["r"] * 5, texts], schema=REJECTS_WITH_VALUES)
    erased = nobody_erased().with_ids([pa.array([7])])
    for left, found in (forget_users(rejects, ["7.0"]), forget_users(rejects, [], erased)):
        assert left["values"].to_pylist() == [None, None, None, None, texts[4]]
        assert "7" in found
