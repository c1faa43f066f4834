"""Lists of a few users in two runs, whatever their parts and layouts."""

import pyarrow as pa
import pytest

from lightsans.columns.hashing import bucket_range, user_buckets
from lightsans.config.file import load_config
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import InputError
from lightsans.storage.manifests import write_manifest
from lightsans.storage.parts import part_name
from lightsans.storage.schemas import recommendations_schema
from lightsans.synthetic.directories import write_synthetic_dataset
from pipelines.operations.lists import compare_lists, titles_of
from tests.factories import local
from tests.manifests import run_file, run_manifest, run_part

USERS = [f"user-{number}" for number in range(40)]


def write_run(root, name, num_parts, lists):
    """A run of some users' lists, by user, in order of their buckets."""
    schema = recommendations_schema(pa.string(), pa.string())
    buckets = dict(zip(lists, user_buckets(pa.array(list(lists))).tolist(), strict=True))
    parts = []
    for part in range(num_parts):
        first, end = bucket_range(part, num_parts)
        users = sorted((u for u in lists if first <= buckets[u] < end), key=buckets.__getitem__)
        rows = [
            {"user_id": u, "item_ids": lists[u], "scores": [1.0] * len(lists[u]), "source": "model"}
            for u in users
        ]
        path = part_name(part)
        (root / "recommendations" / name / path).write_table(pa.Table.from_pylist(rows, schema))
        file = run_file(root / "recommendations" / name, path, len(rows))
        parts.append(run_part(path, users=len(rows), files=(file,)))
    manifest = run_manifest(name, num_parts=num_parts, parts=tuple(parts))
    write_manifest(root / "recommendations" / name, manifest)


@pytest.fixture
def root(tmp_path):
    root = local(tmp_path)
    write_run(root, "new", 3, {user: ["b", f"only-{user}"] for user in USERS})
    write_run(root, "old", 5, {user: ["a", "b"] for user in USERS[::2]})
    return root


def test_a_users_lists_stand_side_by_side_whatever_the_parts(root):
    found = compare_lists(root, "new", "old", 12, {"b": "Bread", "a": "Apples"})
    assert len(found) == 12
    assert len({lists.user for lists in found}) == 12
    for lists in found:
        assert lists.after == [("b", "Bread"), (f"only-{lists.user}", "")]
        was_there = lists.user in USERS[::2]
        assert lists.before == ([("a", "Apples"), ("b", "Bread")] if was_there else [])


def test_the_same_users_are_shown_every_night(root):
    write_run(root, "next", 7, {user: ["c"] for user in USERS})
    ours, theirs = (compare_lists(root, name, None, 5, {}) for name in ("new", "next"))
    assert [lists.user for lists in ours] == [lists.user for lists in theirs]


def test_without_a_run_before_or_without_users_nothing_fails(root):
    assert compare_lists(root, "new", None, 3, {})[0].before == []
    assert compare_lists(root, "new", "removed", 3, {})[0].before == []
    assert compare_lists(root, "new", "old", 0, {}) == []
    assert compare_lists(root, "removed", "old", 3, {}) == []
    assert len(compare_lists(root, "new", "old", 1000, {})) == len(USERS)


def test_titles_come_from_their_table_or_from_that_of_the_items(root, tmp_path):
    write_synthetic_dataset(root / "datasets" / "d", 20, 10, history=5, num_parts=1, newcomers=0)
    one, two, *_ = load_vocabulary(root / "datasets" / "d").raw_item_ids.to_pylist()
    table = tmp_path / "items.csv"
    table.write_text(f"item_id,title,other\n{one},One,Une\n{two},Two,Deux\n")
    base = [f"root={root}"]
    assert titles_of(load_config(None, base).config, "d") == {}
    for setting in ("nightly.titles", "score.item_table"):
        more = [f"{setting}={table}"]
        if setting == "score.item_table":
            more.append("score.eligible_column=title")
        assert titles_of(load_config(None, [*base, *more]).config, "d")[str(one)] == "One"
    other = [f"nightly.titles={table}", "nightly.title_column=other"]
    assert titles_of(load_config(None, [*base, *other]).config, "d")[str(two)] == "Deux"
    table.write_text("item_id,price\n1,2\n")
    with pytest.raises(InputError, match=r"nightly.titles .*use nightly.title_column"):
        titles_of(load_config(None, [*base, f"nightly.titles={table}"]).config, "d")
