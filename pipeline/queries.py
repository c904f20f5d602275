"""Small questions to the Parquet files of a run: rows of the ledger, and files of published folders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.store import Store


def rows_where(store: Store, paths: list[str], column: str, value: object, limit: int = 20) -> Iterator[dict[str, Any]]:
    """Rows of Parquet files in which a column has a value; row groups whose statistics rule it out are not read."""
    found = 0
    for path in paths:
        with store.open(path) as file:
            table = pq.read_table(file, filters=pc.field(column) == value)
        for row in table.slice(0, limit - found).to_pylist():
            found += 1
            yield row
        if found >= limit:
            return


def ledger_paths(store: Store) -> list[str]:
    """The ledger's files."""
    return [f"ledger/{name}" for name in store.names("ledger") if name.endswith(".parquet")]


def document_tables(store: Store, node: str) -> list[str]:
    """The documents tables of a shard stage."""
    return [f"{node}/{name}" for name in store.names(node) if "-documents-" in name]


def dataset_nodes(store: Store) -> list[str]:
    """The stages of a run that have published a dataset."""
    return [name for name in store.read_json("run.json")["nodes"] if store.exists(f"{name}/dataset.json")]
