"""The phase `candidates`: exact duplicates by their digests, and pairs of documents that share the key of a band.

A task has one column of keys (the digests' or a band's) and a range of its keys, of all partitions.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa

from tokenmill.stages.dedup import limits
from tokenmill.stages.dedup.clusters import FATE_SCHEMA, as_numpy, exact_fates
from tokenmill.stages.dedup.group_by_key import Numbers
from tokenmill.stages.dedup.ids import band_tasks, first_numbers, key_ranges, shared_in_range
from tokenmill.stages.dedup.lsh import PEERS, exact_pairs, near_pairs, numbers_of, ranks_of
from tokenmill.stages.stage import Corpus, TaskContext

PAIR_SCHEMA = pa.schema(dict.fromkeys(("loser", "loser_rank", "winner_rank"), pa.int64()))
"""`loser`: number of the document that would be dropped, ascending."""

INVOLVED = "involved.bin"


def candidate_tasks(corpus: Corpus, bands: int) -> list[str]:
    """The phase's task keys: `exact-` and a range, then those of the bands."""
    ranges = key_ranges(sum(part.kept for part in corpus.parts), limits.RANGE_DOCUMENTS)
    return [f"exact-{key_range}" for key_range in ranges] + band_tasks(bands, ranges)


def exact_duplicates(corpus: Corpus) -> list[tuple[str, str]]:
    """The phase's tasks that wrote `DuplicateFates` of exact duplicates."""
    return [pair for pair in corpus.every("candidates") if pair[1].startswith("exact")]


def near_candidates(corpus: Corpus) -> list[tuple[str, str]]:
    """The phase's tasks that wrote pairs of `PAIR_SCHEMA`, and the documents in them, see `read_involved`."""
    return [pair for pair in corpus.every("candidates") if pair[1].startswith("band")]


def write_candidates(context: TaskContext) -> None:
    """Writes `FATE_SCHEMA` for the digests, `PAIR_SCHEMA` for a band."""
    column, _, key_range = context.task.partition("-")
    if column == "exact":
        _write_exact(context, key_range)
    else:
        _write_near(context, column, key_range)


def _write_exact(context: TaskContext, key_range: str) -> None:
    losers, winners = exact_pairs(*_shared_keys(context, "digest_low", key_range, "digest_high"))
    context.write(exact_fates(numbers_of(losers), numbers_of(winners)).table(), FATE_SCHEMA)
    context.add_metrics(exact=len(losers))


def _write_near(context: TaskContext, band: str, key_range: str) -> None:
    losers, winners, involved, sizes = near_pairs(*_shared_keys(context, band, key_range, "digest_low"))
    numbers = numbers_of(losers)
    order = np.lexsort((winners, numbers))
    columns = [pa.array(column[order]) for column in (numbers, losers, winners)]
    context.write(pa.table(columns, schema=PAIR_SCHEMA), PAIR_SCHEMA)
    _write_involved(context, np.unique(numbers_of(involved)))
    largest = int(sizes.max()) if len(sizes) else 0
    context.add_metrics(pairs=len(losers), largest_bucket=largest, capped_buckets=int((sizes > PEERS + 1).sum()))


def _shared_keys(context: TaskContext, column: str, key_range: str, digest: str) -> tuple[Any, Any, Numbers]:
    """Keys, digests and ranks of the documents whose key lies in a range like "0of4" and is not theirs alone."""
    bases = first_numbers(context.corpus.parts)
    signed = context.corpus.every("signatures")
    # the keys first, the other columns for the few rows that share theirs: most of the tables is never read
    keys, rows = shared_in_range((as_numpy(context.table(*pair, [column]), column) for pair in signed), key_range)
    digests, ranks = np.empty(len(keys), np.uint64), np.empty(len(keys), np.int64)
    end = 0
    for (phase, task), mine in zip(signed, rows, strict=True):
        begin, end = end, end + len(mine)
        if begin == end:
            continue
        table = context.table(phase, task, ["position", "priority", digest])
        digests[begin:end] = as_numpy(table, digest)[mine]
        numbers = as_numpy(table, "position")[mine] + bases[int(task)]
        ranks[begin:end] = ranks_of(numbers, as_numpy(table, "priority")[mine])
    return keys, digests, ranks


def _write_involved(context: TaskContext, documents: Numbers) -> None:
    """Writes the documents of candidate pairs so that one partition's can be read alone: where each partition's begin
    (int64, partitions + 1), then the numbers (int64)."""
    bases = first_numbers(context.corpus.parts)
    with context.create(INVOLVED) as file:
        file.write(np.searchsorted(documents, bases).astype("<i8").tobytes())
        file.write(documents.astype("<i8").tobytes())


def read_involved(context: TaskContext, pair: tuple[str, str], part: int) -> Numbers:
    """Numbers of a partition's documents that are in candidate pairs of a task of `near_candidates`, ascending."""
    with context.file(*pair, INVOLVED) as file:
        file.seek(8 * part)
        begin, end = struct.unpack("<2q", file.read(16))
        file.seek(8 * (len(context.corpus.parts) + 1 + begin))
        return np.frombuffer(file.read(8 * (end - begin)), "<i8")
