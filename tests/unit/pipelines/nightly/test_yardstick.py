from dataclasses import replace
from datetime import UTC, datetime

from pipelines.nightly.yardstick import base_of_night
from pipelines.preprocess.parts import FORMAT_VERSION, format_version
from tests.manifests import dataset_manifest

FIFTH, SIXTH = datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 11, 6, tzinfo=UTC)
MANIFEST = dataset_manifest("today", base="before", format_version=FORMAT_VERSION)


def test_a_night_adds_to_the_dataset_of_the_published_run():
    assert base_of_night(MANIFEST, FIFTH.isoformat(), SIXTH) == "today"


def test_the_same_night_again_asks_for_the_dataset_that_it_has():
    assert base_of_night(MANIFEST, FIFTH.isoformat(), FIFTH) == "before"
    assert base_of_night(replace(MANIFEST, base=None), FIFTH.isoformat(), FIFTH) is None


def test_a_backfill_or_a_removed_dataset_reads_everything():
    assert base_of_night(MANIFEST, SIXTH.isoformat(), FIFTH) is None
    assert base_of_night(None, FIFTH.isoformat(), SIXTH) is None
    assert base_of_night(MANIFEST, None, SIXTH) is None


def test_a_dataset_of_an_earlier_release_is_made_anew():
    old = replace(MANIFEST, format_version=FORMAT_VERSION - 1)
    assert base_of_night(old, FIFTH.isoformat(), SIXTH) is None
    assert base_of_night(old, FIFTH.isoformat(), FIFTH) is None


def test_a_dataset_with_events_which_has_a_version_of_its_own_is_added_to():
    data = {**MANIFEST.data, "events": {"buy": {"input": True, "target": True}}}
    own = replace(MANIFEST, data=data, format_version=format_version(data["events"]))
    assert base_of_night(own, FIFTH.isoformat(), SIXTH) == "today"
    assert base_of_night(own, FIFTH.isoformat(), FIFTH) == "before"
    old = replace(own, format_version=FORMAT_VERSION)
    assert base_of_night(old, FIFTH.isoformat(), SIXTH) is None


def test_after_a_refit_the_next_night_adds_to_what_was_refitted_on():
    """And the same night again asks for the base of the dataset with held-out items."""
    full = dataset_manifest(
        "full", base="judged", data={"as_of": None, "split": "none"}, format_version=FORMAT_VERSION
    )
    judged = replace(MANIFEST, id="judged")
    assert base_of_night(full, FIFTH.isoformat(), SIXTH, judged) == "full"
    assert base_of_night(full, FIFTH.isoformat(), FIFTH, judged) == "before"
    assert base_of_night(full, FIFTH.isoformat(), FIFTH, None) is None  # it was removed
