"""Laws of the model, the metrics and the ranking, for histories and scores of every kind."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightsans import LightSANs
from lightsans.config.kinds import ATTENTION
from lightsans.ranking.metrics import RankingTotals, exclude_seen, target_ranks
from lightsans.ranking.top_k import top_k
from tests import strategies
from tests.models import small_model
from tests.oracle import require_exact_item_context

NUM_ITEMS, MAX_SEQ_LEN = 9, 6
Histories = list[list[int]]

HISTORIES = strategies.batches(NUM_ITEMS, most=MAX_SEQ_LEN + 3)


def make_model(attention) -> LightSANs:
    torch.manual_seed(3)
    sizes = {"max_seq_len": MAX_SEQ_LEN, "k_interests": 2, "initializer_range": 0.5}
    return small_model(NUM_ITEMS, attention=attention, **sizes).eval()


MODELS = {kind: make_model(kind) for kind in ATTENTION}


def padded(rows: Histories, extra: int = 0) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows) + extra
    item_ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], dtype=torch.int64)
    return item_ids.view(len(rows), width), torch.tensor([len(row) for row in rows])


@pytest.mark.parametrize("attention", ["causal", "masked"])
@given(rows=HISTORIES, scale=st.floats(-1e6, 1e6, width=32))
@settings(max_examples=30)
def test_the_padding_row_never_changes_a_score(attention, rows, scale):
    model = MODELS[attention]
    before = model.score_items(*padded(rows))
    model.item_table()[0] = scale * torch.linspace(-1, 2, model.config.hidden_size)
    after = model.score_items(*padded(rows))
    model.item_table()[0] = 0.0
    assert torch.equal(before, after)


@pytest.mark.parametrize("attention", MODELS)
@given(rows=HISTORIES, extra=st.integers(0, 4))
@settings(max_examples=30)
def test_vectors_depend_neither_on_the_width_nor_on_the_other_rows(attention, rows, extra):
    vectors = MODELS[attention].encode(*padded(rows, extra))
    alone = torch.cat([MODELS[attention].encode(*padded([row])) for row in rows])
    torch.testing.assert_close(vectors, alone, rtol=1e-4, atol=1e-4)


@given(data=st.data(), row=strategies.item_ids(NUM_ITEMS, least=2, most=MAX_SEQ_LEN))
@settings(max_examples=50)
def test_a_prefix_knows_nothing_of_later_items(data, row):
    """No input is later than its target."""
    cut = data.draw(st.integers(1, len(row) - 1))
    later = len(row) - cut
    changed = row[:cut] + data.draw(strategies.item_ids(NUM_ITEMS, least=later, most=later))
    first, second = (
        MODELS["causal"](*padded([items]), every_position=True)[0, :cut] for items in (row, changed)
    )
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


@given(pattern=strategies.POOLING_LOGITS)
@settings(max_examples=40)
def test_pooling_logits_of_any_size_give_exact_values_and_gradients(pattern):
    torch.manual_seed(len(pattern))
    length = len(pattern)
    logits = torch.tensor(pattern).view(1, length, 1) * torch.tensor([1.0, 0.5, 1.0, -0.25])
    q, k, v = torch.randn(3, 1, 1, length, 4)
    require_exact_item_context(q, k, v, logits, wider=2.5)


@given(ranks=st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_metrics_grow_with_the_cut_off(ranks):
    ks = (1, 3, 10, 25)
    metrics = RankingTotals.from_ranks(np.array(ranks), ks).metrics()
    for name in ("hit", "recall", "ndcg", "mrr"):
        values = [metrics[f"{name}@{k}"] for k in ks]
        assert values == sorted(values)
        assert all(0 <= value <= 1 for value in values)


@given(
    shards=st.lists(st.lists(st.integers(1, 30), max_size=8), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_how_users_are_spread_over_workers_changes_no_metric(shards, order):
    ks = (5, 10)
    everybody = [rank for shard in shards for rank in shard]
    order.shuffle(shards)
    totals = RankingTotals.zero(ks)
    for shard in shards:
        totals += RankingTotals.from_ranks(np.array(shard, np.int64), ks)
    whole = RankingTotals.from_ranks(np.array(everybody, np.int64), ks)
    assert totals.metrics() == whole.metrics()
    assert np.array_equal(totals.to_array(), whole.to_array())


@given(data=st.data())
@settings(max_examples=60)
def test_a_target_is_recommended_exactly_when_its_rank_allows_or_only_ties_keep_it_out(data):
    """The lists and the metrics agree, apart from ties: lists go by id, ranks are pessimistic."""
    small = st.integers(-2, 2)
    users = data.draw(st.integers(1, 4))
    num_items, k = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 6))
    vectors = torch.tensor([[data.draw(small)] for _ in range(users)], dtype=torch.float32)
    table = torch.tensor([[data.draw(small)] for _ in range(num_items + 1)], dtype=torch.float32)
    targets = torch.tensor([data.draw(st.integers(1, num_items)) for _ in range(users)])
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, users - 1), st.integers(1, num_items)), max_size=10)
    )
    pairs = [(row, item) for row, item in pairs if item != targets[row]]
    rows = torch.tensor([row for row, _ in pairs], dtype=torch.int64)
    seen = torch.tensor([item for _, item in pairs], dtype=torch.int64)
    best = top_k(vectors, table, k, rows, seen, block_items=data.draw(st.integers(1, 13)))
    scores = vectors @ table.T
    exclude_seen(scores, rows, seen, targets)
    ranks = target_ranks(scores, targets)
    for user, target in enumerate(targets.tolist()):
        others_above = int((scores[user, 1:] > scores[user, target]).sum())
        is_listed = target in best.item_ids[user].tolist()
        assert is_listed >= (int(ranks[user]) <= k)
        assert is_listed <= (others_above < k)
        assert not set(best.item_ids[user].tolist()) & {i for r, i in pairs if r == user}
