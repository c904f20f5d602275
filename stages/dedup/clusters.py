"""Clusters of duplicates: from verified pairs to the documents to drop, and the one that is kept for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.stages.dedup.group_by_key import Numbers
from tokenmill.stages.dedup.lsh import numbers_of

NO_RULE, EXACT, NEAR, CONTAINED, PREVIOUS_RUN = range(5)
"""The rule that drops a document (`PREVIOUS_RUN`: a previous run kept a duplicate of it), or none, so that it is kept."""

NO_SURVIVOR = -1


class DuplicateFates(NamedTuple):
    """The fates of documents that have duplicates, ascending by number; one document may have a row in several of these.

    A dropped one has the number of its survivor (the document that is kept for it), the similarity of the two (NaN where not
    measured) and the rule; a survivor has `NO_SURVIVOR`, `NO_RULE` and `copies`, the documents that are dropped for it.
    """

    document: npt.NDArray[Any]
    survivor: npt.NDArray[Any]
    similarity: npt.NDArray[Any]
    rule: npt.NDArray[Any]
    copies: npt.NDArray[Any]

    @staticmethod
    def of(table: pa.Table) -> DuplicateFates:
        """Reads a table; no copy where it is one batch."""
        return DuplicateFates(*(as_numpy(table, name) for name in FATE_SCHEMA.names))

    def table(self) -> pa.Table:
        """Columns of `FATE_SCHEMA`."""
        return pa.table([pa.array(column) for column in self], schema=FATE_SCHEMA)

    def taken(self, rows: slice | npt.NDArray[Any]) -> DuplicateFates:
        """Some rows."""
        return DuplicateFates(*(column[rows] for column in self))

    def find(self, documents: Numbers) -> tuple[Numbers, npt.NDArray[np.bool_]]:
        """The rows of documents, and which of them have one (the row of another means nothing)."""
        if not len(self.document):
            return np.zeros(len(documents), np.int64), np.zeros(len(documents), np.bool_)
        rows = np.minimum(np.searchsorted(self.document, documents), len(self.document) - 1)
        return rows, self.document[rows] == documents


FATE_SCHEMA = pa.schema(
    {
        "document": pa.int64(),
        "survivor": pa.int64(),
        "similarity": pa.float32(),
        "rule": pa.uint8(),
        "copies": pa.int64(),
    }
)


def as_numpy(table: pa.Table | pa.RecordBatch, name: str) -> npt.NDArray[Any]:
    """A column of numbers without nulls; no copy where it is one piece."""
    column = table.column(name)
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column.to_numpy()


def sliced(tables: Sequence[Any], where: Sequence[slice], name: str) -> Numbers:
    """A slice of a column of each table, one after the other."""
    pieces = [as_numpy(table, name)[rows] for table, rows in zip(tables, where, strict=True)]
    return np.concatenate([np.empty(0, np.int64), *pieces])


def between(ascending: npt.NDArray[Any], low: int, high: int) -> slice:
    """Where the values from `low` (inclusive) to `high` (exclusive) lie."""
    begin, end = np.searchsorted(ascending, [low, high])
    return slice(int(begin), int(end))


def bounded_ranges(runs: Iterable[Numbers], low: int, high: int, most: int) -> Iterator[tuple[int, int]]:
    """Cuts a range of integers, ascending, until at most `most` values of all runs (each ascending) lie in a piece, or the
    piece is one integer wide."""
    runs = [run[between(run, low, high)] for run in runs]
    if sum(len(run) for run in runs) <= most or high - low <= 1:
        yield low, high
        return
    middle = (low + high) // 2
    yield from bounded_ranges(runs, low, middle, most)
    yield from bounded_ranges(runs, middle, high, most)


@njit(cache=True, nogil=True)
def sweep(losers: Any, winners: Any, dropped: Any) -> None:
    """Marks in `dropped` (uint8, by document number) the losers that have a winner which is kept.

    Pairs come ascending by the loser's rank, over all calls, and a winner ranks below its losers: when a pair's turn comes, all
    pairs that could drop its winner have had theirs. So a document is dropped only if it matches a kept one. Connected
    components, the usual clustering, would drop C for A where A is like B and B like C, however unlike A and C are.
    """
    for pair in range(len(losers)):
        # one byte a document is the only state, and the order of pairs does the rest: the one task that sees the whole
        # corpus holds neither a union-find forest (8 bytes a document) nor all pairs at once
        if not dropped[losers[pair]] and not dropped[winners[pair]]:
            dropped[losers[pair]] = 1


def exact_fates(losers: Numbers, winners: Numbers) -> DuplicateFates:
    """Of exact duplicates, given by number."""
    order = np.argsort(losers)
    count = len(losers)
    similarity, rule = np.ones(count, np.float32), np.full(count, EXACT, np.uint8)
    dropped = DuplicateFates(losers[order], winners[order], similarity, rule, np.zeros(count, np.int64))
    return with_copies(dropped, np.ones(count, np.int64))


def near_fates(pairs: pa.RecordBatch, dropped: npt.NDArray[np.uint8]) -> DuplicateFates:
    """Of the dropped losers of verified pairs (ascending by ranks): the survivor of each is its first winner that is kept."""
    losers, winners = as_numpy(pairs, "loser_rank"), as_numpy(pairs, "winner_rank")
    rows = np.flatnonzero((dropped[numbers_of(losers)] == 1) & (dropped[numbers_of(winners)] == 0))
    rows = rows[np.unique(losers[rows], return_index=True)[1]]
    rows = rows[np.argsort(numbers_of(losers[rows]))]
    similarity, rule = as_numpy(pairs, "similarity")[rows], as_numpy(pairs, "rule")[rows]
    return DuplicateFates(
        numbers_of(losers[rows]), numbers_of(winners[rows]), similarity, rule, np.zeros(len(rows), np.int64)
    )


def joined(several: Iterable[DuplicateFates]) -> DuplicateFates:
    """Several fates, one after the other."""
    every = [DuplicateFates.of(FATE_SCHEMA.empty_table()), *several]
    return DuplicateFates(*(np.concatenate([fates[column] for fates in every]) for column in range(len(FATE_SCHEMA))))


def with_copies(dropped: DuplicateFates, weights: Numbers) -> DuplicateFates:
    """The same and a row for each survivor: `copies` is the sum of `weights` over the documents that are dropped for it."""
    survivors, group = np.unique(dropped.survivor, return_inverse=True)
    count = len(survivors)
    copies = np.bincount(group, weights, count).astype(np.int64)
    nothing, none = np.full(count, np.nan, np.float32), np.full(count, NO_SURVIVOR, np.int64)
    kept = DuplicateFates(survivors, none, nothing, np.full(count, NO_RULE, np.uint8), copies)
    both = joined([dropped, kept])
    return both.taken(np.argsort(both.document))


class PartitionFates:
    """The fate of each document of a partition, by position, shape (size,): as `DuplicateFates`, but `copies` counts itself."""

    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.size = size
        self.rule = np.full(size, NO_RULE, np.uint8)
        self.survivor = np.full(size, NO_SURVIVOR, np.int64)
        self.similarity = np.full(size, np.nan, np.float32)
        self.copies = np.ones(size, np.int64)

    def add(self, fates: DuplicateFates) -> None:
        """Takes over the fates of this partition's documents."""
        mine = fates.taken(between(fates.document, self.base, self.base + self.size))
        self.copies[mine.document - self.base] += mine.copies
        self._drop(mine.document - self.base, mine, mine.rule != NO_RULE)

    def follow(self, near: DuplicateFates, low: int, high: int) -> None:
        """Where a document from `low` to `high` (exclusive) is a near duplicate, its exact duplicates get the same survivor."""
        exact = np.flatnonzero((self.rule == EXACT) & (self.survivor >= low) & (self.survivor < high))
        rows, are_there = near.find(self.survivor[exact])
        exact, found = exact[are_there], near.taken(rows[are_there])
        self._drop(exact, found, found.rule != NO_RULE)

    def _drop(self, positions: Numbers, fates: DuplicateFates, is_dropped: npt.NDArray[np.bool_]) -> None:
        dropped = positions[is_dropped]
        self.rule[dropped] = fates.rule[is_dropped]
        self.survivor[dropped] = fates.survivor[is_dropped]
        self.similarity[dropped] = fates.similarity[is_dropped]
