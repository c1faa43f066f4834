import math

import numpy as np
import pytest
import torch

from lightsans.ranking import top_k as ranking
from lightsans.ranking.top_k import top_k

INF = math.inf


def make_scores(scores) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors and a table whose products are the given scores of items 1, 2, ..."""
    rows = torch.tensor(scores, dtype=torch.float32)
    table = torch.cat([torch.full((1, len(rows)), 1e9), rows.T])  # padding would always win
    return torch.eye(len(rows)), table


def test_lists_hold_the_best_items_in_order_of_score():
    best = top_k(*make_scores([[1, 4, 2, 3], [9, 0, 8, 7]]), 3)
    assert best.item_ids.tolist() == [[2, 4, 3], [1, 3, 4]]
    assert best.scores.tolist() == [[4, 3, 2], [9, 8, 7]]


def test_seen_items_are_left_out():
    rows, seen = torch.tensor([1, 0, 1, 0, 0]), torch.tensor([3, 2, 1, 2, 0])
    best = top_k(*make_scores([[1, 4, 2, 3], [9, 0, 8, 7]]), 2, rows, seen)
    assert best.item_ids.tolist() == [[4, 3], [4, 2]]


@pytest.mark.parametrize("block_items", [1, 2, 3, 5, 8, None])
def test_equal_scores_come_in_order_of_item_id_whatever_the_block(block_items):
    """Three items share the last places of a list of four; the one with the lowest id gets it."""
    vectors, table = make_scores([[2, 5, 2, 7, 2, 5, 2, 2]])
    best = top_k(vectors, table, 4, block_items=block_items)
    assert best.item_ids.tolist() == [[4, 2, 6, 1]]


@pytest.mark.parametrize("block_items", [1, 2, 7])
def test_rows_with_too_few_items_end_with_zeros(block_items):
    rows, seen = torch.tensor([0, 0]), torch.tensor([1, 3])
    best = top_k(*make_scores([[1, 2, 3], [3, 2, 1]]), 5, rows, seen, block_items=block_items)
    assert best.item_ids.tolist() == [[2, 0, 0, 0, 0], [1, 2, 3, 0, 0]]
    assert best.scores.tolist() == [[2, -INF, -INF, -INF, -INF], [3, 2, 1, -INF, -INF]]


def test_a_user_who_has_seen_everything_gets_nothing():
    rows, seen = torch.zeros(3, dtype=torch.int64), torch.tensor([1, 2, 3])
    assert top_k(*make_scores([[1, 2, 3]]), 2, rows, seen).item_ids.tolist() == [[0, 0]]


@pytest.mark.parametrize("block_items", [3, 17, 64, 1000])
def test_lists_equal_a_plain_sort(block_items):
    """Small whole numbers: exact products and many ties."""
    vectors, table = torch.randint(-2, 3, (20, 4)), torch.randint(-2, 3, (200, 4))
    rows, seen = torch.randint(0, 20, (500,)), torch.randint(1, 200, (500,))
    best = top_k(vectors.float(), table.float(), 10, rows, seen, block_items=block_items)
    for user in range(20):
        scores = (table @ vectors[user]).tolist()
        left = set(range(1, 200)) - set(seen[rows == user].tolist())
        expected = sorted(left, key=lambda item: (-scores[item], item))[:10]
        assert best.item_ids[user].tolist() == expected
        assert best.scores[user].tolist() == [scores[item] for item in expected]


def test_no_more_scores_exist_at_once_than_the_budget(monkeypatch):
    monkeypatch.setattr(ranking, "SCORES_BUDGET", {"cpu": 40_000})
    assert ranking._block_items(torch.zeros(20, 4)) == 2000
    assert ranking._block_items(torch.zeros(10_000, 4)) == 1024, "blocks stay worth a product"


def test_no_users_get_no_lists():
    best = top_k(torch.zeros(0, 4), torch.zeros(5, 4), 3)
    assert best.item_ids.shape == best.scores.shape == (0, 3)


def test_broken_models_and_settings_are_refused():
    with pytest.raises(ValueError, match="a user's vector is not finite"):
        top_k(torch.tensor([[math.nan]]), torch.zeros(5, 1), 3)
    with pytest.raises(ValueError, match="an item's vector is not finite"):
        top_k(torch.zeros(1, 1), torch.full((5, 1), INF), 3)
    with pytest.raises(ValueError, match="k=0 is too small"):
        top_k(torch.zeros(1, 1), torch.zeros(5, 1), 0)
    with pytest.raises(ValueError, match="together, or neither"):
        top_k(torch.zeros(1, 1), torch.zeros(5, 1), 3, torch.zeros(1, dtype=torch.int64))


def exact_lists(vectors, table, k, rows, seen, eligible, min_score) -> list[list[int]]:
    """Every score in float64, rounded to float32, sorted with the id as the second key."""
    scores_BV = (vectors.double().numpy() @ table.double().numpy().T).astype("float32")
    lists = []
    for user, scores in enumerate(scores_BV):
        left = set(eligible) - set(seen[rows == user].tolist())
        left = {item for item in left if scores[item] >= min_score}
        best = sorted(left, key=lambda item: (-scores[item], item))[:k]
        lists.append(best + [0] * (k - len(best)))
    return lists


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("products", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "kind", ["normal", "skewed norms", "one far item", "whole numbers", "one dimension"]
)
def test_lists_are_exact_whatever_computes_them(kind, products, compiled):
    """Products in bfloat16 lose most of a score, and still no item and no order."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(30, 64, generator=generator)
    table = torch.randn(1500, 64, generator=generator)
    if kind == "skewed norms":
        table *= torch.randn(1500, 1, generator=generator).exp()
    if kind == "one far item":
        table[700] *= 1000
    if kind == "whole numbers":
        vectors, table = vectors.round(), table.round()
        vectors[::3] = 0  # all items tie
    if kind == "one dimension":
        vectors, table = vectors[:, :1], table[:, :1].round()
    rows = torch.randint(0, 30, (1500,), generator=generator)
    seen = torch.randint(0, 1500, (1500,), generator=generator)
    eligible = torch.randint(1, 1500, (900,), generator=generator)
    index = ranking.ItemIndex(table, eligible, products)
    expected = exact_lists(vectors, table, 20, rows, seen, eligible.tolist(), 0.5)
    for block_items in (None, 7, 333):
        best = index.top_k(
            vectors, 20, rows, seen, min_score=0.5, block_items=block_items, compiled=compiled
        )
        assert best.item_ids.tolist() == expected, block_items


