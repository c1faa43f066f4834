"""Files that are replaced only by who knows their version."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError
from lightsans.storage.conditional_writes import Versioned, read_versioned, write_if_unchanged
from lightsans.storage.location import locate
from tests.factories import local


@pytest.fixture
def location(tmp_path):
    return local(tmp_path) / "locks" / "nightly.json"


def test_a_file_is_created_once_and_replaced_only_by_who_knows_its_version(location):
    assert read_versioned(location) is None
    first = write_if_unchanged(location, b"one", None)
    assert first is not None
    assert write_if_unchanged(location, b"two", None) is None
    second = write_if_unchanged(location, b"two", first)
    assert second is not None
    assert write_if_unchanged(location, b"three", first) is None
    assert read_versioned(location) == Versioned(b"two", second)


def test_a_write_whose_content_is_there_already_counts_as_done(location):
    version = write_if_unchanged(location, b"same", None)
    assert write_if_unchanged(location, b"same", None) == version


def test_of_many_who_write_at_once_one_succeeds(location):
    version = None
    for attempt in range(20):
        contents = [b"%d-%d" % (attempt, writer) for writer in range(8)]
        with ThreadPoolExecutor(8) as pool:
            versions = list(
                pool.map(lambda c, v=version: write_if_unchanged(location, c, v), contents)
            )
        winners = [i for i, made in enumerate(versions) if made is not None]
        assert len(winners) == 1
        version = versions[winners[0]]
        assert location.read_bytes() == contents[winners[0]]


def test_conditional_writes_leave_nothing_visible_beside_the_file(location):
    write_if_unchanged(location, b"x", None)
    assert location.parent.children() == ["nightly.json"]


def test_storage_without_conditional_writes_is_refused_by_name():
    place = locate("memory://bucket/x", StorageConfig())
    with pytest.raises(ConfigError, match=r"memory://bucket/x.*set root to a local path, s3://"):
        read_versioned(place)
