"""The columns of the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

RECORD = {
    "url": pa.string(),
    "date": pa.timestamp("ms", tz="UTC"),
    "offset": pa.int64(),
    "bytes": pa.int64(),
    "digest": pa.string(),
    "metadata": pa.string(),
}
"""Columns that reading gives, with their types as Parquet holds them."""

IDENTITY = ("id", "source", "path", "position", *RECORD)
"""Columns that say which document it is, and where it came from."""

ENDS = ("stage", "rule", "value", "threshold", "message")
"""Columns that say where a document ended, and by what."""
FATES = ("kept", "dropped", "failed")


def ledger_names(columns: Iterable[str]) -> dict[str, str]:
    """Ledger names of the measures "node:measure": the measure alone where one node has it, else `node_measure`."""
    ordered = dict.fromkeys(columns)
    shared = Counter(column.partition(":")[2] for column in ordered)
    fixed = {*IDENTITY, "fate", *ENDS}
    names = {}
    for column in ordered:
        measure = column.partition(":")[2]
        names[column] = column.replace(":", "_") if shared[measure] > 1 or measure in fixed else measure
    return names
