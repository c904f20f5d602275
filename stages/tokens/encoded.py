"""The phase `encode`: a partition's documents as token ids, with their split and their place in the shuffled order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.stages.stage import TaskContext, Verdicts
from tokenmill.stages.tokens.encode import Encoder
from tokenmill.stages.tokens.layout import SPLITS, TRAIN
from tokenmill.stages.tokens.shuffle import shuffle_keys, sorted_runs
from tokenmill.stages.tokens.tokenizer import TOKENIZER_FILE, document_hashes
from tokenmill.stages.tokens.upsampling import times_written, upsampled


def write_encoded(
    context: TaskContext, *, validation: float, upsampling: Mapping[int, int] | None, shuffles: bool
) -> None:
    """Writes `encoded_schema` and judges the documents, all of which are kept.

    `validation`: share of documents in the validation split. `upsampling`: see `times_written`. `shuffles`: whether the rows of
    the training split are to be in runs sorted by key.
    """
    with context.artifact(TOKENIZER_FILE) as file:
        encoder = Encoder(file.read())
    schema = encoded_schema(encoder.dtype)
    name = context.corpus.parts[int(context.task)].name

    def encoded() -> Iterator[pa.RecordBatch]:
        columns = ["position", "url", "offset", "text", *(["copies"] if upsampling is not None else [])]
        for documents in context.documents(columns):
            positions = documents.column("position").to_numpy()
            tokens, lengths = encoder.encode(documents.column("text"))
            in_validation = document_hashes(name, positions, "validation split") < validation
            split = pa.array(np.where(in_validation, "validation", "train"))
            measures = {"tokens": pa.array(lengths), "split": split}
            keys = shuffle_keys(name, positions)
            batch = encoded_batch(documents, tokens, lengths, in_validation, keys, schema)
            if upsampling is not None:
                times = np.where(in_validation, 1, times_written(upsampling, documents.column("copies")))
                measures["times_written"] = pa.array(times, pa.int32())
                batch = upsampled(batch, times, name)
            context.judge(positions, Verdicts.all_kept(len(positions), measures))
            for number in range(len(SPLITS)):
                if (rows := batch.filter(pc.equal(batch.column("split"), number))).num_rows:
                    yield rows

    context.write(sorted_runs(encoded(), TRAIN) if shuffles else encoded(), schema)
    context.add_metrics(encoder=encoder.engine, encoder_reason=encoder.reason, round_trip=encoder.round_trip)


def encoded_schema(dtype: np.dtype[Any]) -> pa.Schema:
    """A row a document. `split`: index of `SPLITS`, one a batch; `key`: see `shuffle_keys`; `bytes`: of the text."""
    return pa.schema(
        {
            "position": pa.int32(),
            "url": pa.string(),
            "offset": pa.int64(),
            "split": pa.int8(),
            "key": pa.float64(),
            "bytes": pa.int32(),
            "length": pa.int32(),
            "tokens": pa.list_(pa.from_numpy_dtype(dtype)),
        }
    )


def encoded_batch(
    documents: pa.RecordBatch,
    tokens: npt.NDArray[Any],
    lengths: npt.NDArray[np.int32],
    in_validation: npt.NDArray[np.bool_],
    keys: npt.NDArray[np.float64],
    schema: pa.Schema,
) -> pa.RecordBatch:
    """Documents with their tokens as rows of `encoded_schema`."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.record_batch(
        [
            documents.column("position"),
            documents.column("url"),
            documents.column("offset"),
            pa.array(in_validation.astype(np.int8)),
            pa.array(keys),
            pc.binary_length(documents.column("text")).cast(pa.int32()),
            pa.array(lengths),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens)),
        ],
        schema=schema,
    )
