"""Audiences: the users who want given items most, by log-share.

A user's log-share of an item is the logarithm of the softmax over everything that may be
recommended to this user: score - log(sum of exp(scores)). Scores alone would rank users by the
length of their vectors. Boosts are no wish of a user's, so the model's own scores count; seen
items, lists of items, and allow and deny lists of segments say what may be recommended.

Shapes: B users   D hidden size   V = num_items + 1   W wanted items
    C items of a block
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from lightsans.probability.softmax import Scope, scored_blocks

_BLOCK_SCORES = 2**22
"""Scores held at once."""


@torch.no_grad()
def log_shares(vectors_BD: Tensor, table_VD: Tensor, wanted_W: Tensor, scope: Scope) -> Tensor:
    """(B, W) float32; minus infinity where an item may not be recommended to a user.

    Args:
        vectors_BD: One row per user.
        table_VD: One row per item; row 0 is padding.
        wanted_W: Item ids.
        scope: Items that may be recommended to the users.
    """
    B = len(vectors_BD)
    step = max(1, _BLOCK_SCORES // max(1, B))
    most_B = torch.full((B,), -torch.inf, dtype=torch.float64)
    sum_B = torch.zeros(B, dtype=torch.float64)
    shares_BW = torch.full((B, len(wanted_W)), -torch.inf, dtype=torch.float64)
    for first, scores in scored_blocks(vectors_BD, table_VD, scope, step):
        scores_BC, end = scores.double(), first + scores.shape[1]
        before_B, most_B = most_B, torch.maximum(most_B, scores_BC.amax(1))
        shift_B = torch.where(most_B.isfinite(), most_B, 0.0)
        sum_B = sum_B * (before_B - shift_B).exp() + (scores_BC - shift_B[:, None]).exp().sum(1)
        is_here_W = (wanted_W >= first) & (wanted_W < end)
        shares_BW[:, is_here_W] = scores_BC[:, wanted_W[is_here_W] - first]
    total_B = torch.where(most_B.isfinite(), most_B, 0.0) + sum_B.log()
    found_BW = shares_BW - total_B[:, None]
    return torch.where(shares_BW.isfinite(), found_BW, -torch.inf).float()


def best_users(user_ids: pa.Array, shares_BW: Tensor, k: int) -> pa.Table:
    """The k users with the greatest log-share of each wanted item, in rows.

    Args:
        user_ids: Users of the rows of ``shares_BW``.
        shares_BW: From `log_shares`.
        k: Users of an item.
    """
    tables = []
    for place, shares_B in enumerate(shares_BW.T.numpy()):
        rows = np.flatnonzero(np.isfinite(shares_B))
        if len(rows) > k:  # ties at the end are kept for now
            least = np.partition(shares_B[rows], -k)[-k]
            rows = rows[shares_B[rows] >= least]
        tables.append(
            pa.table(
                {
                    "place": pa.array(np.full(len(rows), place, np.int64)),
                    "user_id": user_ids.take(pa.array(rows)),
                    "log_share": pa.array(shares_B[rows]),
                }
            )
        )
    return keep_best(pa.concat_tables(tables), k)


def keep_best(rows: pa.Table, k: int) -> pa.Table:
    """The k best rows of each item, best first; of equal ones the lower user id comes first."""
    order = [("place", "ascending"), ("log_share", "descending"), ("user_id", "ascending")]
    rows = rows.sort_by(order)
    places = rows["place"].to_numpy()
    rank = np.arange(len(places)) - np.searchsorted(places, places)
    return rows.filter(pa.array(rank < k)).combine_chunks()


def audience_table(rows: pa.Table, raw_item_ids: pa.Array) -> pa.Table:
    """The rows as they are written: item, rank from 1, user, log-share and share.

    Args:
        rows: From `keep_best`.
        raw_item_ids: The wanted items in order of place.
    """
    places = rows["place"].to_numpy()
    rank = np.arange(len(places)) - np.searchsorted(places, places) + 1
    return pa.table(
        {
            "item_id": raw_item_ids.take(pa.array(places)),
            "rank": pa.array(rank.astype(np.int32)),
            "user_id": rows["user_id"],
            "log_share": rows["log_share"],
            "share": pc.exp(rows["log_share"]),
        }
    )
