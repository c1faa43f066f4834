"""Datasets made from a base, compared with datasets made of all files at once."""

import doctest
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import DataConfig, RunConfig, TemporalConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import ConfigError, InputError
from lightsans.storage.manifest_kinds import ExcludedUsers
from lightsans.storage.parts import layer_name, sequence_parts
from pipelines.preprocess.parts import MARKER, Part
from pipelines.preprocess.records import PartNote
from pipelines.preprocess.stage import PreprocessResult, run_preprocess
from tests.logs_on_disk import write_bytes

pytestmark = pytest.mark.usefixtures("ray_cluster")

FILTERS = DataConfig(
    min_rating=2.0,
    dedupe="last",
    min_user_interactions=3,
    min_item_interactions=4,
    num_parts=3,
    max_reject_fraction=None,
)


@pytest.fixture(scope="module")
def days(tmp_path_factory) -> list[Path]:
    """Three files: in the third some rows are late, some items and users new, one line broken."""
    rng, directory = random.Random(5), tmp_path_factory.mktemp("days")
    paths = []
    for day in range(3):
        lines = ["user_id,item_id,timestamp,rating"]
        for _ in range(500 if day == 0 else 60):
            user = f"u{int((40 + 10 * day) * rng.random() ** 2)}"
            item = f"i{int((60 + 20 * day) * rng.random() ** 2)}"
            time = 86_400 * (day if rng.random() < 0.8 else rng.randrange(day + 1)) + rng.randrange(
                9
            )
            lines.append(f"{user},{item},{time},{rng.randrange(1, 6)}")
        lines.append(f"u{day},broken")
        paths.append(write_bytes(directory / f"{day}.csv", "\n".join(lines).encode()))
    return paths


def make(root, files, data: DataConfig = FILTERS, base=None, **settings) -> PreprocessResult:
    names = tuple(str(file) for file in files)
    data = replace(data, input=names, base=base, **settings)
    return run_preprocess(RunConfig(root=str(root), data=data))


def content(result: PreprocessResult):
    """All that must be equal: users with raw items, living items with counts, numbers of rows."""
    vocabulary = Vocabulary.load(result.location / "items.parquet")
    names = np.array([None, *vocabulary.raw_item_ids.to_pylist()], object)
    users = {}
    for part in sequence_parts(result.location, result.manifest):
        for row in part.read_table().to_pylist():
            row["item_ids"] = names[row["item_ids"]].tolist()
            row["also_seen"] = sorted(names[row["also_seen"]].tolist())
            for name in {"valid_target", "test_target"} & set(row):
                row[name] = names[row[name]] if row[name] > 0 else row[name]
            assert row["user_id"] not in users
            users[row["user_id"]] = row
    counts = dict(zip(names[1:].tolist(), vocabulary.counts.tolist(), strict=True))
    manifest = result.manifest
    parts = {part.name: (part.users, part.fingerprint) for part in manifest.parts}
    totals = [
        getattr(manifest, name) for name in ("rows", "users", "trainable_users", "interactions")
    ]
    living = {item: count for item, count in counts.items() if count}
    return users, living, parts, totals, manifest.time_range, manifest.input


def parts_of(result: PreprocessResult) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = (result.location / MARKER).read_json()["parts"]
    return parts


def interactions_of(result: PreprocessResult) -> list[dict[str, Any]]:
    notes = map(PartNote.from_json, parts_of(result))
    tables = (Part.of(note).load(result.location) for note in notes)
    return [row for table in tables for row in table.to_pylist()]


@pytest.fixture(scope="module")
def base(ray_cluster, days, tmp_path_factory) -> tuple[Path, PreprocessResult]:
    root = tmp_path_factory.mktemp("root")
    return root, make(root, days[:1])


def test_days_added_to_a_base_equal_one_run_over_all_files(base, days):
    """With rating filter, dedupe and k-core on all rows; a base of a base too."""
    root, first = base
    second = make(root, days[:2], base=first.dataset_id)
    third = make(root, days, base=second.dataset_id)
    whole = make(root / "whole", days)
    assert content(third) == content(whole)
    assert interactions_of(third) == interactions_of(whole)
    old, new = (Vocabulary.load(r.location / "items.parquet") for r in (first, third))
    assert new.extends(old)
    assert new.num_items > old.num_items
    assert make(root, days, base=second.dataset_id).skipped
    changed = {
        name
        for name, (_, fingerprint) in content(third)[2].items()
        if content(second)[2].get(name, (0, ""))[1] != fingerprint
    }
    assert changed, "the third day changes some part"


