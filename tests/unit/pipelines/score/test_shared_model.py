"""Scoring processes share one copy of the items."""

import numpy as np
import pytest

from pipelines.score.shared_model import Shared, pack, unpack
from tests.factories import sequences_of
from tests.models import small_list_maker


@pytest.mark.parametrize("eligible", [None, np.arange(1, 900)])
def test_an_unpacked_recommender_is_the_same_and_owns_no_copy_of_the_items(eligible):
    list_maker = small_list_maker(eligible)
    packed = pack(Shared(list_maker, None))
    size = sum(buffer.nbytes for buffer in packed.buffers)
    table = list_maker._model.item_table().nbytes
    # The table once, not again without padding; the index rounded, or of some items only.
    assert table < size < 2.6 * table
    assert len(packed.content) < 50_000
    again = unpack(packed).list_maker
    histories = sequences_of([5, 7], [9], [])
    none = sequences_of([], [], [])
    expected, found = list_maker.recommend(histories, none), again.recommend(histories, none)
    assert found.item_ids.to_pylist() == expected.item_ids.to_pylist()
    assert found.source.to_pylist() == ["model", "model", "popular"]
    address = again._model.item_table().data_ptr()
    assert any(buffer.ctypes.data == address for buffer in packed.buffers)
