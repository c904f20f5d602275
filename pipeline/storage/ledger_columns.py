"""The columns of the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from tokenmill.pipeline.storage.receipts import Receipt

RECORD = {
    "url": pa.string(),
    "date": pa.timestamp("ms", tz="UTC"),
    "offset": pa.int64(),
    "bytes": pa.int64(),
    "digest": pa.string(),
    "metadata": pa.string(),
}
"""Columns that reading gives, with their types as Parquet holds them."""


ENDS = ("stage", "rule", "value", "threshold", "message")


FATES = ("kept", "dropped", "failed")


def ledger_names(columns: Iterable[str]) -> dict[str, str]:
    """Ledger names of the measures "node:measure": the measure alone where one node has it, else `node_measure`."""
    ordered = dict.fromkeys(columns)
    shared = Counter(column.partition(":")[2] for column in ordered)
    fixed = {"id", "source", "path", "position", "fate", *RECORD, *ENDS}
    names = {}
    for column in ordered:
        measure = column.partition(":")[2]
        names[column] = column.replace(":", "_") if shared[measure] > 1 or measure in fixed else measure
    return names


def measure_columns(receipts: Iterable[Receipt], node: str) -> dict[str, str]:
    """Ledger column -> measure, for the measures of a stage."""
    names = ledger_names(column for receipt in receipts for column in receipt.columns)
    return {there: column.partition(":")[2] for column, there in names.items() if column.partition(":")[0] == node}
