"""Preprocessing a large log: ours against Polars and DuckDB on the same cores.

    python -m benchmarks.preprocess [--smoke] [--json] [--rows 20000000] [--engines ours,polars]
                                    [--incremental | --lopsided | --inter FILE] [--work DIRECTORY]

Every engine runs in a process of its own (`benchmarks.preprocess_engines` says what each does), one
after the other; sequences must be equal. Seconds exclude starting up, which is given beside them.
Memory is the peak of all processes together, Ray's object store included.
``ray data`` reads, exchanges and writes without k-core or vocabulary: the bound of any stage built
on it. The log is generated once and kept in the work directory.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from benchmarks import harness
from benchmarks.interaction_logs import DAYS, expand_inter, write_log, write_lopsided_log
from benchmarks.preprocess_engines import THREADS
from pipelines.session.memory import MemoryWatch

GOAL = 1.5
"""Times Polars' seconds; three times is the least that counts as done."""
INCREMENTAL_GOAL = 5
"""Times the cost of adding a day of a thirtieth of the rows is to be less than a full run."""
ROWS_PER_USER, ROWS_PER_ITEM, COPIES = 20, 200, 20
PARTS, STRETCH_ROWS = 16, 2**19


def run_engine(name: str, output: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Report of the engine, and its peak memory."""
    shutil.rmtree(output, ignore_errors=True)
    root = Path(__file__).parents[1]
    environment = os.environ | {
        "POLARS_MAX_THREADS": str(THREADS),
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "RAY_AUTH_MODE": "disabled",
    }
    command = [sys.executable, "-m", "benchmarks.preprocess_engines", name, str(output)]
    with (
        subprocess.Popen(
            [*command, *map(str, files)], env=environment, stdout=subprocess.PIPE, text=True
        ) as process,
        MemoryWatch(process.pid).watching() as watch,
    ):
        printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{name} ended with code {process.returncode}")
    report: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return report | {"peak_bytes": watch.peak_bytes}


def sequences_of(report: dict[str, Any]) -> pa.Table:
    """user_id, item_ids and times in seconds, by user, of what an engine has written."""
    table = ds.dataset(report["written"], format="parquet").to_table()
    if "trainable" in table.column_names:
        table = table.filter(table["trainable"])
    table = table.select(["user_id", "item_ids", "timestamps"]).sort_by("user_id").combine_chunks()
    lists = [pa.concat_arrays(table[name].chunks) for name in ("item_ids", "timestamps")]
    times = pc.cast(lists[1].flatten(), pa.int64())
    if len(times) and times[0].as_py() > 10**12:
        times = pc.divide(times, 10**6)
    return pa.table(
        {
            "user_id": table["user_id"].cast(pa.string()),
            "length": pc.list_value_length(lists[0]).cast(pa.int64()),
        }
    ).append_column("hash", _fold(lists[0], times))


def _fold(items: pa.Array, times: pa.Array) -> pa.Array:
    """One number for each user's items and times, in order."""
    from lightsans.columns.hashing import hash_segments, mix

    offsets = items.offsets.to_numpy()
    values = items.flatten().cast(pa.int64()).to_numpy().astype("uint64")
    events = mix(values ^ mix(times.to_numpy().astype("uint64")))
    return pa.array(hash_segments(events, (offsets - offsets[0]).astype("int64")))


def require_equal(name: str, found: pa.Table, expected: pa.Table) -> None:
    """Raise unless two engines wrote the same sequences."""
    for column in expected.column_names:
        if not found[column].combine_chunks().equals(expected[column].combine_chunks()):
            raise AssertionError(f"{name} wrote other sequences than ours: column {column}")


def run_case(
    case: str, files: Sequence[Path], engines: Sequence[str], work: Path
) -> dict[str, Any]:
    """Seconds and peak memory of each engine on some files."""
    reports, expected = {}, None
    for name in engines:
        output = work / "output" / name.replace(" ", "-")
        reports[name] = run_engine(name, output, files)
        if name == "ours":
            expected = sequences_of(reports[name])
        elif name != "ray data" and expected is not None:
            require_equal(name, sequences_of(reports[name]), expected)
        report = reports[name]
        print(
            f"{case}: {name} {report['seconds']:.1f} s (start {report['start_s']:.1f} s), "
            f"peak {report['peak_bytes'] / 1e9:.2f} GB",
            flush=True,
        )
        shutil.rmtree(output)
    ours = reports["ours"]
    peers = [name for name in ("polars", "duckdb") if name in reports]
    peer = min(peers, key=lambda name: float(reports[name]["seconds"]), default="ours")
    return harness.case(
        case,
        ours=round(ours["seconds"], 2),
        peer=round(reports[peer]["seconds"], 2),
        peer_name=peer,
        unit="s",
        ratio=round(reports[peer]["seconds"] / ours["seconds"], 3),
        goal=round(1 / GOAL, 3),
        all=reports,
    )


def run_incremental_case(case: str, files: Sequence[Path], work: Path) -> dict[str, Any]:
    """One day added to a dataset of the days before, against reading them all."""
    output = work / "output" / "incremental"
    report = run_engine("incremental", output, files)
    print(
        f"{case}: incremental {report['seconds']:.1f} s, all at once {report['full_s']:.1f} s",
        flush=True,
    )
    shutil.rmtree(output)
    return harness.case(
        case,
        ours=round(report["seconds"], 2),
        peer=round(report["full_s"], 2),
        peer_name="ours, all days at once",
        unit="s",
        ratio=round(report["full_s"] / report["seconds"], 3),
        goal=INCREMENTAL_GOAL,
    )


def bytes_exchanged(files: Sequence[Path]) -> tuple[float, float]:
    """Bytes a row of the first rows of a log: as plain columns, and as they travel (lz4).

    As many rows as are packed at once from a large log, which smaller files have together.
    """
    from lightsans.preparation.packing import pack_rows

    rows = ds.dataset(list(map(str, files)), format="parquet").head(STRETCH_ROWS)
    times = pc.multiply(rows["timestamp"], 10**6)
    columns = {"user_id": rows["user_id"], "raw_item_id": rows["item_id"], "timestamp": times}
    table = pa.table({**columns, "rating": rows["rating"].cast(pa.float64())})
    table = table.append_column("order_key", pa.array(range(table.num_rows)))
    return table.nbytes / table.num_rows, pack_rows(table, PARTS).nbytes / table.num_rows


def main() -> None:
    """Parse, run and report."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--engines", default="ours,polars,duckdb,ray data")
    parser.add_argument("--incremental", action="store_true", help="also add a day to a base")
    parser.add_argument(
        "--lopsided", action="store_true", help="half of the rows of one user, of one item"
    )
    parser.add_argument("--inter", type=Path, help="20 copies of this .inter file instead")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "lightsans-benchmark"
    )
    options = harness.parse(parser)
    rows = 20_000 if options.smoke else options.rows
    engines = ["ours", "polars", "duckdb"] if options.smoke else options.engines.split(",")
    case = f"{rows:,} rows"
    if options.inter is not None:
        case = f"{options.inter.stem}, {COPIES} copies"
        files = expand_inter(options.inter, options.work / options.inter.stem, COPIES)
    elif options.lopsided:
        case = f"{rows:,} lopsided rows"
        files = write_lopsided_log(options.work / f"lopsided-{rows}", rows)
    else:
        directory = options.work / f"log-{rows}"
        files = write_log(directory, rows, rows // ROWS_PER_USER, rows // ROWS_PER_ITEM)
    if not options.smoke:  # Numba compiles once on a machine
        run_engine("ours", options.work / "output" / "warm", files[:1])
        shutil.rmtree(options.work / "output" / "warm")
    cases = [run_case(case, files[:DAYS], engines, options.work)]
    plain, packed = bytes_exchanged(files)
    if options.smoke or options.incremental:
        cases.append(run_incremental_case(f"one day added to {rows:,} rows", files, options.work))
    harness.report(
        options,
        "preprocess",
        harness.machine(f"{THREADS} threads"),
        cases,
        plain_bytes_per_row=round(plain, 1),
        packed_bytes_per_row=round(packed, 1),
        log_bytes=sum(file.stat().st_size for file in files),
    )


if __name__ == "__main__":
    main()
