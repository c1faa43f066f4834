"""Laws of logs with events, against brute force over the rows of each user."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsans.config import DataConfig
from lightsans.dataset.events import HOUR
from lightsans.dataset.held_out import Split, hold_out
from lightsans.dataset.loading import load_timed, load_trainable
from lightsans.preparation.temporal import Cutoffs
from lightsans.ranking.baselines import TransitionCounts
from lightsans.ranking.recent import training_rows
from lightsans.training.batches import RankEpoch
from tests.event_logs import (
    EVERYTHING,
    Row,
    event_data,
    event_kinds,
    event_rows,
    items_of,
    multiset,
    told_by_user,
    write_part,
)
from tests.models import small_config, small_run

SPLITS: tuple[Split, ...] = ("valid", "test")


@st.composite
def logs(draw, *, distinct):
    events = draw(event_kinds())
    cutoffs = draw(st.none() | st.just(Cutoffs(4, 7)))
    return draw(event_rows(events, distinct=distinct)), event_data(events), cutoffs


def batches_of(users, attention, max_seq_len=3, **train):
    config = small_run(small_config(attention=attention, max_seq_len=max_seq_len), **train)
    epoch = RankEpoch({0: users}, 0, config, 99)
    epoch.set_num_steps(epoch.longest_shard)
    return epoch, [epoch.batch(step) for step in range(epoch.longest_shard)]


def predictions(batches, trains_prefixes):
    """Inputs, target and weight of everything that batches teach."""
    for batch in batches:
        shape = batch.target_ids.shape
        weights = np.ones(shape) if batch.weights is None else batch.weights
        for place in np.argwhere(batch.target_ids):
            row = place[0]
            end = place[1] + 1 if trains_prefixes else batch.lengths[row]
            inputs = tuple(items_of(batch.item_ids[row, :end]))
            yield inputs, int(batch.target_ids[tuple(place)]), float(weights[tuple(place)])


@settings(max_examples=80, deadline=None)
@given(log=logs(distinct=True), attention=st.sampled_from(["causal", "masked", "reference"]))
def test_targets_are_learnt_from_the_inputs_before_them_alone(tmp_path_factory, log, attention):
    rows, data, cutoffs = log
    part = write_part(tmp_path_factory.mktemp("part") / "part-00000.parquet", rows, data, cutoffs)
    users = load_trainable(part)
    told = told_by_user(rows, data)
    expected = {item: inputs for user in told.values() for inputs, item in user.learnt(cutoffs)}
    weights = {row.item: data.events[row.event].weight for row in rows}
    epoch, batches = batches_of(users, attention, batch_size=2)
    found = list(predictions(batches, attention == "causal"))
    assert {item for _, item, _ in found} == set(expected)
    for inputs, item, weight in found:
        assert inputs == expected[item][-len(inputs) :]
        assert 1 <= len(inputs) <= 3
        assert weight == weights[item]
    if attention != "causal":
        assert Counter(item for _, item, _ in found) == Counter(expected.keys())
        assert all(len(inputs) == min(3, len(expected[item])) for inputs, item, _ in found)
    assert epoch.targets_per_step().sum() == len(found)
    assert epoch.weights_per_step().sum() == pytest.approx(sum(weight for *_, weight in found))


@settings(max_examples=80, deadline=None)
@given(log=logs(distinct=False), split=st.sampled_from(SPLITS))
def test_targets_are_held_out_with_the_inputs_before_them(tmp_path_factory, log, split):
    rows, data, cutoffs = log
    part = write_part(tmp_path_factory.mktemp("part") / "part-00000.parquet", rows, data, cutoffs)
    timed = load_timed(part, None, None)
    held_out = hold_out(timed.sequences, split)
    found = {}
    assert held_out.is_viewed is not None
    for at, user in enumerate(held_out.users):
        begin, end = held_out.starts[at], held_out.starts[at] + held_out.lengths[at]
        name = timed.user_ids[int(user)].as_py()
        history = held_out.item_ids[begin:end].tolist()
        found[name] = history, int(held_out.target_ids[at]), bool(held_out.is_viewed[at])
    expected = {}
    for name, user in told_by_user(rows, data).items():
        at, history = held_out_by_hand(user, split, cutoffs)
        is_trained = cutoffs is None or (user.inputs() and user.learnt_period(cutoffs))
        if at is None or not history or (split == "valid" and not is_trained):
            continue
        target = user.rows[at]
        is_viewed = any(
            row.item == target.item
            and row.time >= target.time - HOUR
            and data.events[row.event].input
            and not data.events[row.event].target
            for row in user.rows[:at]
        )
        expected[name] = history, target.item, is_viewed
    assert found == expected


def held_out_by_hand(user, split, cutoffs):
    """Place of the held-out target, and the items that it is predicted from."""
    if cutoffs is None:
        if len(user.usable()) < 2:
            return None, []
        at = user.targets()[-2 if split == "valid" else -1]
        return at, user.inputs(at)
    begin = cutoffs.valid_from if split == "valid" else cutoffs.test_from
    end = cutoffs.test_from if split == "valid" else 10**9
    places = [at for at in user.targets() if begin <= user.rows[at].time < end]
    before = sum(row.time < begin for row in user.rows)
    return (places[0] if places else None), user.inputs(before)


@settings(max_examples=50, deadline=None)
@given(log=logs(distinct=False))
def test_popularity_counts_targets_and_successors_follow_inputs(tmp_path_factory, log):
    rows, data, cutoffs = log
    part = write_part(tmp_path_factory.mktemp("part") / "part-00000.parquet", rows, data, cutoffs)
    timed = load_timed(part, None, None)
    counts = TransitionCounts.count(timed.sequences, 4)
    trained = [
        (user, at) for user in told_by_user(rows, data).values() for at in user.trained(cutoffs)
    ]
    popular = Counter(user.rows[at].item for user, at in trained)
    assert counts.popularity.tolist() == [popular[item] for item in range(5)]
    pairs = Counter(
        (user.inputs(at)[-1], user.rows[at].item) for user, at in trained if user.inputs(at)
    )
    codes = dict(zip(counts.pairs.tolist(), counts.pair_counts.tolist(), strict=True))
    assert codes == {a * 5 + b: count for (a, b), count in pairs.items()}
    recent = training_rows(timed.sequences, timed.timestamps)
    times = multiset((user.rows[at].time, user.rows[at].item) for user, at in trained)
    assert multiset(zip(recent.times.tolist(), recent.item_ids.tolist(), strict=True)) == times


@settings(max_examples=50, deadline=None)
@given(log=logs(distinct=False))
def test_items_are_seen_by_their_events_with_the_last_time_of_each(tmp_path_factory, log):
    rows, data, cutoffs = log
    part = write_part(tmp_path_factory.mktemp("part") / "part-00000.parquet", rows, data, cutoffs)
    table = pq.read_table(part.path)
    for name, user in told_by_user(rows, data).items():
        [found] = table.filter(np.array(table["user_id"].to_pylist()) == name).to_pylist()
        last = {
            (row.item, data.event_names.index(row.event) + 1): row.time
            for row in user.rows
            if data.events[row.event].seen
        }
        keys = zip(found["also_seen"], found["seen_events"], strict=True)
        assert dict(zip(keys, found["seen_times"], strict=True)) == last
        assert found["item_ids"] == user.inputs()


@settings(max_examples=40, deadline=None)
@given(
    rows=event_rows({"any": EVERYTHING}, distinct=False),
    attention=st.sampled_from(["causal", "masked"]),
    is_temporal=st.booleans(),
)
def test_one_event_that_is_everything_is_a_log_without_events(
    tmp_path_factory, rows, attention, is_temporal
):
    cutoffs = Cutoffs(4, 7) if is_temporal else None
    directory = tmp_path_factory.mktemp("parts")
    with_events, plain = (
        load_trainable(write_part(directory / name, rows, data, cutoffs))
        for name, data in (("a", event_data({"any": EVERYTHING})), ("b", DataConfig()))
    )
    assert plain.targets is None
    for ours, theirs in zip(
        batches_of(with_events, attention)[1], batches_of(plain, attention)[1], strict=True
    ):
        assert ours.item_ids.tolist() == theirs.item_ids.tolist()
        assert ours.target_ids.tolist() == theirs.target_ids.tolist()
        assert ours.weights is None
    for split in SPLITS:
        ours, theirs = hold_out(with_events, split), hold_out(plain, split)
        for name in ("item_ids", "starts", "lengths", "target_ids", "users"):
            assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    ours, theirs = (TransitionCounts.count(users, 4) for users in (with_events, plain))
    for name in ("popularity", "pairs", "pair_counts"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert with_events.train_lengths.tolist() == plain.train_lengths.tolist()


def test_rows_of_one_moment_are_in_the_order_of_the_input(tmp_path):
    """A view at the time of a purchase is an input of it only where it comes before it."""
    data = event_data(
        {"buy": replace(EVERYTHING, input=False), "view": replace(EVERYTHING, target=False)}
    )
    rows = [Row("a", 1, 5, "view"), Row("a", 2, 5, "buy"), Row("a", 3, 5, "view")]
    users = load_trainable(write_part(tmp_path / "a", rows, data))
    [batch] = batches_of(users, "causal")[1]
    assert list(predictions([batch], True)) == [((1,), 2, 1.0)]
