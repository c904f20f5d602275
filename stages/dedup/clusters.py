"""Who stays: from verified pairs to the documents that go, and to those that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.stages.dedup.group_by_key import Numbers
from tokenmill.stages.dedup.lsh import numbers_of

STAYS, EXACT, NEAR, CONTAINED, EARLIER = 0, 1, 2, 3, 4
"""What is said of a document: it stays, or why it goes (`EARLIER`: for a document that an earlier run kept)."""

NO_SURVIVOR = -1


class DuplicateFates(NamedTuple):
    """What becomes of some documents, ascending by number; a document may stand in several.

    One that goes has its survivor's number, the similarity of the two (NaN where not measured) and why; one that stays, for
    which others go, has `NO_SURVIVOR` and `copies`, the number of those.
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
        """The rows of documents, and which of them have one (the row of others says nothing)."""
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


def thresholds(runs: Iterable[Numbers], low: int, high: int, most: int) -> Iterator[tuple[int, int]]:
    """Cuts a range of integers, ascending, until at most `most` values of all runs (each ascending) lie in a piece, or the
    piece is one integer wide."""
    runs = [run[between(run, low, high)] for run in runs]
    if sum(len(run) for run in runs) <= most or high - low <= 1:
        yield low, high
        return
    middle = (low + high) // 2
    yield from thresholds(runs, low, middle, most)
    yield from thresholds(runs, middle, high, most)


@njit(cache=True, nogil=True)
def sweep(losers: Any, winners: Any, dropped: Any) -> None:
    """Marks in `dropped` (uint8, by document number) the losers of which a winner stays.

    Pairs come ascending by the loser's rank, over all calls. A winner ranks below its losers, so its fate is known by then: a
    document goes only if it matches one that stays, and no chain of likenesses drops what its ends do not share.
    """
    for pair in range(len(losers)):
        if not dropped[losers[pair]] and not dropped[winners[pair]]:
            dropped[losers[pair]] = 1


def exact_fates(losers: Numbers, winners: Numbers) -> DuplicateFates:
    """Of exact duplicates, given by number."""
    order = np.argsort(losers)
    count = len(losers)
    similarity, rule = np.ones(count, np.float32), np.full(count, EXACT, np.uint8)
    gone = DuplicateFates(losers[order], winners[order], similarity, rule, np.zeros(count, np.int64))
    return with_copies(gone, np.ones(count, np.int64))


def near_fates(pairs: pa.RecordBatch, dropped: npt.NDArray[np.uint8]) -> DuplicateFates:
    """Of the dropped losers of verified pairs (ascending by ranks): each goes for its first winner that stays."""
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


def with_copies(gone: DuplicateFates, weights: Numbers) -> DuplicateFates:
    """The same and a row for each survivor: the sum of `weights` over the documents that go for it."""
    survivors, group = np.unique(gone.survivor, return_inverse=True)
    count = len(survivors)
    copies = np.bincount(group, weights, count).astype(np.int64)
    nothing, none = np.full(count, np.nan, np.float32), np.full(count, NO_SURVIVOR, np.int64)
    staying = DuplicateFates(survivors, none, nothing, np.full(count, STAYS, np.uint8), copies)
    both = joined([gone, staying])
    return both.taken(np.argsort(both.document))


class PartitionFates:
    """What becomes of each document of a partition, by position, shape (size,): `DuplicateFates` (its copies include itself)."""

    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.size = size
        self.rule = np.full(size, STAYS, np.uint8)
        self.survivor = np.full(size, NO_SURVIVOR, np.int64)
        self.similarity = np.full(size, np.nan, np.float32)
        self.copies = np.ones(size, np.int64)

    def add(self, fates: DuplicateFates) -> None:
        """Takes over what is said of this partition's documents."""
        mine = fates.taken(between(fates.document, self.base, self.base + self.size))
        self.copies[mine.document - self.base] += mine.copies
        self._drop(mine.document - self.base, mine, mine.rule != STAYS)

    def follow(self, near: DuplicateFates, low: int, high: int) -> None:
        """Exact duplicates of a document from `low` to `high` (exclusive) that goes as a near one go for its survivor."""
        exact = np.flatnonzero((self.rule == EXACT) & (self.survivor >= low) & (self.survivor < high))
        rows, are_there = near.find(self.survivor[exact])
        exact, found = exact[are_there], near.taken(rows[are_there])
        self._drop(exact, found, found.rule != STAYS)

    def _drop(self, positions: Numbers, fates: DuplicateFates, goes: npt.NDArray[np.bool_]) -> None:
        self.rule[positions[goes]] = fates.rule[goes]
        self.survivor[positions[goes]] = fates.survivor[goes]
        self.similarity[positions[goes]] = fates.similarity[goes]
