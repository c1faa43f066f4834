import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.config import DataConfig, RunConfig, to_dict
from lightsans.config.file import load_config
from lightsans.errors import ConfigError, InputError
from lightsans.recommendations.user_groups import (
    MOST_GROUPS,
    NONE,
    OTHER,
    groups_identity,
    read_groups,
)

READ = to_dict(DataConfig())
"""How the dataset's log was read."""


def configured(tmp_path, content, column="town") -> RunConfig:
    path = tmp_path / "users.csv"
    path.write_text(content)
    settings = [f"evaluate.user_table={path}", f"evaluate.user_column={column}"]
    return load_config(None, settings).config


def read(config, kind):
    groups = read_groups(config, kind)
    assert groups is not None
    return groups


def labels(groups, *user_ids):
    kind = pa.int64() if isinstance(user_ids[0], int) else pa.string()
    codes = groups.of(pa.chunked_array([pa.array(user_ids, kind)]), 0, NUM_BUCKETS - 1)
    return [groups.labels[code] for code in codes]


def test_users_are_told_apart_by_the_column(tmp_path):
    content = "user_id,town\nann,Bonn\nbob ,Rom\n007,\nann,Rom\n"
    groups = read(configured(tmp_path, content), pa.string())
    assert groups.name == "town"
    assert labels(groups, "bob", "ann", "007", "nobody") == ["Rom", "Bonn", NONE, NONE]


def test_ids_of_the_logs_type_are_numbers_however_they_are_written(tmp_path):
    content = "user_id,town\n007,Bonn\n 8,Rom\n"
    config = configured(tmp_path, content)
    assert labels(read(config, pa.int64()), 8, 7) == ["Rom", "Bonn"]
    bad = configured(tmp_path, "user_id,town\nann,Bonn\n")
    with pytest.raises(InputError, match=r"evaluate.user_table: .*users.csv.*ann"):
        read_groups(bad, pa.int64())


def test_values_that_are_written_as_our_labels_join_them(tmp_path):
    """As in exports of Google Analytics; two segments of one name hid the users of one."""
    content = "user_id,town\nann,(none)\nbob,(other)\ncid,Rom\ndan,\n"
    groups = read(configured(tmp_path, content), pa.string())
    assert groups.labels == ("Rom", OTHER, NONE)
    assert labels(groups, "ann", "bob", "cid", "dan") == [NONE, OTHER, "Rom", NONE]


def test_rare_values_are_one_group(tmp_path):
    rows = [f"u{n}-{copy},t{n:02}" for n in range(30) for copy in range(30 - n)]
    config = configured(tmp_path, "user_id,town\n" + "\n".join(rows))
    groups = read(config, pa.string())
    assert len(groups.labels) == MOST_GROUPS + 2
    assert labels(groups, "u0-0", "u29-0") == ["t00", OTHER]


def test_a_part_asks_for_its_own_buckets(tmp_path):
    from lightsans.columns.hashing import user_buckets

    users = pa.array([f"u{n}" for n in range(50)])
    rows = [f"{user},{'even' if n % 2 == 0 else 'odd'}" for n, user in enumerate(users.to_pylist())]
    groups = read(configured(tmp_path, "user_id,town\n" + "\n".join(rows)), pa.string())
    inside = np.flatnonzero(user_buckets(users) < 1000)
    codes = groups.of(pa.chunked_array([users.take(pa.array(inside))]), 0, 999)
    assert [groups.labels[code] for code in codes] == [
        "even" if n % 2 == 0 else "odd" for n in inside
    ]


def test_another_column_or_file_is_another_question(tmp_path):
    config = configured(tmp_path, "user_id,town,age\nann,Bonn,9\n")
    other = dataclasses.replace(
        config, evaluate=dataclasses.replace(config.evaluate, user_column="age")
    )
    assert groups_identity(config, READ) != groups_identity(other, READ)
    assert groups_identity(RunConfig(), READ) is None
    spaced = dataclasses.replace(config, data=DataConfig(strip_ids=True))
    assert groups_identity(spaced, READ) != groups_identity(config, READ)
    with pytest.raises(InputError, match=r"no column 'city'; .*evaluate\.user_column"):
        groups_identity(configured(tmp_path, "user_id,town\nann,Bonn\n", "city"), READ)


def test_table_and_column_need_each_other():
    with pytest.raises(ConfigError, match=r"user_table=x.csv and evaluate.user_column=None need"):
        load_config(None, ["evaluate.user_table=x.csv"])
