"""Publications, rollbacks, and results that --force may not take away."""

from dataclasses import replace

import pytest

from lightsans.errors import ConfigError, NotFoundError, PublishError
from lightsans.storage.manifest_kinds import JudgedModel
from lightsans.storage.manifests import write_manifest
from pipelines.console.exit_status import ExitStatus, status_of
from pipelines.publish import (
    latest_run_id,
    publish_run,
    read_published,
    require_unpublished,
    resume,
    roll_back,
)
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest, run_manifest


@pytest.fixture
def root(tmp_path):
    """Runs a to d, without parts; run a was made from a model of another dataset, a refit."""
    root = local(tmp_path)
    for name in "abcd":
        manifest = run_manifest(name, dataset_id=f"data-{name}", model_id=f"model-{name}")
        if name == "a":
            judged = JudgedModel(
                model_id="judged-a", weights_sha256="ab", dataset_id="cut-a", method="full"
            )
            manifest = replace(manifest, judged=judged)
        run = root / "recommendations" / name
        write_manifest(run, manifest)
        (run / "part-00000.parquet").write_bytes(b"rows")
        trained_on = "data-old" if name == "a" else f"data-{name}"
        write_manifest(root / "models" / f"model-{name}", model_manifest(dataset_id=trained_on))
    return root


def publish(root, names):
    for name in names:
        publish_run(read_published(root), name)


def test_publishing_the_published_run_again_changes_nothing(root):
    publish(root, "ab")
    before = read_published(root)
    made = publish_run(before, "b")
    assert made == before.current
    assert read_published(root) == before
    assert roll_back(read_published(root)).run_id == "a"


def test_a_run_that_is_published_again_keeps_its_date_though_its_dataset_is_gone(root):
    """Without it an older night would take its place, and none would find its base."""
    dataset = root / "datasets" / "data-a"
    data = {**dataset_manifest().data, "as_of": "2025-11-02", "timezone": "UTC"}
    write_manifest(dataset, dataset_manifest("data-a", data=data))
    publish(root, "ab")
    dataset.delete()
    publish(root, "a")
    current = read_published(root).current
    assert current is not None
    assert (current.number, current.as_of) == (3, "2025-11-02T00:00:00+00:00")


def test_rollbacks_go_back_one_run_each(root):
    publish(root, "abcd")
    assert [roll_back(read_published(root)).run_id for _ in range(3)] == ["c", "b", "a"]
    with pytest.raises(NotFoundError, match="nothing was published before a"):
        roll_back(read_published(root))


def test_a_history_in_which_a_run_was_published_twice_goes_back_to_another_run(root):
    publish(root, "ab")
    history = root / "recommendations" / "history.json"
    content = history.read_json()
    again = {**content["publications"][-1], "number": 3, "instead_of": "b", "previous": 2}
    history.write_json({"publications": [*content["publications"], again]})
    assert roll_back(read_published(root)).run_id == "a"


def test_a_withdrawn_run_is_not_brought_back_by_a_later_rollback(root):
    publish(root, "aba")
    assert roll_back(read_published(root)).run_id == "b"
    with pytest.raises(NotFoundError, match="nothing was published before b"):
        roll_back(read_published(root))  # a was withdrawn a moment ago
    publish(root, "c")
    assert roll_back(read_published(root)).run_id == "b"


def test_a_run_that_was_published_again_after_its_rollback_counts_again(root):
    publish(root, "ab")
    roll_back(read_published(root))
    publish(root, "bc")
    assert roll_back(read_published(root)).run_id == "b"
    assert roll_back(read_published(root)).run_id == "a"


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        ("recommendations/a", "run a is published .* from its readers"),
        ("datasets/data-a", "published run a was made from dataset data-a"),
        ("models/model-a", "published run a was made from model model-a"),
        ("datasets/data-old", "published run a was made from dataset data-old"),
        ("models/judged-a", "published run a was made from model judged-a"),
        ("datasets/cut-a", "published run a was made from dataset cut-a"),
    ],
)
def test_what_the_published_run_needs_is_not_forced_away(root, directory, reason):
    publish(root, "ba")
    kind, name = directory.split("/")
    with pytest.raises(ConfigError, match=f"{reason}.*publish another run first"):
        require_unpublished(root, root / kind / name)
    publish(root, "b")
    require_unpublished(root, root / kind / name)


def test_without_a_published_run_everything_may_be_forced(root):
    assert latest_run_id(root) is None
    require_unpublished(root, root / "recommendations" / "a")


def test_of_two_who_publish_at_once_one_is_told_that_it_is_busy(root):
    before = read_published(root)
    publish(root, "a")
    with pytest.raises(PublishError, match="somebody else is publishing") as raised:
        publish_run(before, "b")
    assert status_of(raised.value) == ExitStatus.BUSY


def test_without_anything_published_a_rollback_is_a_mistake(root):
    with pytest.raises(NotFoundError, match="nothing was published before anything") as raised:
        roll_back(read_published(root))
    assert status_of(raised.value) == ExitStatus.USAGE


def test_nights_wait_after_a_rollback_until_they_are_resumed_or_something_is_published(root):
    publish(root, "abc")
    assert read_published(root).waiting is None
    rolled_back = roll_back(read_published(root))
    assert read_published(root).waiting == rolled_back
    made = resume(read_published(root))
    assert made is not None
    assert (made.action, made.run_id, latest_run_id(root)) == ("resume", "b", "b")
    assert read_published(root).waiting is None
    assert resume(read_published(root)) is None
    # What was withdrawn stays so, and rollbacks go on from where they were.
    assert read_published(root).withdrawn("c") == rolled_back
    assert roll_back(read_published(root)).run_id == "a"
    assert read_published(root).waiting is not None
    publish(root, "d")
    assert read_published(root).waiting is None
    rolled_back = roll_back(read_published(root))
    publish(root, rolled_back.run_id)  # whoever insists on what is there
    assert read_published(root).waiting is None
    assert read_published(root).withdrawn("d") == rolled_back
    after = read_published(root)
    publish(root, rolled_back.run_id)
    assert read_published(root) == after
