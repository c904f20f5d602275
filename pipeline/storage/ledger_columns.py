"""The columns of the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from tokenmill.pipeline.storage.column_types import type_of, widened

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

END_TYPES = {
    "stage": pa.string(),
    "rule": pa.string(),
    "value": pa.float64(),
    "threshold": pa.float64(),
    "message": pa.string(),
}
"""Columns that say where a document ended, and by what."""

ENDS = tuple(END_TYPES)
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


def measure_types(given: Iterable[tuple[str, str]]) -> dict[str, pa.DataType]:
    """The types of the measures "node:measure", those of all partitions together, so that the ledger's files go together too.

    `given`: measures with the names of their types, as receipts have them. Raises `RunError` where a measure has types in two
    partitions that do not go together.
    """
    types: dict[str, pa.DataType] = {}
    for column, name in given:
        kind = type_of(name)
        types[column] = widened(types.get(column, kind), kind, column)
    return types
