"""Nothing looks ahead: items are numbered by their place in time, so later is larger."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightsans.config import ModelConfig, RunConfig, TrainConfig
from lightsans.config.kinds import ATTENTION
from lightsans.dataset.held_out import hold_out
from lightsans.training.batches import RankEpoch
from tests import strategies


@pytest.mark.parametrize("attention", ATTENTION)
@given(
    users=strategies.USERS,
    max_seq_len=st.integers(1, 9),
    stride=st.none() | st.integers(1, 9),
    epoch=st.integers(0, 3),
)
def test_no_input_is_later_than_its_target_and_nothing_held_out_is_learnt(
    attention, users, max_seq_len, stride, epoch
):
    config = RunConfig(
        model=ModelConfig(attention=attention, max_seq_len=max_seq_len),
        train=TrainConfig(
            virtual_shards=1,
            num_workers=1,
            batch_size=4,
            window_stride=None if stride is None else min(stride, max_seq_len),
        ),
    )
    plan = RankEpoch({0: users}, epoch, config, num_items=len(users.item_ids) + 1)
    plan.set_num_steps(plan.longest_shard)
    learnt: set[int] = set()
    for step in range(plan.longest_shard):
        batch = plan.batch(step)
        for inputs, length, targets in zip(
            batch.item_ids.tolist(), batch.lengths.tolist(), batch.target_ids, strict=True
        ):
            last = inputs[length - 1]
            assert inputs[:length] == list(range(last - length + 1, last + 1))
            expected = [item + 1 for item in inputs[:length]] if targets.ndim else [last + 1]
            assert np.atleast_1d(targets)[: len(expected)].tolist() == expected
            learnt.update(inputs[:length], expected)
    ends = [(end, length) for end, length in zip(users.offsets[1:], users.lengths, strict=True)]
    held_out = {int(end) - back for end, length in ends if length >= 3 for back in (0, 1)}
    assert not learnt & held_out


@given(users=strategies.USERS)
def test_a_history_ends_where_its_target_comes_next(users):
    for split, back in (("valid", 1), ("test", 0)):
        found = hold_out(users, split)  # type: ignore[arg-type]
        for start, length, target in zip(
            found.starts, found.lengths, found.target_ids, strict=True
        ):
            assert found.item_ids[start : start + length][-1] + 1 == target
            assert target + back in users.offsets  # the end of a user's sequence
        assert len(found.lengths) == int((users.lengths >= 3).sum())