def test_another_day_under_a_temporal_split_with_short_sequences(base, days):
    """Filters of the sequences are the new dataset's own: the base may have had others."""
    root, first = base
    cuts = TemporalConfig(valid_from="1970-01-02", test_from="1970-01-03")
    settings: dict[str, Any] = {
        "split": "temporal",
        "temporal": cuts,
        "keep_last": 3,
        "min_item_interactions": 2,
    }
    both = [
        make(where, files, base=made_from, **settings)
        for where, files, made_from in (
            (root, days[:2], first.dataset_id), (root / "whole", days[:2], None)
        )
    ]  # fmt: skip
    assert content(both[0]) == content(both[1])
    rows = content(both[0])[0].values()
    ends = [(0, row["train_length"], row["test_length"], len(row["item_ids"])) for row in rows]
    assert max(max(np.diff(end)) for end in ends) == 3  # of each period


def test_few_rows_become_a_layer_and_many_layers_one_file(base, days, tmp_path):
    root, _ = base
    files, result = days[:1], make(root, days[:1])
    layers = []
    for day in range(10):
        lines = [f"u{n},i{n},{86_400 * day + n},5" for n in range(day, day + 6)]
        text = "\n".join(["user_id,item_id,timestamp,rating", *lines])
        files = [*files, write_bytes(tmp_path / f"{day}.csv", text.encode())]
        before, result = result, make(root, files, base=result.dataset_id)
        layers.append(max(part["layers"] for part in parts_of(result)))
        for part in parts_of(result):
            kept = [layer_name(part["part"], n) for n in range(part["layers"] - 1)]
            for name in kept:  # nothing of the base is written again
                paths = [Path((r.location / "interactions" / name).path) for r in (before, result)]
                assert os.path.samefile(*paths)
    assert layers[:7] == list(range(2, 9))
    assert min(layers[7:]) < 8
    whole = make(root / "whole", files)
    assert content(result) == content(whole)
    assert interactions_of(result) == interactions_of(whole)


def test_more_rows_than_a_layer_may_have_are_merged_into_the_part(days, tmp_path):
    small = write_bytes(tmp_path / "small.csv", b"\n".join(days[0].read_bytes().splitlines()[:9]))
    filters = replace(FILTERS, min_user_interactions=1, min_item_interactions=1)
    first = make(tmp_path / "root", [small], filters)
    second = make(tmp_path / "root", [small, days[1]], filters, first.dataset_id)
    assert {part["layers"] for part in parts_of(second)} == {1}
    assert interactions_of(second) == interactions_of(make(tmp_path, [small, days[1]], filters))


def test_erased_users_leave_a_base_without_its_logs(base, days, tmp_path):
    """Whoever came with the first file, and whoever is in a layer only."""
    root, first = base
    second = make(root, days[:2], base=first.dataset_id)
    old, new = ({row["user_id"] for row in interactions_of(made)} for made in (first, second))
    names = {"u1", "u2", min(new - old)}
    erased = write_bytes(tmp_path / "erased.txt", "\n".join([*names, "nobody"]).encode())
    settings: dict[str, Any] = {"exclude_users": str(erased), "keep_reject_values": True}
    whole = make(root / "whole", days[:2], **settings)
    hidden = [day.with_suffix(".gone") for day in days[:2]]
    for day, aside in zip(days, hidden, strict=False):
        os.rename(day, aside)
    try:
        left = make(root, [], base=second.dataset_id, **settings)
    finally:
        for day, aside in zip(days, hidden, strict=False):
            os.rename(aside, day)
    assert content(left) == content(whole)
    assert {row["user_id"] for row in interactions_of(left)} == new - names
    assert left.manifest.rows.excluded > 0
    assert left.manifest.excluded_users == ExcludedUsers(
        listed=4, found=3, in_log=0, in_base=3, left_out_before=0
    )


