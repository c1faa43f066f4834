"""Erased users are known again by keyed hashes."""

import pickle

import pyarrow as pa

from lightsans.columns.erased import ErasedUsers
from lightsans.columns.hashing import pieces_of, user_buckets


def erased(*ids: pa.Array, key: bytes = b"key") -> ErasedUsers:
    return ErasedUsers(key, pa.array([], pa.binary(16)), []).with_ids(ids)


def test_erased_users_are_told_in_columns_of_text_integers_and_dictionaries():
    users = erased(pa.array(["ann", "7"]), pa.array([8]))
    texts = pa.array(["ann", "bob", "7", "8", "ann"])
    expected = [True, False, True, False, True]
    assert users.is_among(texts).tolist() == expected
    assert users.is_among(texts.dictionary_encode()).tolist() == expected
    chunked = pa.chunked_array([texts.slice(0, 2), texts.slice(2)])
    assert users.is_among(chunked).tolist() == expected
    assert users.is_among(pa.array([7, 8])).tolist() == [False, True]
    assert users.is_among(pa.array([], pa.string())).tolist() == []


def test_a_raw_user_of_a_refused_row_is_known_with_blanks_and_as_a_number():
    users = erased(pa.array(["ann"]), pa.array([8]))
    assert [users.knows(text) for text in ("ann", " ann ", "008", "bob")] == [
        True,
        True,
        True,
        False,
    ]


def test_the_fingerprint_depends_on_who_is_erased_and_on_the_key_alone():
    one, other = pa.array(["ann", "bob"]), pa.array(["bob", "ann", "ann"])
    assert erased(one).fingerprint == erased(other).fingerprint
    assert erased(one).fingerprint != erased(one, key=b"another").fingerprint
    assert erased(one).fingerprint != erased(one, pa.array(["cid"])).fingerprint
    assert erased(one).with_ids([one]).fingerprint == erased(one).fingerprint


def test_no_id_is_among_what_is_kept():
    assert b"a-long-name" not in pickle.dumps(erased(pa.array(["a-long-name"])))


def test_parts_without_erased_users_are_known():
    names = pa.array(["ann", "bob"])
    assert erased(names).parts(64) == sorted(set(pieces_of(user_buckets(names), 64).tolist()))
