"""Duplicates of documents that previous runs kept (`against:`), found and measured by those runs' signatures alone.

A document's *sketch* is the lowest byte of each of its MinHash values (Li and Koenig 2010, "b-bit minwise hashing", b = 8): two
sketches agree in a place with probability C + (1 - C) * J, C = 1/256, so the share that agrees estimates the Jaccard similarity
J without the text. With 112 places the standard error is 0.038 at 0.8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.stages.dedup import limits
from tokenmill.stages.dedup.clusters import (
    FATE_SCHEMA,
    PREVIOUS_RUN,
    DuplicateFates,
    as_numpy,
    between,
    bounded_ranges,
    joined,
    sliced,
)
from tokenmill.stages.dedup.group_by_key import Numbers
from tokenmill.stages.dedup.ids import band_tasks, first_numbers, key_ranges, keys_in_range
from tokenmill.stages.dedup.lsh import PEERS, distinct
from tokenmill.stages.stage import Corpus, Phase, TaskContext, reads_every

PAIR_SCHEMA = pa.schema({"document": pa.int64(), "previous": pa.int64()})
"""Numbers of a document of this run, ascending, and of one of a previous run that shares a key with it."""

CHANCE = 1 / 256
"""Of two different MinHash values that their lowest bytes agree."""

Sketches = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PreviousRunMatches:
    """The phases, over `signatures` of this run and of previous ones. `similarity`: the least; None: pairs are not measured."""

    bands: int
    similarity: float | None

    def phases(self) -> Sequence[Phase]:
        """`against`: pairs that share a key, by band and range; `matched`: `DuplicateFates` of each partition's documents."""
        return (
            Phase(
                "against",
                write_pairs,
                keys=partial(_tasks, bands=self.bands),
                reads=reads_every("signatures"),
                reads_previous_runs=True,
            ),
            Phase(
                "matched",
                partial(write_matches, least=self.similarity),
                reads=lambda task, corpus: [*corpus.every("against"), ("signatures", task)],
                uses_corpus=True,
                reads_previous_runs=True,
            ),
        )


def _tasks(corpus: Corpus, bands: int) -> list[str]:
    documents = sum(part.kept for part in corpus.parts) + sum(part.kept for part in corpus.previous)
    return band_tasks(bands, key_ranges(documents, limits.RANGE_DOCUMENTS))


def write_pairs(context: TaskContext) -> None:
    """Writes `PAIR_SCHEMA`: pairs that share a key of the task's band and range."""
    band, _, key_range = context.task.partition("-")
    columns = ["position", band]
    corpus = context.corpus
    mine = (context.table("signatures", str(part.number), columns) for part in corpus.parts)
    theirs = (context.previous_run(part.number, columns) for part in corpus.previous)
    keys, numbers = keys_in_range(mine, band, first_numbers(corpus.parts), key_range)
    previous_keys, previous_numbers = keys_in_range(theirs, band, first_numbers(corpus.previous), key_range)
    rows, places = shared_keys(keys, previous_keys, previous_numbers)
    context.write(pair_table(numbers[rows], previous_numbers[places]), PAIR_SCHEMA)
    context.add_metrics(pairs=len(rows))


def write_matches(context: TaskContext, *, least: float | None) -> None:
    """Writes `FATE_SCHEMA`: the partition's documents that a previous run has a duplicate of."""
    bases, previous_bases = first_numbers(context.corpus.parts), first_numbers(context.corpus.previous)
    base, after = (int(number) for number in bases[int(context.task) : int(context.task) + 2])
    signed = context.table("signatures", context.task, ["position", "sketch"])
    tables = [context.table(*pair) for pair in context.corpus.every("against")]
    numbers = [as_numpy(table, "document") for table in tables]
    found = []
    for low, high in bounded_ranges(numbers, base, after, limits.MOST_PAIRS):
        where = [between(mine, low, high) for mine in numbers]
        documents, previous = distinct(sliced(tables, where, "document"), sliced(tables, where, "previous"))
        similarity = np.full(len(documents), np.nan, np.float32)
        if least is not None:
            similarity = compared(
                documents,
                previous,
                lambda chosen: sketches_at(signed, chosen - base),
                lambda number: context.previous_run(number, ["position", "sketch"]),
                previous_bases,
            )
            alike = similarity >= least
            documents, previous, similarity = documents[alike], previous[alike], similarity[alike]
        found.append(best_matches(documents, previous, similarity, int(bases[-1])))
    context.write(joined(found).table(), FATE_SCHEMA)
    context.add_metrics(matched=sum(len(fates.document) for fates in found))


