"""The page of a run with many documents: seconds, peak memory and bytes.

    python -m tests.benchmarks.report_page --rows 10_000_000

The ledger is that of the quickstart's crawl, repeated under other names, with every measure moved by noise so that
statistics, ties and domains are as many as in a large crawl.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.paths import ROOT

FILE_ROWS = 1_000_000


def main() -> None:
    """Makes the ledger, and the page in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--run", type=Path, help="only make the page of this run")
    arguments = parser.parse_args()
    if arguments.run is not None:
        write_page(arguments.run)
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            sys.executable,
            "-m",
            "tokenmill.pipeline.cli",
            "run",
            "configs/quickstart.yaml",
            "--output",
            str(run),
        ]
        rules = ["--set", "stages.quality.rules=[gopher, gopher_repetition, fineweb]"]
        subprocess.run([*command, *rules], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        rows = enlarge(run / "ledger", arguments.rows)
        print(
            f"{rows:,} rows in the ledger, {sum(file.stat().st_size for file in (run / 'ledger').iterdir()) / 1e6:,.0f} MB"
        )
        subprocess.run([sys.executable, "-m", "tests.benchmarks.report_page", "--run", str(run)], cwd=ROOT, check=True)


def enlarge(ledger: Path, rows: int) -> int:
    """Adds files of rows like those that are there until there are `rows`."""
    random = np.random.default_rng(0)
    held = pa.concat_tables(pq.read_table(file) for file in sorted(ledger.iterdir()))
    moved = [name for name in held.schema.names if pa.types.is_floating(held.schema.field(name).type)]
    total = held.num_rows
    while total < rows:
        count = min(FILE_ROWS, rows - total)
        table = held.take(pa.array(random.integers(0, held.num_rows, count)))
        names = pa.array(np.arange(count), pa.int32())
        columns = {
            "id": pc.binary_join_element_wise(f"crawl:copy-{total}", names.cast(pa.string()), "#"),
            "position": names,
            "url": pc.binary_join_element_wise(
                "https://", pa.array(random.integers(0, 200_000, count)).cast(pa.string()), ".example/", ""
            ),
        }
        for name in moved:
            noise = pa.array(1 + 0.1 * random.standard_normal(count))
            columns[name] = pc.multiply(table.column(name).cast(pa.float64()), noise).cast(held.schema.field(name).type)
        for name, column in columns.items():
            table = table.set_column(table.schema.get_field_index(name), held.schema.field(name), column)
        pq.write_table(table, ledger / f"copy-{total}.parquet", row_group_size=64_000, compression="zstd")
        total += count
    return total


def write_page(run: Path) -> None:
    """Writes the page and prints what it took."""
    from tokenmill.pipeline.report.report import build_report
    from tokenmill.pipeline.report.run_page import write_run_page
    from tokenmill.pipeline.storage.run_folder import open_run

    store = open_run(str(run))
    began = time.perf_counter()
    write_run_page(store, build_report(store))
    seconds = time.perf_counter() - began
    # not ru_maxrss, which a process has from the one that started it
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1e6
    print(f"page in {seconds:.1f} s, peak memory {peak:.2f} GB, {(run / 'report.html').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
