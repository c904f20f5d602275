"""Writing a document more than once by how many duplicates it stands for.

FineWeb-2 (Penedo et al. 2025) deduplicates over all crawls and then repeats documents by the size of their cluster: those of
middling size passed its filters more often than those found once, or a thousand times. Its first table repeats clusters of 2
and 3 as often, from 5 on 5 times, from 100 on 8 times, and from 1,000 on once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.stages.tokens.shuffle import shuffle_keys


def times_written(table: Mapping[int, int], copies: pa.Array) -> npt.NDArray[np.int64]:
    """How often each document is written, int64, shape (documents,). `table`: from so many copies on, so many times."""
    limits = np.sort(np.fromiter(table, np.int64))
    times = np.array([table[int(limit)] for limit in limits])
    return times[np.searchsorted(limits, copies.to_numpy(zero_copy_only=False), "right") - 1]


def upsampled(batch: pa.RecordBatch, times: npt.NDArray[np.int64], partition: str) -> pa.RecordBatch:
    """Each row `times` times (int64, shape (rows,)), each time with another shuffle key, the first time with the one it has."""
    rows = np.repeat(np.arange(batch.num_rows), times)
    # each row's number among the repeats of its document: its place less the place of the first of them
    repeat = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    taken = batch.take(pa.array(rows))
    keys = taken.column("key").to_numpy().copy()
    positions = taken.column("position").to_numpy()
    for number in range(1, int(times.max(initial=1))):
        mine = repeat == number
        keys[mine] = shuffle_keys(partition, positions[mine], number)
    return taken.set_column(taken.schema.get_field_index("key"), "key", pa.array(keys))
