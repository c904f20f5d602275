"""What a previous run left of one of its partitions, as a task reads it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.pipeline.storage.documents import Positions, is_among, read_columns
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.stage import PreviousPartition


@dataclass(frozen=True)
class PreviousRunFiles:
    """One partition of a previous run: `indexed`, the table of its stage, and its part of that run's ledger, as paths in
    `store`. `checksums`: of the two."""

    part: PreviousPartition
    store: Store
    indexed: str
    ledger: str
    checksums: tuple[str, str]

    def table(self, columns: list[str]) -> pa.Table:
        """Columns of the table's rows, of documents that the run kept."""
        table = read_columns(self.store, self.indexed, list(dict.fromkeys(["position", *columns])))
        kept = _kept_positions(self.store.root, self.ledger, self.checksums[1])
        return table.filter(pa.array(is_among(table.column("position").to_numpy(), kept))).select(columns)


@lru_cache(maxsize=64)
def _kept_positions(root: str, ledger: str, checksum: str) -> Positions:
    """Positions of the documents that a part of a ledger calls kept, ascending; `checksum` tells it from that of another
    time, which has the same name."""
    with Store(root).open(ledger) as file:
        rows = read_parquet(file, ["position", "fate"])
    return np.asarray(rows.filter(pc.equal(rows.column("fate"), "kept")).column("position").to_numpy())
