"""Bad input ends a run with a message about the input, no traceback of Ray and no dataset."""

import random

import pytest

from lightsans.config import DataConfig, RunConfig
from lightsans.errors import (
    ConfigError,
    EmptyFileError,
    InputError,
    NothingLeftError,
    RejectLimitError,
)
from pipelines.preprocess.stage import run_preprocess
from pipelines.session.ray_session import find_own_error
from tests.logs_on_disk import write_bytes, write_csv, write_parquet

ROWS = [(f"u{n % 10}", f"i{n % 7}", 1_000 + n) for n in range(200)]
HEADER = b"user_id,item_id,timestamp\n"


def fails(tmp_path, paths, error=InputError, **settings):
    """The message of the error, after which there is no dataset."""
    paths = paths if isinstance(paths, list) else [paths]
    data = DataConfig(input=tuple(map(str, paths)), **{"num_parts": 2, **settings})
    with pytest.raises(error) as caught:
        run_preprocess(RunConfig(root=str(tmp_path / "root"), data=data))
    assert type(caught.value) is error
    assert list((tmp_path / "root").glob("datasets/*/manifest.json")) == []
    return str(caught.value)


def test_mistakes_that_show_at_once_do_not_wait_for_ray(tmp_path):
    """No `ray_cluster` here: these end before anything is started."""
    good = write_csv(tmp_path / "good.csv", ROWS)
    empty = write_bytes(tmp_path / "empty.csv", b"")
    assert str(empty) in fails(tmp_path, empty, EmptyFileError)
    assert "no file matches" in fails(tmp_path, tmp_path / "*.parquet")
    assert "no such file" in fails(tmp_path, tmp_path / "typo.csv")
    renamed = write_bytes(tmp_path / "renamed.csv", b"user,item_id,timestamp\nu,i,1\n")
    assert "no column 'user_id'" in fails(tmp_path, renamed)
    numbers = write_parquet(tmp_path / "numbers.parquet", [(7, "i", 1)])
    assert "data.user_id_type" in fails(tmp_path, [good, numbers])
    truncated = tmp_path / "truncated.parquet"
    truncated.write_bytes(numbers.read_bytes()[:-20])
    assert str(truncated) in fails(tmp_path, truncated)
    assert "no such file" in fails(tmp_path, good, exclude_users=str(tmp_path / "nobody.txt"))
    assert "data.input is empty" in fails(tmp_path, [], ConfigError)
    assert "data.as_of='now'" in fails(tmp_path, good, ConfigError, as_of="now")
    assert "Europe/Berlin" in fails(tmp_path, good, ConfigError, timezone="Berlin")


def test_a_workers_error_arrives_as_it_was_raised_and_without_noise(tmp_path, ray_cluster, capfd):
    """The truncation lies far behind what the driver looks at."""
    numbers = random.Random(1)
    rows = [(numbers.random(), numbers.random(), 1) for _ in range(30_000)]
    path = write_csv(tmp_path / "a.csv.gz", rows)
    path.write_bytes(path.read_bytes()[:-1000])
    capfd.readouterr()
    message = fails(tmp_path, path)
    assert message == f"{path}: the file is damaged or cut off: Truncated compressed stream"
    shown = capfd.readouterr().err
    assert "Traceback" not in shown
    assert "ERROR" not in shown


def test_a_quoted_value_over_lines_names_file_place_and_settings(tmp_path, ray_cluster):
    lines = b"".join(b"u,i,%d\n" % n for n in range(1000))
    path = write_bytes(tmp_path / "a.csv", HEADER + lines + b'u,"a\nb",1\n' + lines)
    message = fails(tmp_path, path, read_unit_bytes=5000)
    assert str(path) in message
    assert "data.newlines_in_values: true" in message


def test_too_many_refused_rows_name_reasons_and_places_and_can_be_allowed(
    tmp_path, ray_cluster, capfd
):
    lines = b"u,i,978300760000\n" * 8 + b"u,,1\n" + b"u,i,1\nu,i,1\n"
    path = write_bytes(tmp_path / "a.csv", HEADER + lines)
    message = fails(tmp_path, path, RejectLimitError)
    assert "9 of 11 rows were refused" in message
    assert f"timestamp_out_of_range 8 (such as {path}:26, {path}:43, {path}:60)" in message
    assert "item_missing 1" in message
    assert "data.timestamp_unit" in message
    data = DataConfig(input=(str(path),), num_parts=2, max_reject_fraction=0.9)
    result = run_preprocess(RunConfig(root=str(tmp_path / "root"), data=data))
    assert result.manifest.rows.valid == 2
    assert "WARNING: preprocess: 50.0% of the rows repeat user, item" in capfd.readouterr().err
    assert not result.skipped


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_rating": 4.0}, ["data.min_rating=4.0 removes the last", "200 rows after as of"]),
        ({"as_of": "1970-01-01"}, ["data.as_of=1970-01-01 removes the last"]),
        ({"min_user_interactions": 21}, ["data.min_user_interactions=21"]),
        ({"min_item_interactions": 30}, ["data.min_item_interactions=30"]),
    ],
)
def test_no_rows_left_names_the_filter_that_took_the_last(tmp_path, ray_cluster, settings, words):
    rows = [(*row, 1) for row in ROWS]
    text = "user_id,item_id,timestamp,rating\n" + "".join(
        f"{u},{i},{t},{r}\n" for u, i, t, r in rows
    )
    path = write_bytes(tmp_path / "a.csv", text.encode())
    message = fails(tmp_path, path, NothingLeftError, **settings)
    for word in words:
        assert word in message


def test_an_input_without_a_single_valid_row_is_an_error(tmp_path, ray_cluster):
    path = write_bytes(tmp_path / "a.csv", HEADER)
    assert "0 were read" in fails(tmp_path, path, NothingLeftError)
    path = write_bytes(tmp_path / "b.csv", HEADER + b"u,i,never\n")
    message = fails(tmp_path, path, NothingLeftError, max_reject_fraction=None)
    assert "timestamp_invalid 1" in message
    assert "1 of 1 rows were refused" in fails(tmp_path, path, RejectLimitError)


def test_a_list_of_users_to_leave_out_must_match_somebody(tmp_path, ray_cluster):
    path = write_parquet(tmp_path / "a.parquet", [(7, "i", 1), (8, "i", 2)])
    listed = write_bytes(tmp_path / "users.txt", b"seven\n9\n")
    message = fails(tmp_path, path, exclude_users=str(listed))
    assert "data.exclude_users" in message
    assert "none of its 2 ids was found in the log" in message
    assert "data.allow_unmatched: true" in message


def test_rays_advice_is_taken_off_and_nothing_else():
    """Our own words must have nothing that `original_errors` takes off."""
    advice = "\nFailed to apply UDF transform after 1/1 attempts (total backoff 0.0s).\nTo change"
    found = find_own_error(InputError("a.csv: Failed to parse\nline 7" + advice))
    assert str(found) == "a.csv: Failed to parse\nline 7"
    assert find_own_error(ValueError("x")) is None
