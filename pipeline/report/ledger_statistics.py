"""What a report shows of a ledger, gathered in one pass over its files, a row group at a time.

Memory: a row group, the histograms, ten samples a rule and side, and a count for every value of a measure in words and every
domain of a URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.pipeline.report.band_agreement import Pair
from tokenmill.pipeline.storage.parquet_io import column_bounds, open_parquet
from tokenmill.pipeline.storage.run_folder import RunFolder
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.stage import ThresholdRule

BINS = 60
LOGARITHMIC_FROM = 1000.0
"""Largest value from which on a measure that is never negative is shown on a logarithmic scale."""
SAMPLES = 10
"""Documents named of each rule, each side."""
CLUSTERS = 10
PAIRS = 2000
"""Duplicates of which the bands are looked at."""
MOST_WORDS = 400_000
"""Rows of counts that are held before they are summed up."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass
class Histogram:
    """Values of the measure that a rule cuts, over the documents that were measured.

    `edges`: float64, (bins + 1,), ascending; the threshold is one of them, so its sides are exact. `kept`, `gone`: int64,
    (bins,): documents by what became of them in the end. A value at an edge counts where the rule says: at the threshold a
    document stays.
    """

    stage: str
    cut: ThresholdRule
    column: str
    where: str | None
    edges: Floats
    is_logarithmic: bool
    kept: Counts = field(init=False)
    gone: Counts = field(init=False)

    def __post_init__(self) -> None:
        self.kept, self.gone = (np.zeros(len(self.edges) - 1, np.int64) for _ in range(2))

    @property
    def cut_off(self) -> int:
        """Documents on the threshold's wrong side, whether or not another rule ended them before."""
        place = int(np.searchsorted(self.edges, self.cut.threshold))
        both = self.kept + self.gone
        return int(both[:place].sum() if self.cut.is_least else both[place:].sum())

    @property
    def documents(self) -> int:
        """Documents that were measured."""
        return int(self.kept.sum() + self.gone.sum())

    def add(self, values: Floats, is_kept: npt.NDArray[np.bool_]) -> None:
        """Counts values, NaN left out."""
        side: Literal["left", "right"] = "right" if self.cut.is_least else "left"
        there = ~np.isnan(values)
        bins = np.clip(np.searchsorted(self.edges, values[there], side) - 1, 0, len(self.kept) - 1)
        self.kept += np.bincount(bins[is_kept[there]], minlength=len(self.kept))
        self.gone += np.bincount(bins[~is_kept[there]], minlength=len(self.kept))


@dataclass
class Nearest:
    """The documents whose values lie nearest to a threshold, the first of those that lie as near: rows with the distance, `id`,
    `url` and value."""

    rows: list[tuple[float, str, str | None, float]] = field(default_factory=list)

    def add(self, threshold: float, values: Floats, mask: npt.NDArray[np.bool_], batch: pa.RecordBatch) -> None:
        """Looks at the documents of a batch that `mask` names."""
        places = np.flatnonzero(mask)
        distances = np.abs(values[places] - threshold)
        if len(self.rows) == SAMPLES:
            nearer = distances < self.rows[-1][0]
            places, distances = places[nearer], distances[nearer]
        if len(places) > SAMPLES:
            reach = np.partition(distances, SAMPLES - 1)[SAMPLES - 1]
            first = np.flatnonzero(distances < reach)
            chosen = np.concatenate([first, np.flatnonzero(distances == reach)[: SAMPLES - len(first)]])
            places, distances = places[chosen], distances[chosen]
        if len(places):
            named = batch.select(["id", "url"]).take(pa.array(places))
            columns = (named.column(name).to_pylist() for name in ("id", "url"))
            found = zip(distances.tolist(), *columns, values[places].tolist(), strict=True)
            self.rows = sorted([*self.rows, *found], key=lambda row: row[0])[:SAMPLES]


COUNTED = ("documents", "kept", "tokens", "bytes")


