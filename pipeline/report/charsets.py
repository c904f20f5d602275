"""How many pages of a run are in another charset than they declare."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from tokenmill.pipeline.storage.parquet_io import open_parquet
from tokenmill.pipeline.storage.run_folder import RunFolder

FOUND, DECLARED = "charset", "charset_declared"
"""Measures of a page: the charset that it was read in, and the one that its header or meta tag names."""


@dataclass(frozen=True)
class CharsetCount:
    """`pages`: that were read in a charset; `declared`: of these, that name one; `lies`: of those, that are in another."""

    pages: int
    declared: int
    lies: int

    @property
    def lie_rate(self) -> float:
        """Share of the pages that declare a charset (0 to 1) for which it is not what their bytes are."""
        return self.lies / self.declared if self.declared else 0.0


def count_charsets(run: RunFolder) -> CharsetCount | None:
    """Counts in the ledger of a finished run, of which it reads these columns alone; None where no stage measured them."""
    nodes = run.described["nodes"]
    measured = ({measure: column for column, measure in run.measure_columns(node).items()} for node in nodes)
    pairs = [(columns[FOUND], columns[DECLARED]) for columns in measured if {FOUND, DECLARED} <= columns.keys()]
    if not pairs:
        return None
    pages = declared = lies = 0
    for path in run.ledger_paths:
        with run.store.open(path) as file:
            parquet = open_parquet(file)
            there = [pair for pair in pairs if set(pair) <= set(parquet.schema_arrow.names)]
            columns = [column for pair in there for column in pair]
            for batch in parquet.iter_batches(columns=columns, use_threads=False) if there else ():
                for found, named in there:
                    pages += len(batch) - batch.column(found).null_count
                    differs = pc.not_equal(batch.column(found), batch.column(named))  # null where one of them is
                    declared += len(batch) - differs.null_count
                    lies += pc.sum(differs).as_py() or 0
    return CharsetCount(pages, declared, lies)
