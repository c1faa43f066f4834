"""Shops that are made up: what is bought was viewed, a minute or two hours before."""

import pytest

from lightsans.synthetic.shops import PURCHASE, VIEW, generate_shop


def test_what_is_bought_was_viewed_before_and_rows_are_in_order_of_time():
    rows = generate_shop(20, 30, 400, seed=3).to_pylist()
    views = {(r["user_id"], r["item_id"], r["timestamp"]) for r in rows if r["event"] == VIEW}
    bought = [r for r in rows if r["event"] == PURCHASE]
    waits = [
        [w for w in (60, 7200) if (r["user_id"], r["item_id"], r["timestamp"] - w) in views]
        for r in bought
    ]
    assert all(waits)
    assert len(bought) == pytest.approx(160, abs=40)
    assert sum(wait == [60] for wait in waits) == pytest.approx(len(bought) / 2, abs=30)
    times = [r["timestamp"] for r in rows]
    assert times == sorted(times)
    assert len(views) > 450


def test_equal_arguments_give_equal_rows():
    assert generate_shop(5, 9, 50, seed=1).equals(generate_shop(5, 9, 50, seed=1))
    assert not generate_shop(5, 9, 50, seed=1).equals(generate_shop(5, 9, 50, seed=2))
    assert PURCHASE not in generate_shop(5, 9, 50, share_bought=0)["event"].to_pylist()