def test_threads_and_batches_change_nothing():
    generator = torch.Generator().manual_seed(2)
    vectors, table = (torch.randn(n, 32, generator=generator) for n in (700, 3000))
    rows, seen = torch.arange(700).repeat_interleave(5), torch.randint(1, 3000, (3500,))
    index, threads = ranking.ItemIndex(table), torch.get_num_threads()
    whole = index.top_k(vectors, 50, rows, seen)
    try:
        for other in (1, 3):
            torch.set_num_threads(other)
            assert torch.equal(index.top_k(vectors, 50, rows, seen).item_ids, whole.item_ids)
            assert torch.get_num_threads() == other
    finally:
        torch.set_num_threads(threads)
    for first, end in ((0, 1), (1, 300), (300, 700)):
        own = (rows >= first) & (rows < end)
        part = index.top_k(vectors[first:end], 50, rows[own] - first, seen[own])
        assert torch.equal(part.item_ids, whole.item_ids[first:end])
        assert torch.equal(part.scores, whole.scores[first:end])


def best_of_float64(vector, table, k, seen) -> list[int]:
    """Every score in float64, rounded to float32; no more are sorted than must be."""
    scores = np.concatenate(
        [(part.double() @ vector.double()).float().numpy() for part in table.split(1_000_000)]
    )
    scores[[0, *seen]] = -np.inf
    least = np.partition(scores, -k)[-k]
    items = np.flatnonzero(scores >= least)
    best: list[int] = items[np.lexsort((items, -scores[items]))][:k].tolist()
    return best


