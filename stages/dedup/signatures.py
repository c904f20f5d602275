"""The phase `signatures`: of each document its digest, its priority, the keys of its bands, and its sketch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.stages.dedup.ids import band_column
from tokenmill.stages.dedup.minhash import band_keys, match_probability, signatures
from tokenmill.stages.dedup.previous_runs import sketches
from tokenmill.stages.stage import TaskContext
from tokenmill.stages.text.shingles import shingles

Keep = Literal["longest", "first", "newest"]
"""Which of two duplicates is kept."""


def write_signatures(
    context: TaskContext, *, ngram: int, bands: int, rows: int, seed: int, keep: Keep, similarity: float
) -> None:
    """Writes a row for each document of the partition that has words: see `signature_schema`."""
    schema = signature_schema(bands, rows)
    without_words = 0

    def signed() -> Iterator[pa.RecordBatch]:
        nonlocal without_words
        for documents in context.documents(["position", "text", *(["date"] if keep == "newest" else [])]):
            hashes, bounds, digests = shingles(documents.column("text"), ngram)
            values = signatures(hashes, bounds, bands * rows, seed)
            columns = [documents.column("position"), _priorities(documents, keep)]
            columns += [pa.array(numbers) for numbers in (*digests, *band_keys(values, bands, rows))]
            has_words = np.diff(bounds) > 0
            without_words += int((~has_words).sum())
            batch = pa.RecordBatch.from_arrays([*columns, sketches(values)], schema=schema)
            yield batch.filter(pa.array(has_words))

    context.write(signed(), schema)
    recall = round(match_probability(similarity, bands, rows), 4)
    context.add_metrics(bands=bands, rows=rows, recall_at_threshold=recall, without_words=without_words)


def signature_schema(bands: int, rows: int) -> pa.Schema:
    """Columns of the phase's tables. `priority`: 0 or more, the document of higher priority is kept; `digest_low`,
    `digest_high`: of the normalized text; a column of keys for each band; `sketch`: see `previous_runs`."""
    fields = {"position": pa.int32(), "priority": pa.int64(), "digest_low": pa.uint64(), "digest_high": pa.uint64()}
    keys = dict.fromkeys((band_column(band) for band in range(bands)), pa.uint64())
    return pa.schema(fields | keys | {"sketch": pa.binary(bands * rows)})


def _priorities(documents: pa.RecordBatch, keep: Keep) -> pa.Array:
    if keep == "longest":
        return pc.fill_null(pc.binary_length(documents.column("text")), 0).cast(pa.int64())
    if keep == "newest":
        seconds = pc.fill_null(documents.column("date").cast(pa.int64()), 0).to_numpy()
        return pa.array(np.maximum(seconds, 0) // 60)
    return pa.array(np.zeros(documents.num_rows, np.int64))
