"""Documents in an order of their own (`shuffle: documents`).

Each document's key is a number in [0, 1) by its identity alone, and the order is that of the keys. Every part is written
in runs sorted by key, and a shard is a range of keys, so that it takes one contiguous slice of each run: an external sort whose
second half is done a shard at a time, in parallel, and without a task that sees all tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.stages.tokens.layout import Place, lay_into_shards
from tokenmill.stages.tokens.tokenizer import document_hashes

BUCKETS = 2**20
"""Equal ranges of keys that no shard ends within: shards are full to within a document or a millionth of the corpus."""
RUN_BYTES = 128 << 20
"""Rows that are sorted at once."""
GROUP_TOKENS = 8_000_000
"""Tokens of a shard that are put into order at once, about."""

Numbers = npt.NDArray[np.int64]


def shuffle_keys(partition: str, positions: npt.NDArray[Any], repeat: int = 0) -> npt.NDArray[np.float64]:
    """The keys of a partition's documents, in [0, 1), shape (documents,); others for each `repeat` of a document."""
    return document_hashes(partition, positions, f"shuffle {repeat}" if repeat else "shuffle")


def sorted_runs(batches: Iterable[pa.RecordBatch], split: int, size: int = RUN_BYTES) -> Iterator[pa.RecordBatch]:
    """The rows of a split in batches of about `size` bytes, each sorted by `key`; batches of other splits as they come.

    A batch has the columns `key` and `split`, and rows of one split.
    """
    waiting: list[pa.RecordBatch] = []
    waiting_bytes = 0
    for batch in batches:
        if batch.column("split")[0].as_py() != split:
            yield batch
            continue
        waiting.append(batch)
        waiting_bytes += batch.nbytes
        if waiting_bytes >= size:
            yield from _sorted(waiting)
            waiting, waiting_bytes = [], 0
    if waiting:
        yield from _sorted(waiting)


def _sorted(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    rows = pa.Table.from_batches(batches)
    order = np.argsort(rows.column("key").to_numpy(), kind="stable")
    return rows.take(order).combine_chunks().to_batches()


def lay_shuffled(split: str, documents: Iterable[tuple[npt.NDArray[np.float64], Numbers]], size: int) -> list[Place]:
    """Lays documents into shards by key. `documents`: keys and token counts, a part at a time, both shape (documents,).

    In the places `first_row` and `end_row` are buckets, and the parts are all. Holds 16 bytes a bucket, none a document.
    """
    tokens, counts = np.zeros(BUCKETS, np.int64), np.zeros(BUCKETS, np.int64)
    parts = 0
    for keys, lengths in documents:
        parts += 1
        # a histogram of keys in place of the keys: the plan's memory does not grow with the corpus, and the sums of buckets are
        # laid into shards as documents are
        buckets = (keys * BUCKETS).astype(np.int64)
        tokens += np.bincount(buckets, lengths, BUCKETS).astype(np.int64)
        counts += np.bincount(buckets, minlength=BUCKETS)
    filled = np.flatnonzero(counts)
    places = lay_into_shards(split, [tokens[filled]], size)
    for place in places:
        mine = filled[place.first_row : place.end_row]
        place.documents = int(counts[mine].sum())
        place.last_part = parts - 1
        place.first_row, place.end_row = int(mine[0]), int(mine[-1]) + 1
    return places


def shuffled_batches(
    parts: Iterable[tuple[int, list[pa.RecordBatch]]], place: Place, split: int
) -> Iterator[tuple[Numbers, pa.RecordBatch]]:
    """The rows of a shard in the order of their keys, with the numbers of the parts that they are from.

    `parts`: number and sorted runs of every part; `split`: as its number.
    """
    runs = [
        (number, run, run.column("key").to_numpy())
        for number, batches in parts
        for run in batches
        if run.num_rows and run.column("split")[0].as_py() == split
    ]
    # groups of buckets, each in turn: what is sorted at once stays small however large a shard is
    edges = np.linspace(place.first_row, place.end_row, place.tokens // GROUP_TOKENS + 2).astype(np.int64)
    for low, high in pairwise(edges.tolist()):
        # bucket borders are multiples of 2^-20, which float64 holds exactly, so that these cuts and the plan's buckets agree
        bounds = [(number, run, *np.searchsorted(keys, [low / BUCKETS, high / BUCKETS])) for number, run, keys in runs]
        taken = [(number, run.slice(begin, end - begin)) for number, run, begin, end in bounds if begin < end]
        if not taken:
            continue
        table = pa.Table.from_batches([run for _, run in taken])
        numbers = np.repeat([number for number, _ in taken], [run.num_rows for _, run in taken])
        # stable: equal keys stay in canonical order, for any number of runs
        order = np.argsort(table.column("key").to_numpy(), kind="stable")
        yield numbers[order], table.take(order).combine_chunks().to_batches()[0]
