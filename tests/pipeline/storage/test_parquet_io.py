"""Reading the Parquet files of a run."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.pipeline.storage.parquet_io import open_parquet, read_parquet

COUNTS_THREADS = """
import os, sys
from tokenmill.pipeline.storage.parquet_io import read_parquet

before = len(os.listdir("/proc/self/task"))
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        rows = read_parquet(file).num_rows + read_parquet(file, where=("id", ["7"])).num_rows
    print(rows, len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_no_thread_is_started_that_could_outlive_the_interpreter(tmp_path: Path) -> None:
    """One that holds a Python file as the interpreter ends aborts the process."""
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path in paths:
        numbers = [str(number) for number in range(100)]
        pq.write_table(pa.table({"id": numbers, "url": numbers}), path, compression="zstd", row_group_size=30)
    result = subprocess.run([sys.executable, "-c", COUNTS_THREADS, *paths], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["101", "0"] * 2


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


def test_groups_that_statistics_rule_out_are_not_read() -> None:
    file = Counting()
    numbers = [f"{number:05}" for number in range(10_000)]
    pq.write_table(pa.table({"id": numbers, "text": numbers}), file, row_group_size=1000)
    open_parquet(file)
    opening, file.count = file.count, 0
    assert read_parquet(file, where=("id", ["10000", "a"])).num_rows == 0
    assert file.count == opening
    file.count = 0
    assert read_parquet(file, where=("id", ["04321"])).to_pylist() == [{"id": "04321", "text": "04321"}]
    assert opening < file.count < opening + len(file.getvalue()) / 5


@given(
    st.lists(st.tuples(st.none() | st.sampled_from("abcde"), st.integers(0, 9))),
    st.lists(st.sampled_from("abcdefg"), max_size=3),
    st.integers(1, 5),
    st.permutations(["letter.of", "number"]),
)
def test_chosen_rows(rows: list[tuple[str | None, int]], values: list[str], group: int, columns: list[str]) -> None:
    schema = pa.schema({"letter.of": pa.string(), "number": pa.int64()})
    table = pa.table([[letter for letter, _ in rows], [number for _, number in rows]], schema=schema)
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=group)
    assert read_parquet(file, columns).equals(table.select(columns))
    found = read_parquet(file, columns, where=("letter.of", values))
    assert found.column_names == columns
    assert found.to_pylist() == [
        {name: {"letter.of": letter, "number": number}[name] for name in columns}
        for letter, number in rows
        if letter in values
    ]