class ValueCounts:
    """How many documents have each value of a column, how many of these were kept, and the tokens and bytes of those."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []

    def add(self, values: pa.Array, is_kept: pa.Array, tokens: pa.Array, sizes: pa.Array) -> None:
        """Counts a batch; a null is no value."""
        kept = is_kept.cast(pa.int64())
        ones = pa.array(np.ones(len(values), np.int64))
        columns = [ones, kept, pc.multiply(tokens, kept), pc.multiply(sizes, kept)]
        table = pa.table([values, *columns], names=["value", *COUNTED])
        self._tables.append(_summed(table.filter(pc.is_valid(values))))
        if sum(held.num_rows for held in self._tables) > MOST_WORDS:
            self._tables = [self.table()]

    def table(self) -> pa.Table:
        """Columns `value`, `documents`, `kept`, `tokens`, `bytes`."""
        return _summed(pa.concat_tables(self._tables))


def _summed(table: pa.Table) -> pa.Table:
    sums = table.group_by("value", use_threads=False).aggregate([(name, "sum") for name in COUNTED])
    return pa.table(
        [sums.column("value"), *(sums.column(f"{name}_sum") for name in COUNTED)], names=["value", *COUNTED]
    )


@dataclass
class LedgerStatistics:
    """`histograms` by stage, in order, with `near_kept` and `near_gone` beside each. `first_gone`: of each rule that compares
    no measure, ids and URLs of its first documents. `words`: by measure in words; `domains`: by host. `largest`: (copies, id)
    of the documents that stand for most, `copies_of`: of each of these the id of one that it stands for. `similarities`: of
    duplicates, in 20 bins from 0 to 1. `pairs`: by the id of a document that stays the first duplicate of it that was
    verified; the first `PAIRS` of these."""

    histograms: list[Histogram]
    near_kept: list[Nearest]
    near_gone: list[Nearest]
    first_gone: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    words: dict[str, ValueCounts] = field(default_factory=dict)
    domains: ValueCounts = field(default_factory=ValueCounts)
    largest: list[tuple[int, str]] = field(default_factory=list)
    copies_of: dict[str, str] = field(default_factory=dict)
    similarities: Counts = field(default_factory=lambda: np.zeros(20, np.int64))
    pairs: dict[str, Pair] = field(default_factory=dict)


def ledger_statistics(
    run: RunFolder, thresholds: Sequence[tuple[str, str, str | None, ThresholdRule]], words: Sequence[str]
) -> LedgerStatistics:
    """Looks through a run's ledger.

    `thresholds`: of each rule that compares a measure the stage, the measure's column, the column of its `where`, and itself;
    `words`: columns whose values are counted.
    """
    store, paths = run.store, run.ledger_paths
    bounds = _bounds(store, paths, {column for _, column, _, _ in thresholds})
    histograms = [
        Histogram(stage, cut, column, where, *_edges(*bounds[column], cut))
        for stage, column, where, cut in thresholds
        if column in bounds
    ]
    found = LedgerStatistics(histograms, [Nearest() for _ in histograms], [Nearest() for _ in histograms])
    compared = {one.cut.rule for one in histograms}
    for batch in _batches(store, paths, histograms, words):
        is_kept = pc.equal(batch.column("fate"), "kept").to_numpy(zero_copy_only=False)
        rule = batch.column("rule")
        for one, near_kept, near_gone in zip(histograms, found.near_kept, found.near_gone, strict=True):
            if one.column not in batch.schema.names:
                continue
            values = batch.column(one.column).cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
            if one.where is not None and one.cut.where is not None:
                asked = pc.equal(batch.column(one.where), one.cut.where[1]).fill_null(False)
                values = np.where(asked.to_numpy(zero_copy_only=False), values, np.nan)
            one.add(values, is_kept)
            there = ~np.isnan(values)
            ended = pc.equal(rule, one.cut.rule).fill_null(False).to_numpy(zero_copy_only=False)
            near_kept.add(one.cut.threshold, values, there & is_kept, batch)
            near_gone.add(one.cut.threshold, values, there & ended, batch)
        counts = pa.array(is_kept), *(_numbers(batch, name) for name in ("tokens", "text_bytes"))
        for column in words:
            if column in batch.schema.names:
                found.words.setdefault(column, ValueCounts()).add(batch.column(column), *counts)
        hosts = pc.struct_field(pc.extract_regex(batch.column("url"), r"^[a-z]+://(?P<host>[^/:?#]+)"), "host")
        found.domains.add(hosts, *counts)
        _take_first_gone(batch, rule, compared, found.first_gone)
        _take_duplicates(batch, found)
    _take_copies(store, paths, found)
    return found


def _batches(
    store: Store, paths: Iterable[str], histograms: Sequence[Histogram], words: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    wanted = ["id", "url", "fate", "rule", "copies", "similarity", "tokens", "text_bytes", *words]
    wanted += [column for one in histograms for column in (one.column, one.where) if column is not None]
    for path in paths:
        with store.open(path) as file:
            parquet = open_parquet(file)
            there = [name for name in dict.fromkeys(wanted) if name in parquet.schema_arrow.names]
            yield from parquet.iter_batches(columns=there, use_threads=False)


def _numbers(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column of counts, 0 where there is none."""
    if name not in batch.schema.names:
        return pa.array(np.zeros(batch.num_rows, np.int64))
    return batch.column(name).cast(pa.int64()).fill_null(0)


