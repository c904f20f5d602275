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


def column_bounds(parquet: pq.ParquetFile, column: str) -> list[tuple[Any, Any] | None]:
    """The least and the greatest value of a column in each group of rows, by the file's statistics; None without values."""
    described = parquet.metadata
    place = [described.schema.column(number).path for number in range(described.num_columns)].index(column)
    found = (described.row_group(group).column(place).statistics for group in range(described.num_row_groups))
    return [(one.min, one.max) if one is not None and one.has_min_max else None for one in found]


def read_parquet(
    source: Any, columns: list[str] | None = None, where: tuple[str, Sequence[Any]] | None = None
) -> pa.Table:
    """A Parquet file (path or open file), or those of its rows in which a column has one of some values.

    Of a group of rows whose statistics rule them out nothing is read, of another without them no other column.
    """
    parquet = open_parquet(source)
    columns = columns or parquet.schema_arrow.names
    if where is None:
        return parquet.read(columns, use_threads=False).select(columns)
    column, wanted = where
    found = [parquet.schema_arrow.empty_table().select(columns)]
    for group, bounds in enumerate(column_bounds(parquet, column)):
        if bounds is not None and not any(bounds[0] <= value <= bounds[1] for value in wanted):
            continue
        values = parquet.read_row_group(group, [column], use_threads=False).column(column)
        chosen = pc.is_in(values, pa.array(wanted, values.type))
        if pc.any(chosen).as_py():
            rows = parquet.read_row_group(group, columns, use_threads=False)
            found.append(rows.select(columns).filter(chosen))
    return pa.concat_tables(found)
