"""Documents counted by the values of a column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST_COUNTS = 400_000
"""Rows of counts that are kept before they are summed up."""

COUNTED = ("documents", "kept", "tokens", "bytes")


class ValueCounts:
    """How many documents have each value of a column, how many of these were kept, and the tokens and bytes of those."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []

    def add(self, values: pa.Array, is_kept: pa.Array, tokens: pa.Array, sizes: pa.Array) -> None:
        """Counts a batch; a null is not a value."""
        kept = is_kept.cast(pa.int64())
        ones = pa.array(np.ones(len(values), np.int64))
        columns = [ones, kept, pc.multiply(tokens, kept), pc.multiply(sizes, kept)]
        table = pa.table([values, *columns], names=["value", *COUNTED])
        self._tables.append(_summed(table.filter(pc.is_valid(values))))
        if sum(table.num_rows for table in self._tables) > MOST_COUNTS:
            self._tables = [self.table()]

    def table(self) -> pa.Table:
        """Columns `value`, `documents`, `kept`, `tokens`, `bytes`."""
        return _summed(pa.concat_tables(self._tables))


def _summed(table: pa.Table) -> pa.Table:
    sums = table.group_by("value", use_threads=False).aggregate([(name, "sum") for name in COUNTED])
    return pa.table(
        [sums.column("value"), *(sums.column(f"{name}_sum") for name in COUNTED)], names=["value", *COUNTED]
    )
