"""Synthetic interaction logs of any size, for the demo without a network, tests and benchmarks.

What is realistic about them: a few items are very popular and most are rare (Zipf-Mandelbrot), a
few users are very active (log-normal), and what comes next depends on what came last: users walk
along a chain of related items for a while, then start somewhere else. A sequential model can learn
the chain; a list of the most popular items cannot.

What is not: users have no lasting taste, and items neither appear nor fade with time.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

USERS_PER_BLOCK = 65_536
_START_S = 1_577_836_800  # 2020-01-01 UTC
_SPAN_S = 3 * 365 * 86_400
_RUN_LENGTH = 5.0  # mean number of interactions before a user starts somewhere else
_LONGEST_STEP = 3  # how far along the chain one interaction moves, at most


class InteractionLog(NamedTuple):
    """Rows of a log, one array per column, oldest first."""

    user_ids: NDArray[np.int64]
    """User numbers, from 1."""
    item_ids: NDArray[np.int64]
    """Item numbers, from 1, in no order of popularity."""
    ratings: NDArray[np.int8]
    """1 to 5."""
    timestamps: NDArray[np.int64]
    """Seconds since 1970, strictly increasing for each user."""


def generate_log(
    num_users: int, num_items: int, num_interactions: int, *, seed: int = 0
) -> InteractionLog:
    """A whole log in memory: the blocks of `generate_blocks`, one after the other."""
    blocks = generate_blocks(num_users, num_items, num_interactions, seed=seed)
    return InteractionLog(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


def generate_blocks(
    num_users: int, num_items: int, num_interactions: int, *, seed: int = 0
) -> Iterator[InteractionLog]:
    """The log in pieces of 65,536 users, so that memory does not grow with its size.

    Equal arguments give equal rows. Every user has at least one interaction, and the number of
    rows is exactly ``num_interactions``; a user may meet an item more than once.

    Raises:
        ValueError: There are fewer interactions than users, or no users or items.
    """
    if num_users < 1 or num_items < 1 or num_interactions < num_users:
        raise ValueError(
            f"{num_interactions} interactions cannot be spread over {num_users} users and "
            f"{num_items} items; every user needs one, and there is at least one user and item"
        )
    item_of_rank = np.random.default_rng([seed, 0]).permutation(num_items).astype(np.int64) + 1
    for number, first in enumerate(range(0, num_users, USERS_PER_BLOCK), start=1):
        users = min(USERS_PER_BLOCK, num_users - first)
        rows = (
            num_interactions * (first + users) // num_users - num_interactions * first // num_users
        )
        yield _block(np.random.default_rng([seed, number]), first + 1, users, rows, item_of_rank)


def write_inter(path: str | Path, blocks: Iterator[InteractionLog]) -> int:
    """Write RecBole's ``.inter`` format; returns the number of rows."""
    rows = 0
    with open(path, "w", encoding="ascii", newline="\n") as file:
        file.write("user_id:token\titem_id:token\trating:float\ttimestamp:float\n")
        for block in blocks:
            columns = (column.tolist() for column in block)
            file.writelines(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in zip(*columns, strict=True))
            rows += len(block.user_ids)
    return rows


def _block(
    rng: np.random.Generator,
    first_user: int,
    users: int,
    rows: int,
    item_of_rank: NDArray[np.int64],
) -> InteractionLog:
    """Rows of the users ``first_user`` onwards, in order of time."""
    lengths = _history_lengths(rng, users, rows)
    user_index = np.repeat(np.arange(users), lengths)
    is_first = np.diff(user_index, prepend=-1) > 0
    starts_run = is_first | (rng.random(rows) < 1 / _RUN_LENGTH)

    ranks = _walk(rng, starts_run, len(item_of_rank))
    gaps = rng.exponential(np.where(starts_run, 4 * 86_400, 300)).astype(np.int64) + 1
    gaps[is_first] = rng.integers(0, _SPAN_S, users)
    timestamps = _START_S + _cumsum_within(gaps, is_first)

    liking = 3.8 - 0.6 * np.sqrt(ranks / len(item_of_rank))  # popular items are rated better
    ratings = np.clip(np.rint(rng.normal(liking, 1.0)), 1, 5).astype(np.int8)
    order = np.argsort(timestamps, kind="stable")
    return InteractionLog(
        first_user + user_index[order],
        item_of_rank[ranks[order]],
        ratings[order],
        timestamps[order],
    )


def _history_lengths(rng: np.random.Generator, users: int, rows: int) -> NDArray[np.int64]:
    """Lengths of at least 1 each, ``rows`` in all, log-normal in between."""
    weights = rng.lognormal(sigma=1.1, size=users)
    shares = np.floor((rows - users) * weights / weights.sum())
    lengths: NDArray[np.int64] = 1 + shares.astype(np.int64)
    lengths[: rows - lengths.sum()] += 1  # what rounding down has left, fewer than one each
    return lengths


def _walk(
    rng: np.random.Generator, starts_run: NDArray[np.bool_], num_items: int
) -> NDArray[np.int64]:
    """Popularity ranks: a Zipf-Mandelbrot draw where a run starts, then small steps down the chain.

    The chain goes through the items by rank, so that walking keeps the popularity skewed.
    """
    offset = 1 + num_items / 50  # flattens the head: the first item gets about 1% of the draws
    growth = np.log((num_items + offset) / offset)
    draws = offset * np.expm1(rng.random(len(starts_run)) * growth)
    steps = rng.integers(1, _LONGEST_STEP + 1, len(starts_run))
    moves = np.where(starts_run, draws.astype(np.int64), steps)
    ranks: NDArray[np.int64] = _cumsum_within(moves, starts_run) % num_items
    return ranks


def _cumsum_within(values: NDArray[np.int64], is_first: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Running sums that begin anew wherever ``is_first``."""
    totals = np.cumsum(values)
    before = totals[is_first] - values[is_first]
    sums: NDArray[np.int64] = totals - before[np.cumsum(is_first) - 1]
    return sums
