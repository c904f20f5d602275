"""The phases `sets` (shingle sets of the documents in candidate pairs) and `verified` (the pairs that are duplicates).

The losers' partitions are cut into groups, so that a task holds the sets of one group and reads the winners' a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.stages.dedup import limits
from tokenmill.stages.dedup.candidates import near_candidates, read_involved
from tokenmill.stages.dedup.clusters import NEAR, NO_RULE, as_numpy, between, bounded_ranges, sliced
from tokenmill.stages.dedup.group_by_key import Numbers
from tokenmill.stages.dedup.ids import first_numbers
from tokenmill.stages.dedup.lsh import distinct, numbers_of
from tokenmill.stages.dedup.verify import Verifier, verify
from tokenmill.stages.stage import Corpus, TaskContext
from tokenmill.stages.text.shingles import shingle_sets

SET_SCHEMA = pa.schema({"position": pa.int32(), "shingles": pa.list_(pa.uint32())})
VERIFIED_SCHEMA = pa.schema(
    {"loser_rank": pa.int64(), "winner_rank": pa.int64(), "similarity": pa.float32(), "rule": pa.uint8()}
)
"""Each batch ascending by ranks, batches ascending by the losers' numbers. `similarity`: NaN where not verified."""


def write_sets(context: TaskContext, *, ngram: int, is_verified: bool) -> None:
    """Writes the sets of the partition's documents that are in candidate pairs; none where pairs are not verified."""
    part = int(context.task)
    base = first_numbers(context.corpus.parts)[part]
    found = [read_involved(context, pair, part) for pair in near_candidates(context.corpus)]
    involved = np.unique(np.concatenate([np.empty(0, np.int64), *found])) - base
    total = 0

    def sets() -> Iterator[pa.RecordBatch]:
        nonlocal total
        for documents in context.documents(["position", "text"]) if is_verified and len(involved) else ():
            chosen = documents.filter(pc.is_in(documents.column("position"), pa.array(involved.astype(np.int32))))
            values, bounds = shingle_sets(chosen.column("text"), ngram)
            total += len(values)
            lists = pa.ListArray.from_arrays(pa.array(bounds.astype(np.int32)), pa.array(values))
            yield pa.RecordBatch.from_arrays([chosen.column("position"), lists], schema=SET_SCHEMA)

    context.write(_joined(sets()), SET_SCHEMA)
    context.add_metrics(documents=len(involved), shingles=total)


def _joined(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in fewer batches, of about `limits.SET_BATCH` shingles."""
    waiting: list[pa.RecordBatch] = []
    shingles = 0
    for batch in batches:
        waiting.append(batch)
        shingles += len(batch.column("shingles").values)
        if shingles >= limits.SET_BATCH:
            yield pa.concat_batches(waiting)
            waiting, shingles = [], 0
    if waiting:
        yield pa.concat_batches(waiting)


def group_bounds(corpus: Corpus) -> dict[str, tuple[int, int]]:
    """Groups of neighbouring parts, cut where their sets reach `limits.GROUP_SHINGLES`: task key -> first part and one past
    the last."""
    groups: dict[str, tuple[int, int]] = {}
    first = size = 0
    for part in corpus.parts:
        sets = corpus.metrics["sets"][str(part.number)]
        size += sets["shingles"] + 16 * sets["documents"]
        if size >= limits.GROUP_SHINGLES or part.number == len(corpus.parts) - 1:
            groups[f"group{len(groups):05d}"] = (first, part.number + 1)
            first, size = part.number + 1, 0
    return groups


def groups(corpus: Corpus) -> list[str]:
    """Task keys of the phases over groups."""
    return list(group_bounds(corpus))


def write_verified(context: TaskContext, *, similarity: float, is_verified: bool) -> None:
    """Writes the candidate pairs of the group's losers that are duplicates, or all where pairs are not verified."""
    bases = first_numbers(context.corpus.parts)
    first, last = group_bounds(context.corpus)[context.task]
    tables = [context.table(*pair) for pair in near_candidates(context.corpus)]
    verifier = Verifier(lambda part: context.table("sets", str(part)), bases, first, last) if is_verified else None
    candidates = 0

    def verified() -> Iterator[pa.RecordBatch]:
        nonlocal candidates
        numbers = [as_numpy(table, "loser") for table in tables]
        for low, high in bounded_ranges(numbers, int(bases[first]), int(bases[last]), limits.MOST_PAIRS):
            where = [between(losers, low, high) for losers in numbers]
            losers, winners = distinct(sliced(tables, where, "loser_rank"), sliced(tables, where, "winner_rank"))
            candidates += len(losers)
            yield _duplicates(verifier, losers, winners, similarity)

    context.write(verified(), VERIFIED_SCHEMA)
    context.add_metrics(candidates=candidates)


def _duplicates(verifier: Verifier | None, losers: Numbers, winners: Numbers, threshold: float) -> pa.RecordBatch:
    similarity, rule = np.full(len(losers), np.nan, np.float32), np.full(len(losers), NEAR, np.uint8)
    if verifier is not None:
        counts = verifier.compare(numbers_of(losers), numbers_of(winners))
        similarity, rule = verify(*counts, threshold)
    found = rule != NO_RULE
    columns = [pa.array(column[found]) for column in (losers, winners, similarity, rule)]
    return pa.RecordBatch.from_arrays(columns, schema=VERIFIED_SCHEMA)
