"""Notes on finished parts: what a later attempt adopts, and who may write them."""

import pytest

from lightsans.errors import InputError, LeaseError
from lightsans.preparation.part_files import save_interactions
from lightsans.reading.rejects import RowCounts
from pipelines.preprocess.parts import Draft, Part
from pipelines.preprocess.records import Interactions, PartNote
from pipelines.session.lease import Owner, hold
from tests.factories import local, rated_5, sorted_part


@pytest.fixture
def draft(tmp_path):
    dataset = local(tmp_path / "dataset")
    return Draft(dataset, Owner(dataset / "lease.json", None))


def rows(*items):
    return sorted_part(rated_5(*(("ann", item) for item in items)))


def names(draft, directory):
    return sorted((draft.dataset / directory).children())


def test_only_notes_whose_files_have_the_noted_size_are_adopted(draft):
    kept = draft.write_part(0, rows("a"))
    draft.write_part(1, rows("a", "b"))
    draft.write_part(2, rows("a", "b", "c"))
    (draft.dataset / "interactions" / "part-00001.parquet").delete()  # as another run swept it
    (draft.dataset / "interactions" / "part-00002.parquet").write_bytes(b"half a file")
    (draft.dataset / "interactions" / "part-00003.parquet").write_bytes(b"without a note")
    assert draft.finished_parts() == [kept]
    assert names(draft, "interactions") == ["part-00000.parquet"]
    assert names(draft, "_work") == ["part-00000.json"]


def test_a_part_of_which_everything_was_erased_needs_no_file(draft):
    part = draft.write_part(4, rows("a").slice(0, 0), erased=3)
    assert draft.finished_parts() == [part]


def test_a_marker_counts_only_while_its_files_are_there(draft):
    made = Interactions(
        counts=RowCounts(),
        user_id_type="string",
        item_id_type="string",
        parts=[draft.write_part(0, rows("a")), draft.write_part(1, rows("b"))],
    )
    draft.write_marker(made)
    assert draft.read_marker() == made
    (draft.dataset / "interactions" / "part-00001.parquet").delete()
    assert draft.read_marker() is None


def test_noted_sequences_are_known_by_one_listing_among_other_notes(draft):
    assert draft.sequences_notes() == set()
    draft.write_part(3, rows("a"))
    (draft.work / "sequences-00002.json").write_json({})
    (draft.work / "sequences-00011.json").write_json({})
    assert draft.sequences_notes() == {2, 11}


def test_part_notes_are_read_as_they_were_always_written():
    content = {
        "part": 3, "layers": 2, "rows": 9, "oldest": 1, "newest": 5, "erased": 0, "linked": 1,
    }  # fmt: skip
    note = PartNote.from_json(content)
    assert note.is_linked is True
    assert note.to_json() == content
    assert note.with_layer(1, 0, 4) == PartNote(3, 3, 10, 0, 5)


def test_a_worker_whose_owner_lost_the_lease_notes_nothing_more(tmp_path):
    dataset = local(tmp_path / "dataset")
    (dataset / "x").parent.require_directory()
    lease = dataset / "lease.json"
    with hold(lease, "the first", 60) as first:
        old = Draft(dataset, Owner(lease, first.token))
        old.write_part(0, rows("a"))
    with hold(lease, "the second", 60) as second:
        with pytest.raises(LeaseError, match="this worker writes nothing more"):
            old.write_part(1, rows("b"))
        new = Draft(dataset, Owner(lease, second.token))
        assert [part.number for part in new.finished_parts()] == [0]
        assert names(new, "interactions") == ["part-00000.parquet"]


@pytest.mark.parametrize("other", [[1, 2], [1, 2, 4]], ids=["fewer rows", "another time"])
def test_a_part_whose_rows_were_replaced_is_named(draft, other):
    def timed(*times):
        return sorted_part([("ann", f"i{time}", time, 5.0) for time in times])

    part = Part.of(draft.write_part(0, timed(1, 2, 3)))
    assert part.load(draft.dataset).num_rows == 3
    save_interactions(draft.dataset / "interactions" / "part-00000.parquet", timed(*other))
    with pytest.raises(InputError, match=r"part-00000\.parquet: other rows than the dataset was"):
        part.load(draft.dataset)
