"""Laws of preprocessing: slow Python says the same, and cutting files anywhere changes nothing."""

import csv
import io
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lightsans.config import ColumnsConfig, DataConfig
from lightsans.preparation.derive import derive_sequences
from lightsans.preparation.selection import select_rows
from lightsans.reading.units import POSITION_BITS
from tests import strategies
from tests.factories import interaction_log, k_core_of, sorted_parts, vocabulary_of_counts
from tests.logs_on_disk import read_log, write_bytes, write_jsonl

LOGS = strategies.logs(
    users="abcdefg", items="tuvwxyz", last=5, ratings=[1.0, 3.0, 5.0, None], max_size=60
)


def parts_of(log, num_parts):
    return sorted_parts(interaction_log(log), num_parts, stretch=7).values()


def naive_core(rows, min_user, min_item):
    """Remove users and items with too few rows, again and again, until nothing changes."""
    while True:
        users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        kept = [r for r in rows if users[r[0]] >= min_user and items[r[1]] >= min_item]
        if len(kept) == len(rows):
            return rows
        rows = kept


def first_of_each_item(rows):
    kept: list[tuple[Any, ...]] = []
    for row in rows:
        if row[1] not in [other[1] for other in kept]:
            kept.append(row)
    return kept


def naive_filters(log, as_of, dedupe, min_rating):
    """Each user's rows in order of the sequence, and those of them that are learnt from."""
    histories: dict[str, list[tuple[Any, ...]]] = {}
    for row in sorted((row for row in log if row[2] < as_of), key=lambda row: row[2]):
        histories.setdefault(row[0], []).append(row)
    kept = {}
    for user, rows in histories.items():
        if dedupe == "first":
            rows = first_of_each_item(rows)
        if dedupe == "last":
            rows = first_of_each_item(rows[::-1])[::-1]
        if min_rating is not None:
            rows = [row for row in rows if row[3] is not None and row[3] >= min_rating]
        kept[user] = rows
    return histories, kept


@given(LOGS, strategies.LEAST, strategies.LEAST, strategies.NUM_PARTS)
def test_the_core_is_what_a_naive_loop_leaves(log, min_user, min_item, num_parts):
    selected = [select_rows(part, DataConfig()) for part in parts_of(log, num_parts)]
    expected = Counter(row[1] for row in naive_core(log, min_user, min_item))
    assert k_core_of(selected, min_user, min_item) == expected


@given(LOGS, strategies.FILTERS, st.integers(1, 6), strategies.NUM_PARTS)
def test_sequences_are_what_slow_python_derives(log, data, as_of, num_parts):
    min_user = data.min_user_interactions
    histories, kept = naive_filters(log, as_of, data.dedupe, data.min_rating)
    core = naive_core([row for rows in kept.values() for row in rows], min_user, 1)
    counts = Counter(row[1] for row in core)
    if not counts:
        return
    items = sorted(counts, key=lambda item: (-counts[item], item))
    expected = {}
    for user, rows in histories.items():
        sequence = [(row[1], row[2]) for row in kept[user] if row[1] in counts]
        own = {item for item, _ in sequence}
        seen = {row[1] for row in rows if row[1] in counts} - own
        expected[user] = (sequence, len(sequence) >= min_user, seen)

    vocabulary = vocabulary_of_counts(counts)
    assert vocabulary.raw_item_ids.to_pylist() == items
    found = {}
    for part in parts_of(log, num_parts):
        derived = derive_sequences(select_rows(part, data, as_of), vocabulary, min_user)
        for row in derived.to_pylist():
            sequence = [items[item - 1] for item in row["item_ids"]]
            seen = {items[item - 1] for item in row["also_seen"]}
            assert len(seen) == len(row["also_seen"])
            pairs = list(zip(sequence, row["timestamps"], strict=True))
            assert row["user_id"] not in found
            found[row["user_id"]] = (pairs, row["trainable"], seen)
    assert found == expected


@given(LOGS, st.integers(1, 4096))
def test_every_row_is_in_one_part_with_its_user(log, num_parts):
    parts = parts_of(log, num_parts)
    assert sum(part.num_rows for part in parts) == len(log)
    users = [set(part["user_id"].to_pylist()) for part in parts]
    assert sum(map(len, users)) == len({row[0] for row in log})


@given(
    st.lists(
        st.tuples(strategies.IDS, strategies.IDS, st.integers(0, 2**31)), min_size=1, max_size=20
    )
)
def test_ids_of_any_characters_come_back_as_they_were(rows):
    with tempfile.TemporaryDirectory() as directory:
        log = read_log(write_jsonl(Path(directory) / "a.jsonl", rows))
        assert log.rows == rows
        text = io.StringIO()
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows(
            [("user_id", "item_id", "timestamp"), *rows]
        )
        path = write_bytes(Path(directory) / "a.csv", text.getvalue().encode())
        assert read_log(path).rows == rows


@given(
    strategies.CSV_LINES,
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 200),
    st.sampled_from(["a.csv", "a.csv.gz"]),
)
def test_however_text_is_cut_every_row_is_read_once_and_knows_its_place(
    lines, line_end, has_final_end, has_header, unit_bytes, name
):
    header = ["user_id,item_id,timestamp"] if has_header else ["u,i,1"]
    text = line_end.join(header + lines) + (line_end if has_final_end else "")
    expected, rejects, place, number = [], [], 0, 0
    for line in header + lines:
        if line and not (has_header and place == 0):
            position = number if name.endswith("gz") else place
            if line == "broken":
                rejects.append((position, "wrong_number_of_fields"))
            else:
                user, item, time = line.split(",")
                expected.append(((user, item, float(time)), position))
            number += 1
        place += len(line + line_end)
    columns = ColumnsConfig(user=0, item=1, timestamp=2)
    with tempfile.TemporaryDirectory() as directory:
        path = write_bytes(Path(directory) / name, text.encode())
        log = read_log(path, header=has_header, columns=columns, read_unit_bytes=unit_bytes)
    assert list(zip(log.rows, log.order_keys, strict=True)) == expected
    assert log.rejects == rejects
    assert all(key < 1 << POSITION_BITS for key in log.order_keys)
