import numpy as np
import pytest

from lightsans.synthetic import logs as synthetic
from lightsans.synthetic.logs import generate_blocks, generate_log, write_inter


def test_sizes_are_exact_and_ids_start_at_one():
    log = generate_log(500, 300, 20_000, seed=1)
    assert all(len(column) == 20_000 for column in log)
    assert sorted(set(log.user_ids.tolist())) == list(range(1, 501))
    assert log.item_ids.min() >= 1
    assert log.item_ids.max() <= 300
    assert set(log.ratings.tolist()) == {1, 2, 3, 4, 5}


def test_equal_seeds_give_equal_logs_and_others_do_not():
    first, again, other = (generate_log(50, 40, 1_000, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(np.stack(first), np.stack(again))
    assert not np.array_equal(first.item_ids, other.item_ids)


def test_rows_are_in_order_of_time_and_a_user_never_has_two_at_once():
    log = generate_log(100, 50, 5_000)
    assert (np.diff(log.timestamps) >= 0).all()
    by_user = np.lexsort((log.timestamps, log.user_ids))
    users, times = log.user_ids[by_user], log.timestamps[by_user]
    assert (np.diff(times)[np.diff(users) == 0] > 0).all()


def test_users_come_and_go_over_three_years():
    log = generate_log(1_000, 50, 5_000)
    first_seen = np.full(1_001, np.iinfo(np.int64).max)
    np.minimum.at(first_seen, log.user_ids, log.timestamps)
    years = (first_seen[1:] - 1_577_836_800) / (365 * 86_400)  # since 2020-01-01
    assert np.histogram(years, bins=3, range=(0, 3))[0].min() > 250


def test_few_items_and_few_users_make_up_most_of_the_log():
    log = generate_log(1_000, 1_000, 50_000)
    for ids in (log.user_ids, log.item_ids):
        counts = np.sort(np.bincount(ids)[1:])[::-1]
        assert counts[:200].sum() > 0.5 * len(ids)
        assert counts[:200].sum() < 0.9 * len(ids)


def test_the_last_item_tells_more_about_the_next_than_popularity_does():
    """Bigram counts of the older 80% name the next item in ten guesses far more often."""
    log = generate_log(2_000, 500, 60_000)
    order = np.lexsort((log.timestamps, log.user_ids))
    users, items = log.user_ids[order], log.item_ids[order]
    is_pair = users[1:] == users[:-1]
    last, following = items[:-1][is_pair], items[1:][is_pair]
    is_train = np.random.default_rng(0).random(len(last)) < 0.8
    counts = np.zeros((501, 501))
    np.add.at(counts, (last[is_train], following[is_train]), 1)

    test_last, test_following = last[~is_train], following[~is_train]
    by_last = np.argsort(-counts[test_last], axis=1)[:, :10]
    popular = np.argsort(-counts.sum(axis=0))[:10]
    hit_by_last = (by_last == test_following[:, None]).any(axis=1).mean()
    hit_popular = np.isin(test_following, popular).mean()
    assert hit_by_last > 0.6
    assert hit_popular < 0.2


def test_pieces_cover_all_users_once(monkeypatch):
    monkeypatch.setattr(synthetic, "USERS_PER_BLOCK", 7)
    blocks = list(generate_blocks(20, 30, 101))
    assert [len(set(block.user_ids.tolist())) for block in blocks] == [7, 7, 6]
    assert [len(block.user_ids) for block in blocks] == [35, 35, 31]  # 101 * 7/20, 14/20, 20/20


@pytest.mark.parametrize("sizes", [(3, 1, 3), (1, 1, 1), (1, 5, 40)])
def test_the_smallest_sizes_work(sizes):
    assert len(generate_log(*sizes).user_ids) == sizes[2]


@pytest.mark.parametrize("sizes", [(0, 5, 5), (5, 0, 5), (5, 5, 4)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="cannot be spread"):
        generate_log(*sizes)


def test_the_file_has_recboles_header_and_one_row_per_interaction(tmp_path):
    path = tmp_path / "small.inter"
    assert write_inter(path, generate_blocks(5, 9, 40)) == 40
    header, *rows = path.read_text().splitlines()
    assert header == "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    log = generate_log(5, 9, 40)
    expected = [[str(value) for value in row] for row in zip(*log, strict=True)]
    assert [row.split("\t") for row in rows] == expected
