"""Frames and ids that Arrow refuses are errors about the frame, not tracebacks of Arrow's."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config.data import ColumnsConfig, DataConfig
from lightsans.errors import InputError
from lightsans.in_process.frames import to_ids, to_table
from lightsans.reading.columns import log_columns

COLUMNS = log_columns(DataConfig())
LOG = {"user_id": [1, 2], "item_id": [3, 4], "timestamp": [5, 6]}


@pytest.mark.parametrize(
    "users",
    [
        pytest.param([2**70, 1], id="more than 64 bits"),
        pytest.param(pd.Series(["\ud800", "a"], dtype=object), id="half a character"),
        pytest.param(pd.arrays.SparseArray([1, 2]), id="sparse"),
        pytest.param([1, "a"], id="two types"),
    ],
)
def test_a_column_that_arrow_refuses_is_told_as_that(users):
    with pytest.raises(InputError, match="the frame holds what Arrow cannot"):
        to_table(pd.DataFrame(LOG | {"user_id": users}), COLUMNS)


@pytest.mark.parametrize("users", [1, [1], [1, 2, 3]])
def test_a_dict_of_uneven_columns_is_told_as_that(users):
    with pytest.raises(InputError, match="as many rows as the others"):
        to_table(LOG | {"user_id": users}, COLUMNS)


def test_a_dict_may_have_numbers_for_names():
    numbered = dict(enumerate(LOG.values()))
    columns = ColumnsConfig(user="0", item="1", timestamp="2")
    table, names = to_table(numbered, log_columns(DataConfig(columns=columns)))
    assert table.to_pydict() == {"0": [1, 2], "1": [3, 4], "2": [5, 6]}
    assert names == {"user": "0", "item": "1", "timestamp": "2"}


def test_a_series_is_no_frame():
    with pytest.raises(InputError, match=r"given a pandas\S*Series, which has no named columns"):
        to_table(pd.Series([1, 2]), COLUMNS)


@pytest.mark.parametrize("one", [7, "7", np.int64(7), np.array(7), pa.scalar(7)])
def test_one_id_may_be_given_alone(one):
    assert to_ids(one, pa.int64(), "recommend(users=...)").to_pylist() == [7]


@pytest.mark.parametrize("ids", [[2**70], ["\ud800"], b"ab", np.array(1.5)])
def test_ids_that_the_log_cannot_have_are_told_as_that(ids):
    with pytest.raises(InputError, match="are no ids of the log, which are whole numbers"):
        to_ids(ids, pa.int64(), "recommend(users=...)")


def test_a_column_that_is_in_the_index_is_found_there():
    frame = pd.DataFrame(LOG)
    with pytest.raises(InputError, match=r"index has 'user_id': give the frame's reset_index\(\)"):
        to_table(frame.set_index("user_id"), COLUMNS)
    with pytest.raises(InputError) as raised:
        to_table(frame.rename(columns={"user_id": "who"}), COLUMNS)
    assert "index" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pl.String, ["a", "ü"]),
        (pl.Categorical, ["a", None]),
        (pl.Binary, [b"a", b"\xff"]),
        (pl.List(pl.String), [["a", None], None]),
        (pl.Array(pl.String, 1), [["a"], ["b"]]),
        (pl.List(pl.List(pl.String)), [[["a"], []], []]),
    ],
)
def test_text_of_polars_is_text_as_parquet_has_it(kind, values):
    frame = pl.DataFrame(LOG).with_columns(user_id=pl.Series(values, dtype=kind))
    table, _ = to_table(frame, COLUMNS)
    assert table["user_id"].to_pylist() == values
    assert "view" not in str(table.schema)
    pq.write_table(table, pa.BufferOutputStream())
    assert table["user_id"].take(pa.array([1, 0])).to_pylist() == values[::-1]


def test_categories_within_lists_are_told_as_what_arrow_cannot_hold():
    lists = pl.Series([["a"], ["b"]], dtype=pl.List(pl.Categorical))
    with pytest.raises(InputError, match="the frame holds what Arrow cannot"):
        to_table(pl.DataFrame(LOG).with_columns(user_id=lists), COLUMNS)