def test_a_standing_list_matches_users_whom_an_earlier_night_left_out(tmp_path, capfd):
    header = b"user_id,item_id,timestamp\n"
    days = [
        write_bytes(tmp_path / f"{day}.csv", header + f"ann,x,{day}\nbob,y,{day}\n".encode())
        for day in (1, 2)
    ]
    days.append(write_bytes(tmp_path / "3.csv", header + b"cid,x,3\n"))
    listed = write_bytes(tmp_path / "erased.txt", b"bob\n")
    data = DataConfig(num_parts=2, exclude_users=str(listed))
    root = tmp_path / "root"
    first = make(root, days[:1], data)
    assert first.manifest.excluded_users == ExcludedUsers(listed=1, found=1)
    second = make(root, days[:2], data, first.dataset_id)
    third = make(root, days, data, second.dataset_id)
    for made, in_log in ((second, 1), (third, 0)):
        assert made.manifest.excluded_users == ExcludedUsers(
            listed=1, found=1, in_log=in_log, in_base=0, left_out_before=1
        )
    assert "1 of 1 listed users were found: 1 left out before" in capfd.readouterr().err
    write_bytes(tmp_path / "erased.txt", b"")
    empty = make(root, days, data, second.dataset_id)
    assert empty.manifest.excluded_users is not None
    assert empty.manifest.excluded_users.listed == 0
    assert "WARNING: data.exclude_users:" in capfd.readouterr().err
    write_bytes(tmp_path / "erased.txt", b"zoe\n")
    with pytest.raises(InputError, match="none of its 1 ids was found in the new files or dataset"):
        make(root, days, data, second.dataset_id)
    allowed = make(root, days, replace(data, allow_unmatched=True), second.dataset_id)
    assert allowed.manifest.excluded_users is not None
    assert allowed.manifest.excluded_users.found == 0


def test_refused_rows_of_erased_users_lose_their_values(tmp_path, capfd):
    log = write_bytes(
        tmp_path / "a.csv", b"user_id,item_id,timestamp\nann,x,1\nann,y,never\nbob,x,never\n"
    )
    data = DataConfig(num_parts=2, keep_reject_values=True, max_reject_fraction=None)
    first = make(tmp_path / "root", [log], data)

    def values(result):
        directory = result.location / "rejects"
        tables = [(directory / name).read_table() for name in directory.children()]
        return pa.concat_tables(tables).to_pylist()

    assert [row["values"] for row in values(first)] == [
        '{"user": "ann", "item": "y", "timestamp": "never"}',
        '{"user": "bob", "item": "x", "timestamp": "never"}',
    ]
    told = capfd.readouterr().err
    assert "rows refused: timestamp_invalid 2" in told
    assert "1 rows (100.00%) are from before 1990, the first of 1970-01-01" in told
    erased = write_bytes(tmp_path / "erased.txt", b"bob\n")
    second = make(tmp_path / "root", [], data, first.dataset_id, exclude_users=str(erased))
    told = capfd.readouterr().err  # what the base has is told there alone
    assert "rows refused: " not in told
    assert "before 1990" not in told
    assert [row["values"] is None for row in values(second)] == [False, True]
    assert [row["position"] for row in values(second)] == [row["position"] for row in values(first)]


def test_a_listed_file_that_changed_is_an_error_that_names_it(base, days, tmp_path):
    root, _ = base
    log = write_bytes(tmp_path / "a.csv", days[0].read_bytes())
    made = make(root, [log])
    write_bytes(log, days[0].read_bytes() + b"\nu1,i1,5,5\n")
    with pytest.raises(InputError, match=r"a\.csv: the file changed since dataset"):
        make(root, [log, days[1]], base=made.dataset_id)


def test_a_base_that_was_read_by_other_rules_is_refused(base, days):
    root, first = base
    with pytest.raises(ConfigError, match=r"data\.timestamp_unit is 'ms', but dataset"):
        make(root, days[:2], base=first.dataset_id, timestamp_unit="ms")


def test_a_base_of_another_format_is_refused(base, days, tmp_path):
    _, first = base
    copy = tmp_path / "datasets" / "old"
    shutil.copytree(Path(first.location.path), copy)
    manifest = first.location / "manifest.json"
    (copy / "manifest.json").write_text(json.dumps({**manifest.read_json(), "format_version": 1}))
    with pytest.raises(ConfigError, match=r"data\.base=old has format 1, .* without --base"):
        make(tmp_path, days[:2], base="old")


def test_the_examples_of_the_data_page_print_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "data.md"
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0
