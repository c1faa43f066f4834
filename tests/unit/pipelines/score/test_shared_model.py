"""What scoring processes share: one copy of the items."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightsans import LightSANs, ModelConfig
from lightsans.dataset.sequences import UserSequences
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.recommendations.recommender import Recommender
from pipelines.score.shared_model import Shared, pack, unpack


def make_recommender(eligible) -> Recommender:
    torch.manual_seed(0)
    config = ModelConfig(hidden_size=32, inner_size=8, n_layers=1, max_seq_len=5)
    items = Vocabulary(pa.array([f"i{i}" for i in range(2000)]), np.arange(2000, 0, -1))
    return Recommender(
        LightSANs(config, 2000), items, items, None, k=5, remove_seen=True,
        eligible_ids=eligible, eligible_popular_ids=eligible,
    )  # fmt: skip


@pytest.mark.parametrize("eligible", [None, np.arange(1, 900)])
def test_an_unpacked_recommender_is_the_same_and_owns_no_copy_of_the_items(eligible):
    recommender = make_recommender(eligible)
    packed = pack(Shared(recommender, None))
    size = sum(buffer.nbytes for buffer in packed.buffers)
    table = recommender._model.item_table().nbytes
    # The table once, not again without padding; the index rounded, or of some items only.
    assert table < size < 2.6 * table
    assert len(packed.content) < 50_000
    again = unpack(packed).recommender
    histories = UserSequences(np.array([5, 7, 9], np.int32), np.array([0, 2, 3, 3]))
    none = UserSequences(np.zeros(0, np.int32), np.zeros(4, np.int64))
    expected, found = recommender.recommend(histories, none), again.recommend(histories, none)
    assert found.item_ids.to_pylist() == expected.item_ids.to_pylist()
    assert found.source.to_pylist() == ["model", "model", "popular"]
    address = again._model.item_table().data_ptr()
    assert any(buffer.ctypes.data == address for buffer in packed.buffers)
