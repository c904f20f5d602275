"""Documents as numbers, those of all partitions before plus the position; and ranges of keys, so that a task sorts some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.stages.dedup.clusters import as_numpy
from tokenmill.stages.dedup.group_by_key import Numbers
from tokenmill.stages.dedup.lsh import rows_of_shared_keys
from tokenmill.stages.stage import Corpus, PartitionInfo, PreviousPartition


def first_numbers(parts: Sequence[PartitionInfo | PreviousPartition]) -> Numbers:
    """The number of each part's first document, and one past the last part's."""
    return np.concatenate([[0], np.cumsum([part.size for part in parts])]).astype(np.int64)


def identities(
    parts: Sequence[PartitionInfo | PreviousPartition], numbers: Numbers, are_none: npt.NDArray[np.bool_]
) -> pa.Array:
    """Ledger ids of documents by their numbers, null where there is none."""
    bases = first_numbers(parts)
    place = np.where(are_none, 0, np.searchsorted(bases, numbers, "right") - 1)
    names = pa.array([part.name for part in parts], pa.string()).take(pa.array(place))
    positions = pa.array(numbers - bases[place], mask=are_none).cast(pa.string())
    return pc.binary_join_element_wise(names, positions, "#")


def runs_of(corpus: Corpus, numbers: Numbers, are_none: npt.NDArray[np.bool_]) -> pa.Array:
    """The previous runs that documents belong to, by their numbers; null for this run's and where there is none."""
    place = np.searchsorted(first_numbers([*corpus.parts, *corpus.previous]), numbers, "right") - 1 - len(corpus.parts)
    runs = pa.array([part.run for part in corpus.previous], pa.string())
    return runs.take(pa.array(place, mask=are_none | (place < 0)))


def key_ranges(count: int, most: int) -> list[str]:
    """Ranges of 64-bit keys like "0of4", so many that each holds about `most` of `count` keys at most."""
    ranges = max(-(-count // most), 1)
    return [f"{number}of{ranges}" for number in range(ranges)]


def band_column(band: int) -> str:
    """The column of a band's keys."""
    return f"band{band:03d}"


def band_tasks(bands: int, ranges: Sequence[str]) -> list[str]:
    """Task keys for each band and range of its keys."""
    return [f"{band_column(band)}-{key_range}" for band in range(bands) for key_range in ranges]


def rows_in_range(keys: npt.NDArray[np.uint64], key_range: str) -> Numbers | None:
    """The rows whose keys lie in a range; None for all."""
    number, count = (int(word) for word in key_range.split("of"))
    if count == 1:
        return None
    low, high = (2**64 * number) // count, (2**64 * (number + 1)) // count - 1
    return np.flatnonzero((keys >= np.uint64(low)) & (keys <= np.uint64(high)))


def shared_in_range(
    columns: Iterable[npt.NDArray[np.uint64]], key_range: str
) -> tuple[npt.NDArray[np.uint64], list[Numbers]]:
    """The keys in a range that more than one row of all parts together has, part by part, and for each part their rows.

    `columns`: each part's keys.
    """
    found, rows = [np.empty(0, np.uint64)], []
    for keys in columns:
        within = rows_in_range(keys, key_range)
        rows.append(within)
        found.append(keys if within is None else keys[within])
    ends = np.cumsum([len(keys) for keys in found])
    keys = np.concatenate(found)
    del found  # the pieces are as large as the whole
    shared = rows_of_shared_keys(keys)
    cut = np.searchsorted(shared, ends)
    mine = [shared[cut[part] : cut[part + 1]] - ends[part] for part in range(len(rows))]
    return keys[shared], [part if within is None else within[part] for part, within in zip(mine, rows, strict=True)]


def keys_in_range(
    tables: Iterable[pa.Table], column: str, bases: Numbers, key_range: str
) -> tuple[npt.NDArray[np.uint64], Numbers]:
    """Keys in a range and the numbers of their documents, of the tables of partitions in order."""
    found, numbers = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for table, base in zip(tables, bases[:-1], strict=True):
        keys, positions = as_numpy(table, column), as_numpy(table, "position")
        within = rows_in_range(keys, key_range)
        found.append(keys if within is None else keys[within])
        numbers.append(base + (positions if within is None else positions[within]))
    return np.concatenate(found), np.concatenate(numbers)
