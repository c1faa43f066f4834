"""JSON lines: types of ids, damaged lines, positions."""

import pytest

from tests.logs_on_disk import read_log, write_bytes, write_jsonl


def test_jsonl_ids_have_the_type_of_the_first_record(tmp_path):
    numbers = write_jsonl(
        tmp_path / "a.jsonl", [(None, "x", 1), (7, "x", 1), ("8", 9, 1), ("A", "x", 1)]
    )
    log = read_log(numbers)
    assert log.rows == [(7, "x", 1), (8, "9", 1)]
    assert [reason for _, reason in log.rejects] == ["user_missing", "user_not_int"]
    assert read_log(numbers, user_id_type="string").rows == [
        ("7", "x", 1),
        ("8", "9", 1),
        ("A", "x", 1),
    ]


def test_bad_lines_of_jsonl_are_refused_one_by_one(tmp_path):
    good = b'{"user_id": "u", "item_id": "i", "timestamp": 1}'
    bad = {
        b"{broken": "invalid_json",
        b"[1]": "invalid_json",
        good + good: "invalid_json",
        b'{"user_id": ["u"], "item_id": "i", "timestamp": 1}': "user_wrong_type",
        b'{"user_id": true, "item_id": "i", "timestamp": 1}': "user_wrong_type",
        b'{"item_id": "i", "timestamp": 1}': "user_missing",
        b'{"user_id": "u", "item_id": "i", "timestamp": "soon"}': "timestamp_invalid",
        b'{"user_id": "\xff", "item_id": "i", "timestamp": 1}': "not_utf8",
        rb'{"user_id": "\ud800", "item_id": "i", "timestamp": 1}': "not_utf8",
    }
    lines = [good, *(line for each in bad for line in (each, good))]
    for name, positions in [
        ("a.jsonl", [sum(len(line) + 1 for line in lines[:n]) for n in range(1, len(lines), 2)]),
        ("a.jsonl.gz", list(range(1, len(lines), 2))),
    ]:
        log = read_log(write_bytes(tmp_path / name, b"\n".join(lines)))
        assert log.rows == [("u", "i", 1)] * (len(bad) + 1)
        assert log.rejects == list(zip(positions, bad.values(), strict=True))


def test_broken_utf8_alone_is_noticed_in_jsonl(tmp_path):
    """Arrow's parser lets it pass."""
    line = b'{"user_id": "%s", "item_id": "i", "timestamp": 1}\n'
    path = write_bytes(tmp_path / "a.jsonl", line % b"u" + line % b"\xff")
    log = read_log(path)
    assert log.rows == [("u", "i", 1)]
    assert log.rejects == [(len(line) - 1, "not_utf8")]


def test_a_bad_line_in_a_large_piece_of_jsonl_moves_no_position(tmp_path):
    rows = [(f"user{n}", "item", n) for n in range(5000)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4000] = b"{}}\n"
    path.write_bytes(b"".join(lines))
    log = read_log(path)
    assert log.rows == rows[:4000] + rows[4001:]
    assert log.rejects == [(sum(map(len, lines[:4000])), "invalid_json")]


def test_jsonl_timestamps_and_ids_may_change_their_type(tmp_path):
    rows = [("u", 5, 1), ("u", 5.0, 2.5), ("u", "5", "1970-01-01T00:00:03Z"), ("u", 5, "4")]
    log = read_log(write_jsonl(tmp_path / "a.jsonl", rows))
    assert log.rows == [("u", 5, 1), ("u", 5, 2.5), ("u", 5, 3), ("u", 5, 4)]


@pytest.mark.parametrize("missing", ['"user_id":NaN,', '"user_id":null,', ""])
def test_keys_and_types_are_those_of_the_first_value_that_is_there(tmp_path, missing):
    lines = [
        "{" + missing + '"item_id":"i","timestamp":1}',
        '{"user_id":"u","item_id":"j","timestamp":2}',
    ]
    for end in ("", "\n"):
        path = write_bytes(tmp_path / "a.jsonl", "\n".join(lines).encode() + end.encode())
        read = read_log(path)
        assert read.rows == [("u", "j", 2)]
        assert [reason for _, reason in read.rejects] == ["user_missing"]


@pytest.mark.parametrize("rating", ["true", "[5]", '{"stars": 5}'])
def test_a_rating_of_another_kind_refuses_a_row_only_where_it_is_needed(tmp_path, rating):
    line = '{"user_id":"u","item_id":"i","timestamp":1,"rating":%s}'
    path = write_bytes(tmp_path / "a.jsonl", f"{line % 5}\n{line % rating}\n".encode())
    assert len(read_log(path).rows) == 2
    needed = read_log(path, min_rating=1)
    assert [reason for _, reason in needed.rejects] == ["rating_invalid"]