def sketches(values: npt.NDArray[np.uint32]) -> pa.Array:
    """Sketches of MinHash values (uint32, shape (documents, values)): fixed-size binary, a byte a value."""
    lowest = np.ascontiguousarray(values.astype(np.uint8))
    count, width = lowest.shape
    return pa.Array.from_buffers(pa.binary(width), count, [None, pa.py_buffer(lowest)])


def sketches_at(table: pa.Table, positions: Numbers) -> Sketches:
    """Sketches of the documents at positions that a table (`position` ascending, `sketch`) has: uint8, (documents, values)."""
    rows = np.searchsorted(as_numpy(table, "position"), positions)
    column = table.column("sketch").take(pa.array(rows)).combine_chunks()
    chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    width = chunk.type.byte_width
    begin = chunk.offset * width
    return np.frombuffer(chunk.buffers()[1], np.uint8)[begin : begin + len(chunk) * width].reshape(len(chunk), width)


def estimated_similarity(one: Sketches, other: Sketches) -> npt.NDArray[np.float32]:
    """Estimates of the Jaccard similarities of pairs of sketches (0 to 1), shape (pairs,)."""
    agreeing = (one == other).mean(1)
    return np.clip((agreeing - CHANCE) / (1 - CHANCE), 0, 1).astype(np.float32)


def shared_keys(
    keys: npt.NDArray[np.uint64], previous_keys: npt.NDArray[np.uint64], previous_numbers: Numbers
) -> tuple[Numbers, Numbers]:
    """Rows of `keys` and places in `previous_keys` that hold the same key; for a row at most `PEERS` places, those of the
    lowest numbers, so that work grows with the documents."""
    order = np.lexsort((previous_numbers, previous_keys))
    ordered = previous_keys[order]
    begin = np.searchsorted(ordered, keys, "left")
    counts = np.minimum(np.searchsorted(ordered, keys, "right") - begin, PEERS)
    rows = np.repeat(np.arange(len(keys)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, order[np.repeat(begin, counts) + within]


def pair_table(documents: Numbers, previous: Numbers) -> pa.Table:
    """Rows of `PAIR_SCHEMA`, ascending."""
    order = np.lexsort((previous, documents))
    return pa.table([pa.array(documents[order]), pa.array(previous[order])], schema=PAIR_SCHEMA)


def best_matches(
    documents: Numbers, previous: Numbers, similarity: npt.NDArray[np.float32], base: int
) -> DuplicateFates:
    """For each document its most similar one of a previous run (of several the first), numbered from `base` on."""
    order = np.lexsort((previous, -similarity, documents))
    chosen = order[np.unique(documents[order], return_index=True)[1]]
    rule = np.full(len(chosen), PREVIOUS_RUN, np.uint8)
    return DuplicateFates(
        documents[chosen], previous[chosen] + base, similarity[chosen], rule, np.zeros(len(chosen), np.int64)
    )


def compared(
    documents: Numbers,
    previous: Numbers,
    mine: Callable[[Numbers], Sketches],
    theirs: Callable[[int], pa.Table],
    bases: Numbers,
) -> npt.NDArray[np.float32]:
    """Estimated similarities of pairs. `mine`: sketches of documents by number; `theirs`: the table (`position`, `sketch`) of
    a previous run's partition; `bases`: the number of each of those partitions' first document and one past the last's."""
    similarity = np.zeros(len(documents), np.float32)
    # by their partition, so that each partition's table is read once, whatever the number of previous runs
    order = np.argsort(previous, kind="stable")
    parts = np.searchsorted(bases, previous[order], "right") - 1
    for part in np.unique(parts):
        rows = order[parts == part]
        other = sketches_at(theirs(int(part)), previous[rows] - bases[part])
        similarity[rows] = estimated_similarity(mine(documents[rows]), other)
    return similarity
