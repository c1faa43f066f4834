"""The directory of a recommender and its copies."""

import copy
import pickle

import pytest

from lightsans import NotFoundError
from lightsans.in_process.shared_directory import SharedDirectory


def test_it_goes_with_the_last_copy_and_what_was_pickled_needs_it():
    first = SharedDirectory()
    path, content = first.path, pickle.dumps(first)
    last = copy.deepcopy({"of": copy.copy(first)})
    del first
    assert pickle.loads(content).path == path
    assert path.exists()  # the one that was unpickled was not the last
    del last
    assert not path.exists()
    with pytest.raises(NotFoundError, match=r"went with the object.*Recommender.save"):
        pickle.loads(content)
