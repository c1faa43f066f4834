import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import ColumnsConfig, DataConfig, EventConfig
from lightsans.errors import InputError, RejectLimitError
from lightsans.reading.rejects import (
    RowCounts,
    check_reject_limit,
    rejects_file,
    require_events,
)
from lightsans.reading.rows import CheckedRows
from lightsans.storage.schemas import REJECTS
from tests.factories import local


def checked(times, rejects, num_excluded=0):
    table = pa.table({"timestamp": pa.array(times, pa.int64())})
    positions = np.array([position for position, _ in rejects], np.int64)
    return CheckedRows(table, positions, [reason for _, reason in rejects], num_excluded)


@pytest.fixture
def file(tmp_path):
    return local(tmp_path / "a.csv")


def test_counts_of_pieces_add_up(file):
    whole, one, two = RowCounts(), RowCounts(), RowCounts()
    pieces = [
        checked([5, 3], [(1, "user_missing"), (2, "item_missing")], num_excluded=1),
        checked([], [(n, "user_missing") for n in range(10, 15)]),
        checked([9], []),
    ]
    for piece in pieces:
        whole.add_rows(file, piece)
    one.add_rows(file, pieces[0])
    two.add_rows(file, pieces[1])
    two.add_rows(file, pieces[2])
    one.add(RowCounts.from_dict(two.to_dict()))
    assert one == whole
    assert (whole.read, whole.valid, whole.excluded) == (11, 3, 1)
    assert whole.rejected == Counter(user_missing=6, item_missing=1)
    assert whole.examples["user_missing"] == [f"{file}:1", f"{file}:10", f"{file}:11"]
    assert (whole.oldest, whole.newest) == (3, 9)


def test_a_rare_event_that_is_predicted_is_found_among_very_many_others(file):
    events = {"view": EventConfig(input=True), "buy": EventConfig(target=True)}
    data = DataConfig(columns=ColumnsConfig(event="what"), events=events)
    others = Counter({f"e{i}": 2 for i in range(1500)})
    whole = RowCounts()
    for found in (Counter(view=3, buy=1), others):
        piece = RowCounts()
        piece.add_rows(file, replace(checked([1], []), events=found), data.event_names)
        whole.add(RowCounts.from_dict(piece.to_dict()), data.event_names)
    assert (whole.events["buy"], whole.events.total()) == (1, 3004)
    assert require_events(whole, data) is None


def test_refused_rows_are_listed_in_a_file_that_appears_when_all_are(file):
    location = file.parent / "unit.parquet"
    with rejects_file(location) as write:
        write(file, checked([1], []))
        write(file, checked([], [(7, "user_missing")]))
        write(file, checked([], [(9, "item_missing")]))
        assert not location.exists()
    table = location.read_table()
    assert table.schema.equals(REJECTS)
    assert table.to_pydict() == {
        "file": [file.uri] * 2, "position": [7, 9], "reason": ["user_missing", "item_missing"],
    }  # fmt: skip


def test_without_refused_rows_or_after_an_error_there_is_no_file(file):
    location = file.parent / "unit.parquet"
    with rejects_file(location) as write:
        write(file, checked([1], []))
    with pytest.raises(InputError), rejects_file(location) as write:
        _write_and_fail(write, file)
    assert file.parent.children() == []


def _write_and_fail(write, file):
    write(file, checked([1], [(7, "user_missing")]))
    raise InputError("while reading")


def counts_of(**rejected):
    examples = {reason: ["a.csv:7"] for reason in rejected}
    total = sum(rejected.values())
    return RowCounts(
        read=total + 10, valid=10, rejected=Counter(rejected), examples=examples, oldest=0, newest=0
    )


def test_as_many_refused_rows_as_allowed_are_fine(file):
    check_reject_limit(counts_of(user_missing=10), 0.5, file)
    check_reject_limit(counts_of(user_missing=90), None, file)


def test_more_refused_rows_than_allowed_name_reasons_places_and_the_setting(file):
    with pytest.raises(RejectLimitError) as caught:
        check_reject_limit(counts_of(user_missing=3, item_missing=8), 0.5, file)
    message = str(caught.value)
    assert "11 of 21 rows" in message
    assert "data.max_reject_fraction=0.5" in message
    assert "item_missing 8 (such as a.csv:7); user_missing 3 (such as a.csv:7)" in message
    assert str(file) in message


@pytest.mark.parametrize(
    ("reason", "setting"),
    [
        ("timestamp_out_of_range", "data.timestamp_unit"),
        ("wrong_number_of_fields", "data.separator"),
        ("user_not_int", "data.user_id_type"),
        ("item_wrong_type", "JSON objects, arrays and booleans are no item ids"),
        ("timestamp_invalid", r"as ISO text, such as .* convert others, such as 13\.09\.2026"),
        ("invalid_json", "a JSON object a line"),
    ],
)
def test_a_prevailing_reason_hints_at_the_setting_that_may_be_wrong(file, reason, setting):
    with pytest.raises(RejectLimitError, match=setting):
        check_reject_limit(counts_of(**{reason: 100, "user_missing": 3}), 0.5, file)
    with pytest.raises(RejectLimitError) as caught:
        check_reject_limit(counts_of(**{reason: 10, "user_missing": 100}), 0.5, file)
    assert not re.search(setting, str(caught.value))


def test_an_input_without_valid_rows_says_what_became_of_them(file):
    counts = RowCounts(read=5, excluded=2, rejected=Counter(user_missing=3))
    counts.examples["user_missing"] = ["a.csv:7"]
    with pytest.raises(InputError, match=r"5 were read, 3 refused \(user_missing 3 .*\) and 2"):
        check_reject_limit(counts, None, file)
    with pytest.raises(InputError, match="0 were read, 0 refused and 0"):
        check_reject_limit(RowCounts(), 0.05, file)
