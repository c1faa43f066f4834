"""Synthetic logs of a shop: views, and purchases after some of them. Nothing in them is real.

Users walk along chains of related items as in `lightsans.synthetic.logs`. On each item of their way
they view it, and sometimes its neighbour; a share of the viewed items is bought, half of them a
minute later, half of them after two hours. So views tell where on its chain a user is, and
purchases tell it more rarely.
"""

import numpy as np
import pyarrow as pa

from lightsans.synthetic.logs import generate_log

VIEW, PURCHASE = "view", "purchase"


def generate_shop(
    num_users: int, num_items: int, num_visits: int, *, share_bought: float = 0.4, seed: int = 0
) -> pa.Table:
    """A log in order of time, with the columns user_id, item_id, timestamp and event.

    Args:
        num_users: Users, each with one visit of an item at least.
        num_items: Items.
        num_visits: Visits of all users; each is a view, or two, and maybe a purchase.
        share_bought: Share of the visits that end with a purchase.
        seed: Equal arguments give equal rows.
    """
    visits = generate_log(num_users, num_items, num_visits, seed=seed)
    random = np.random.default_rng([seed, 1])
    sees_neighbour = random.random(num_visits) < 0.3
    buys = random.random(num_visits) < share_bought
    waits = random.choice([60, 7200], num_visits)
    neighbours = visits.item_ids % num_items + 1
    parts = [
        (np.ones(num_visits, bool), visits.item_ids, np.zeros(num_visits, np.int64), VIEW),
        (sees_neighbour, neighbours, np.full(num_visits, 20), VIEW),
        (buys, visits.item_ids, waits, PURCHASE),
    ]
    users = np.concatenate([visits.user_ids[chosen] for chosen, *_ in parts])
    items = np.concatenate([ids[chosen] for chosen, ids, _, _ in parts])
    times = np.concatenate([(visits.timestamps + after)[chosen] for chosen, _, after, _ in parts])
    events = np.concatenate([np.full(int(chosen.sum()), name) for chosen, _, _, name in parts])
    order = np.argsort(times, kind="stable")
    return pa.table(
        {
            "user_id": users[order],
            "item_id": items[order],
            "timestamp": times[order],
            "event": pa.array(events[order], pa.string()),
        }
    )