@pytest.mark.parametrize("num_items", [3_000, 30_000])
def test_lists_of_a_thousand_are_exact_for_any_block_batch_and_number_of_threads(num_items):
    """No tolerance: not even items whose scores are near change places."""
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(600, 16, generator=generator)
    table = torch.randn(num_items + 1, 16, generator=generator).round(decimals=1)
    seen = torch.randint(1, num_items + 1, (600, 20), generator=generator)
    rows, threads = torch.arange(600).repeat_interleave(20), torch.get_num_threads()
    index = ranking.ItemIndex(table)
    whole = index.top_k(vectors, 1000, rows, seen.flatten()).item_ids
    for user in (0, 311, 599):
        expected = best_of_float64(vectors[user], table, 1000, seen[user].tolist())
        assert whole[user].tolist() == expected
    some = slice(311, 340)
    own = (rows >= 311) & (rows < 340)
    try:
        for number, block_items in ((1, 777), (2, 5_000), (3, None)):
            torch.set_num_threads(number)
            part = index.top_k(
                vectors[some], 1000, rows[own] - 311, seen[some].flatten(), block_items=block_items
            )
            assert torch.equal(part.item_ids, whole[some])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_ten_million_items_are_searched_without_holding_their_scores():
    generator = torch.Generator().manual_seed(6)
    vectors = torch.randn(3, 4, generator=generator)
    table = torch.randn(10_000_001, 4, generator=generator)
    seen = torch.randint(1, 10_000_001, (3, 50), generator=generator)
    rows = torch.arange(3).repeat_interleave(50)
    best = ranking.ItemIndex(table).top_k(vectors, 1000, rows, seen.flatten())
    for user in range(3):
        expected = best_of_float64(vectors[user], table, 1000, seen[user].tolist())
        assert best.item_ids[user].tolist() == expected


def test_threads_work_for_a_caller_in_inference_mode():
    """Its tensors may be changed in the thread that made them only."""
    threads = torch.get_num_threads()
    table = torch.randn(3000, 8)
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            with torch.inference_mode():
                best = ranking.ItemIndex(table).top_k(torch.ones(700, 8), 5)
            assert best.item_ids[:, 0].tolist() == [1 + int(table[1:].sum(1).argmax())] * 700
    finally:
        torch.set_num_threads(threads)


def test_no_eligible_item_leaves_empty_lists_and_unknown_ones_are_refused():
    none = torch.zeros(0, dtype=torch.int64)
    vectors, table = make_scores([[1, 4, 2]])
    best = ranking.ItemIndex(table, none).top_k(vectors, 2, torch.tensor([0]), torch.tensor([1]))
    assert best.item_ids.tolist() == [[0, 0]]
    wide = ranking.ItemIndex(torch.randn(4, 64), none).top_k(torch.randn(1, 64), 2)
    assert wide.item_ids.tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="from 1 to 3"):
        ranking.ItemIndex(table, torch.tensor([0, 2]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same_lists():
    generator = torch.Generator().manual_seed(3)
    vectors, table = (torch.randn(n, 32, generator=generator) for n in (100, 5000))
    expected = top_k(vectors, table, 50).item_ids
    assert torch.equal(top_k(vectors.cuda(), table.cuda(), 50).item_ids.cpu(), expected)


@pytest.mark.parametrize("num_items", [90, 1000, 9000])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_who_has_seen_nearly_everything_gets_the_best_of_the_rest(num_items, share):
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(6, 48, generator=generator)
    table = torch.randn(num_items + 1, 48, generator=generator)
    is_seen = torch.rand(6, num_items + 1, generator=generator) < share
    rows, seen = is_seen.nonzero().unbind(1)
    shuffled = torch.randperm(len(rows), generator=generator)
    expected = exact_lists(vectors, table, 15, rows, seen, range(1, num_items + 1), -INF)
    for products in ("float32", "bfloat16"):
        index = ranking.ItemIndex(table, products=products)
        for order in (slice(None), shuffled):
            best = index.top_k(vectors, 15, rows[order], seen[order])
            assert best.item_ids.tolist() == expected