def _bounds(store: Store, paths: Iterable[str], columns: Iterable[str]) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of columns, by the statistics of the files; a column without values is left out."""
    found: dict[str, tuple[float, float]] = {}
    for path in paths:
        with store.open(path) as file:
            parquet = open_parquet(file)
        for column in columns:
            for bounds in column_bounds(parquet, column) if column in parquet.schema_arrow.names else ():
                if bounds is not None:
                    least, most = found.get(column, (np.inf, -np.inf))
                    found[column] = (min(least, float(bounds[0])), max(most, float(bounds[1])))
    return found


def _edges(least: float, most: float, cut: ThresholdRule) -> tuple[Floats, bool]:
    """Edges of bins from `least` to `most`, the threshold among them with a bin on either side, and whether they are
    logarithmic."""
    least, most = min(least, cut.threshold), max(most, cut.threshold)
    step = (most - least) / BINS or 1.0
    # a value at the threshold stays, so it needs a bin of its side where it is the least or the greatest
    if cut.is_least and most == cut.threshold:
        most += step
    if not cut.is_least and least == cut.threshold:
        least -= min(step, 0.5)
    is_logarithmic = least > -1 and most > LOGARITHMIC_FROM
    if is_logarithmic:
        edges = np.expm1(np.linspace(np.log1p(least), np.log1p(most), BINS + 1))
    else:
        edges = np.linspace(least, most, BINS + 1)
    edges[0], edges[-1] = least, most
    if cut.threshold not in edges:
        # the nearest inner edge moves there
        edges[1 + np.abs(edges[1:-1] - cut.threshold).argmin()] = cut.threshold
    return np.unique(edges), is_logarithmic


def _take_first_gone(
    batch: pa.RecordBatch, rule: pa.Array, compared: set[str], into: dict[str, list[tuple[str, str | None]]]
) -> None:
    for name in pc.unique(rule).drop_null().to_pylist():
        held = into.setdefault(name, []) if name not in compared else None
        if held is not None and len(held) < SAMPLES:
            mine = batch.filter(pc.equal(rule, name)).slice(0, SAMPLES - len(held))
            held += zip(mine.column("id").to_pylist(), mine.column("url").to_pylist(), strict=True)


def _take_duplicates(batch: pa.RecordBatch, found: LedgerStatistics) -> None:
    if "copies" in batch.schema.names:
        copies = batch.column("copies").fill_null(0).to_numpy(zero_copy_only=False)
        least = found.largest[-1][0] if len(found.largest) == CLUSTERS else 1
        places = np.flatnonzero(copies > least)
        places = places[np.argsort(-copies[places], kind="stable")[:CLUSTERS]]
        ids = batch.column("id").take(pa.array(places)).to_pylist()
        merged = [*found.largest, *zip(copies[places].tolist(), ids, strict=True)]
        found.largest = sorted(merged, key=lambda pair: (-pair[0], pair[1]))[:CLUSTERS]
    if "similarity" in batch.schema.names:
        values = batch.column("similarity").drop_null().to_numpy(zero_copy_only=False)
        found.similarities += np.histogram(values, len(found.similarities), (0, 1))[0]


def _take_copies(store: Store, paths: Iterable[str], found: LedgerStatistics) -> None:
    """The least like of those that each of the largest stands for, ties by id."""
    largest = pa.array([name for _, name in found.largest], pa.string())
    order = [("similarity", "ascending"), ("id", "ascending")]
    least: dict[str, tuple[float, str]] = {}
    for path in paths if len(largest) else ():
        with store.open(path) as file:
            parquet = open_parquet(file)
            if "survivor" not in parquet.schema_arrow.names:  # no document of this file came so far
                continue
            columns = ["id", "survivor", "similarity"]
            elsewhere = [name for name in ("survivor_run",) if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(columns=columns + elsewhere, use_threads=False):
                for name in elsewhere:  # those of earlier runs are not in this ledger, and others may have their ids
                    batch = batch.filter(pc.is_null(batch.column(name))).select(columns)
                _take_pairs(batch, found.pairs)
                mine = batch.filter(pc.is_in(batch.column("survivor"), largest))
                mine = mine.set_column(2, "similarity", mine.column("similarity").fill_null(0))
                ordered = pa.Table.from_batches([mine]).sort_by(order)
                first = ordered.group_by("survivor", use_threads=False).aggregate(
                    [("similarity", "first"), ("id", "first")]
                )
                for row in first.to_pylist():
                    candidate = row["similarity_first"], row["id_first"]
                    least[row["survivor"]] = min(least.get(row["survivor"], candidate), candidate)
    found.copies_of = {survivor: name for survivor, (_, name) in least.items()}


def _take_pairs(batch: pa.RecordBatch, into: dict[str, Pair]) -> None:
    if len(into) == PAIRS:
        return
    verified = pa.Table.from_batches([batch.filter(pc.is_valid(batch.column("similarity")))])
    first = verified.group_by("survivor", use_threads=False).aggregate([("id", "first"), ("similarity", "first")])
    for row in first.to_pylist():
        if len(into) < PAIRS:
            into.setdefault(row["survivor"], Pair(row["id_first"], row["survivor"], row["similarity_first"]))
