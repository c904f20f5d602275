"""Reading Parquet files on the calling thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def open_parquet(source: Any) -> pq.ParquetFile:
    """A Parquet file (path or open file) whose reads, with `use_threads=False`, are done by the calling thread.

    By default pyarrow reads ahead on threads of its own, a whole file where it can, and one that still holds a Python file
    when the interpreter ends aborts the process (pyarrow 26: once in a hundred commands on a busy machine).
    """
    return pq.ParquetFile(source, pre_buffer=False)


def read_parquet(
    source: Any, columns: list[str] | None = None, where: tuple[str, Sequence[object]] | None = None
) -> pa.Table:
    """A Parquet file (path or open file), or those of its rows in which a column has one of some values.

    Of a group of rows without such a value no other column is read.
    """
    parquet = open_parquet(source)
    columns = columns or parquet.schema_arrow.names
    if where is None:
        return parquet.read(columns, use_threads=False).select(columns)
    found = [parquet.schema_arrow.empty_table().select(columns)]
    for group in range(parquet.num_row_groups):
        values = parquet.read_row_group(group, [where[0]], use_threads=False).column(where[0])
        chosen = pc.is_in(values, pa.array(where[1], values.type))
        if pc.any(chosen).as_py():
            rows = parquet.read_row_group(group, columns, use_threads=False)
            found.append(rows.select(columns).filter(chosen))
    return pa.concat_tables(found)
