"""Records of saved recommenders, of this version and others."""

import pytest

from lightsans.config import RunConfig, to_dict
from lightsans.errors import InputError, NotFoundError
from lightsans.in_process.saved import FORMAT_VERSION, RECORD, SavedRecommender, read_saved
from lightsans.storage.records import to_json
from tests.factories import local


def test_a_directory_that_was_not_saved_is_not_read(tmp_path):
    with pytest.raises(NotFoundError, match=r"recommender\.json: not found; expected a directory"):
        read_saved(local(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, r"format_version is 2, and this .* reads 1; load"),
        ({"config": {"tomorrow": 1}}, r"unknown setting tomorrow .* written by another version"),
        ({"model_id": None}, "model_id is None; expected text"),
        ({"library": "cudf"}, "library is 'cudf'; expected one of pandas, polars, arrow"),
    ],
)
def test_a_record_of_another_version_is_named(tmp_path, change, message):
    record = SavedRecommender(
        format_version=FORMAT_VERSION,
        dataset_id="d",
        model_id="m",
        library="arrow",
        config=to_dict(RunConfig()),
    )
    directory = local(tmp_path)
    (directory / RECORD).write_json(to_json(record))
    assert read_saved(directory) == (record, RunConfig())
    (directory / RECORD).write_json(to_json(record) | change)
    with pytest.raises(InputError, match=rf"recommender\.json: .*{message}"):
        read_saved(directory)
