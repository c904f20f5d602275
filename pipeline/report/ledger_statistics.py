"""What a report shows of a ledger, gathered in one pass over its files, a row group at a time.

Memory: a row group, the histograms, ten samples a rule and side, and a count for every value of a categorical column and every
domain of a URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.pipeline.report.histogram import SAMPLES, Histogram, Nearest, Threshold, edges_around
from tokenmill.pipeline.report.value_counts import ValueCounts
from tokenmill.pipeline.storage.parquet_io import column_bounds, open_parquet
from tokenmill.pipeline.storage.run_folder import RunFolder


@dataclass
class LedgerStatistics:
    """`histograms` by stage, in order, with `near_kept` and `near_dropped` beside each. `first_ended`: of each rule that
    compares no measure, ids and URLs of its first documents. `categories`: by categorical column; `domains`: by host."""

    histograms: list[Histogram]
    near_kept: list[Nearest]
    near_dropped: list[Nearest]
    first_ended: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    categories: dict[str, ValueCounts] = field(default_factory=dict)
    domains: ValueCounts = field(default_factory=ValueCounts)


def ledger_statistics(
    run: RunFolder,
    thresholds: Sequence[Threshold],
    categorical: Sequence[str],
    tokens: str | None = None,
    text_bytes: str | None = None,
) -> LedgerStatistics:
    """Looks through a run's ledger.

    `categorical`: columns whose values are counted; `tokens`, `text_bytes`: columns that say how much a document has of them.
    """
    bounds = _bounds(run, {one.column for one in thresholds})
    histograms = [
        Histogram(one, *edges_around(*bounds[one.column], one.rule)) for one in thresholds if one.column in bounds
    ]
    sizes = [column for column in (tokens, text_bytes) if column is not None]
    found = LedgerStatistics(histograms, [Nearest() for _ in histograms], [Nearest() for _ in histograms])
    compared = {one.compares.rule for one in histograms}
    for batch in _batches(run, histograms, [*categorical, *sizes]):
        is_kept = pc.equal(batch.column("fate"), "kept").to_numpy(zero_copy_only=False)
        rule = batch.column("rule")
        for one, near_kept, near_dropped in zip(histograms, found.near_kept, found.near_dropped, strict=True):
            if one.of.column not in batch.schema.names:
                continue
            values = batch.column(one.of.column).cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
            if one.of.where is not None and one.compares.where is not None:
                asked = pc.equal(batch.column(one.of.where), one.compares.where[1]).fill_null(False)
                values = np.where(asked.to_numpy(zero_copy_only=False), values, np.nan)
            one.add(values, is_kept)
            there = ~np.isnan(values)
            ended = pc.equal(rule, one.compares.rule).fill_null(False).to_numpy(zero_copy_only=False)
            near_kept.add(one.compares.threshold, values, there & is_kept, batch)
            near_dropped.add(one.compares.threshold, values, there & ended, batch)
        counts = pa.array(is_kept), _numbers(batch, tokens), _numbers(batch, text_bytes)
        for column in categorical:
            if column in batch.schema.names:
                found.categories.setdefault(column, ValueCounts()).add(batch.column(column), *counts)
        hosts = pc.struct_field(pc.extract_regex(batch.column("url"), r"^[a-z]+://(?P<host>[^/:?#]+)"), "host")
        found.domains.add(hosts, *counts)
        _take_first_ended(batch, rule, compared, found.first_ended)
    return found


def _batches(run: RunFolder, histograms: Sequence[Histogram], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    wanted = ["id", "url", "fate", "rule", *columns]
    wanted += [column for one in histograms for column in (one.of.column, one.of.where) if column is not None]
    for path in run.ledger_paths:
        with run.store.open(path) as file:
            parquet = open_parquet(file)
            there = [name for name in dict.fromkeys(wanted) if name in parquet.schema_arrow.names]
            yield from parquet.iter_batches(columns=there, use_threads=False)


def _numbers(batch: pa.RecordBatch, name: str | None) -> pa.Array:
    """A column of counts, 0 where there is none."""
    if name is None or name not in batch.schema.names:
        return pa.array(np.zeros(batch.num_rows, np.int64))
    return batch.column(name).cast(pa.int64()).fill_null(0)


def _bounds(run: RunFolder, columns: Iterable[str]) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of columns, by the statistics of the files; a column without values is left out."""
    found: dict[str, tuple[float, float]] = {}
    for path in run.ledger_paths:
        with run.store.open(path) as file:
            parquet = open_parquet(file)
        for column in columns:
            for bounds in column_bounds(parquet, column) if column in parquet.schema_arrow.names else ():
                if bounds is not None:
                    least, most = found.get(column, (np.inf, -np.inf))
                    found[column] = (min(least, float(bounds[0])), max(most, float(bounds[1])))
    return found


def _take_first_ended(
    batch: pa.RecordBatch, rule: pa.Array, compared: set[str], into: dict[str, list[tuple[str, str | None]]]
) -> None:
    for name in pc.unique(rule).drop_null().to_pylist():
        first = into.setdefault(name, []) if name not in compared else None
        if first is not None and len(first) < SAMPLES:
            mine = batch.filter(pc.equal(rule, name)).slice(0, SAMPLES - len(first))
            first += zip(mine.column("id").to_pylist(), mine.column("url").to_pylist(), strict=True)
