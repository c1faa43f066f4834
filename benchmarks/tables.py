"""Delta and Iceberg tables against the parquet files that they are made of, read to their rows.

    python -m benchmarks.tables [--rows 20000000] [--clock cpu --threads 1] [--json]

The files are the same, so all that differs is that a table's log or manifests are read too. Inputs
are read in turns, in one process, as the tasks of `preprocess` read: listed, planned, read unit by
unit to checked rows. Of several rounds the fastest counts.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import convert_to_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from benchmarks.harness import add_clock, case, machine, make_parser, parse, report
from benchmarks.interaction_logs import write_log
from lightsans.config import DataConfig, StorageConfig
from lightsans.reading.units import plan_reading, read_unit
from lightsans.warehouse.tables import list_log_inputs

MOST = 1.2
"""Times as long as the plain files that a table may take."""


def write_tables(directory: Path, num_rows: int) -> dict[str, str]:
    """Write a log and make its files tables; the address of each kind."""
    files = write_log(directory / "log", num_rows, max(num_rows // 50, 100), 10_000)
    if not (directory / "log" / "_delta_log").exists():
        convert_to_deltalake(str(directory / "log"))
    catalog = SqlCatalog(
        "bench", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}/warehouse"
    )
    catalog.create_namespace_if_not_exists("bench")
    if not catalog.table_exists("bench.log"):
        table = catalog.create_table("bench.log", schema=pq.read_schema(files[0]))
        table.add_files([f"file://{file}" for file in files])
    metadata = catalog.load_table("bench.log").metadata_location
    catalog.close()
    return {
        "parquet": f"{directory}/log/*.parquet",
        "delta": f"delta://{directory}/log",
        "iceberg": f"iceberg://{metadata.removeprefix('file://')}",
    }


def read(address: str) -> int:
    """Read all rows of an input; how many there are."""
    data = DataConfig(input=(address,))
    plan = plan_reading(list_log_inputs([address], StorageConfig()).files, data, 0, None)
    types = (plan.user_id_type, plan.item_id_type)
    return sum(
        rows.table.num_rows
        for unit in plan.units
        for _, rows in read_unit(unit, data, *types, None)
    )


def fastest(
    addresses: dict[str, str], rounds: int, clock: Callable[[], float]
) -> dict[str, tuple[float, int]]:
    """Seconds and rows of each input, read in turns."""
    found: dict[str, tuple[float, int]] = {}
    for _ in range(rounds):
        for kind, address in addresses.items():
            started = clock()
            rows = read(address)
            seconds = clock() - started
            found[kind] = min(found.get(kind, (seconds, rows)), (seconds, rows))
    return found


def main() -> None:
    """Measure, print, report."""
    parser = make_parser(__doc__)
    add_clock(parser)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path("/tmp/lightsans-tables"))
    options = parse(parser)
    rows, rounds = (60_000, 1) if options.smoke else (options.rows, options.rounds)
    pa.set_cpu_count(options.threads)
    addresses = write_tables((options.directory / str(rows)).absolute(), rows)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    found = fastest(addresses, rounds, clock)
    plain, num_rows = found.pop("parquet")
    print(f"parquet: {num_rows:,} rows in {plain:.2f} s ({options.clock} time)")
    cases = []
    for kind, (seconds, read_rows) in found.items():
        assert read_rows == num_rows, (kind, read_rows, num_rows)
        print(f"{kind}: {seconds:.2f} s, {seconds / plain:.3f} times the files")
        cases.append(
            case(
                kind,
                ours=round(seconds, 3),
                peer=round(plain, 3),
                unit="s",
                ratio=round(plain / seconds, 3),
                goal=None if options.smoke else round(1 / MOST, 3),
                peer_name="the same parquet files",
            )
        )
    where = machine(f"{options.threads} threads")
    report(options, "tables", where, cases, rows=num_rows, clock=options.clock)


if __name__ == "__main__":
    main()
