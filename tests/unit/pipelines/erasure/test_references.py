"""References to replaced results, and pages that show erased users."""

from lightsans.reports.night_page import (
    SECTIONS,
    NightPage,
    UserLists,
    remove_users,
    render_night,
)
from lightsans.storage.manifests import write_manifest
from pipelines.erasure.references import (
    publish_replacements,
    rename_in_backtests,
    rename_in_reports,
)
from pipelines.publish import publish_run, read_published, roll_back
from tests.factories import local
from tests.manifests import dataset_manifest, run_manifest


def published_root(tmp_path):
    """A root with the runs ``one`` and ``two`` and their replacements; two was rolled back."""
    root = local(tmp_path)
    write_manifest(root / "datasets" / "d", dataset_manifest("d"))
    for name in ("one", "two", "new-one", "new-two"):
        write_manifest(root / "recommendations" / name, run_manifest(name))
    for name in ("one", "two"):
        publish_run(read_published(root), name)
    roll_back(read_published(root))
    return root


def test_replacements_are_published_and_rollbacks_keep_their_meaning(tmp_path):
    root = published_root(tmp_path)
    assert publish_replacements(root, {"one": "new-one", "two": "new-two"})
    after = read_published(root)
    assert after.run_id == "new-one"
    assert [entry.run_id for entry in after.history] == ["new-one", "new-two", "new-one"]
    assert after.waiting is not None
    assert after.withdrawn("new-two") is not None
    assert not publish_replacements(root, {"one": "new-one", "two": "new-two"})


def test_a_history_of_which_the_pointer_knows_nothing_yet_is_mended_by_the_same_call(tmp_path):
    """As after a kill between the two writes."""
    root = published_root(tmp_path)
    publish_replacements(root, {"one": "new-one", "two": "new-two"})
    (root / "recommendations" / "LATEST").write_bytes(b"one")
    assert publish_replacements(root, {"one": "new-one", "two": "new-two"})
    assert read_published(root).waiting is not None


def test_reports_of_nights_name_the_replacements(tmp_path):
    root = local(tmp_path)
    old, new = "0123456789ab", "ba9876543210"
    texts = {
        "reports/nightly-2026-01-01.json": f'{{"evaluations": ["evaluate-{old}"]}}',
        "reports/nights/2026-01-01/x.json": f'{{"run_id": "{old}", "sha": "{old}c"}}',
        "reports/index.html": f"Published is run {old}.",
        "backtest/2026-01-01.json": f'{{"published": "{old}"}}',
        "models/m/manifest.json": f'{{"dataset_id": "{old}"}}',
    }
    for path, text in texts.items():
        (root / path).write_bytes(text.encode())
    assert rename_in_reports(root, {old: new}) == 4
    for path, text in texts.items():
        expected = text.replace(old, new).replace(f"{new}c", f"{old}c")
        is_model = path.startswith("models/")
        assert (root / path).read_bytes().decode() == (text if is_model else expected)
    assert rename_in_reports(root, {old: new}) == 0


def test_the_report_of_a_whole_backtest_names_the_replacements(tmp_path):
    root = local(tmp_path)
    old, new = "0123456789ab", "ba9876543210"
    for name in ("report.json", "nights.csv"):
        (root / "backtests" / old / name).write_bytes(f"published {old}".encode())
    (root / "backtests" / "another" / "weekly" / "reports" / "x").write_bytes(old.encode())
    assert rename_in_backtests(root, {old: new}) == 2
    for name in ("report.json", "nights.csv"):
        assert (root / "backtests" / old / name).read_bytes().decode() == f"published {new}"
    assert rename_in_backtests(root, {old: new}) == 0


def page_of(*users: str) -> str:
    lists = [
        UserLists(user=user, source="model", before=[("x", f"old of {user}")], after=[("y", "")])
        for user in users
    ]
    page = NightPage(
        date="2026-01-01", outcome="published", reason="", facts=[], decisions=[], tables={},
        notes={}, pictures={}, lists=lists,
    )  # fmt: skip
    return render_night(page, str)


def test_users_leave_pages_with_their_lists_and_nothing_else_does():
    page = page_of("7", "a <b> & c", "17")
    left, removed = remove_users(page, {"7", "a <b> & c", "1"})
    assert removed == 2
    assert "User 17 (model)" in left
    assert "old of 17" in left
    assert "old of 7" not in left
    assert "a &lt;b&gt;" not in left
    assert all(f'<section id="{section}">' in left for section, _ in SECTIONS)
    assert remove_users(left, {"7", "a <b> & c"}) == (left, 0)
    nobody, _ = remove_users(left, {"17"})
    assert "<h3>User" not in nobody
    assert page.count("<div") - page.count("</div") == nobody.count("<div") - nobody.count("</div")
