"""Tokens into shards: `.bin` and `.idx` pairs with their documents table and the dataset's card.

Three phases: each partition's documents become ids and lengths; one task lays documents into shards in canonical order;
a task a shard copies its tokens together. A document is never cut: a shard closes before the document that would take it
over `tokens_per_shard`, so every shard but the last is full to within a document, and a document longer than that has a
shard of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from model.shard_format import ShardWriter
from stages.encode import Encoder
from stages.shard_card import make_card
from stages.shard_layout import SPLITS, Place, lay_into_shards
from stages.stage import Corpus, Gather, Phase, Verdicts, Workbench
from stages.tokenizer import TOKENIZER_FILE, document_hashes

PLAN = "plan"


class Shards(Gather):
    """Publishes shards, their document tables, `tokenizer.json` and `dataset.json`. Ledger: `tokens`, `split`."""

    version: ClassVar[int] = 1
    wires: ClassVar[str | None] = "tokenizer"

    tokens_per_shard: int = Field(
        100_000_000, ge=1, description="Tokens that a shard holds at most, document ends included."
    )
    validation: float = Field(
        0.005, ge=0, lt=1, description="Share of documents in the validation split (0 to 1), chosen by document hash."
    )
    tokenizer: str | None = Field(
        None, description="The tokenizer stage or tokenizer.json to encode with; default: the nearest stage above."
    )

    def phases(self) -> Sequence[Phase]:
        """See `Gather`."""
        return (
            Phase("encode", self._encode, reads_documents=True, judges=True),
            Phase(PLAN, self._plan, keys=lambda corpus: (PLAN,), reads=lambda task, corpus: corpus.every("encode")),
            Phase("pack", self._pack, keys=_shard_names, reads=_parts_of_shard, publishes=True),
            Phase(
                "card",
                self._card,
                keys=lambda corpus: ("card",),
                reads=lambda task, corpus: corpus.every(PLAN) + corpus.every("pack"),
                publishes=True,
            ),
        )

    def _encode(self, bench: Workbench) -> None:
        with bench.wired(TOKENIZER_FILE) as file:
            content = file.read()
        encoder = Encoder(content)
        dtype = encoder.dtype
        schema = encoded_schema(dtype)
        name = bench.corpus.parts[int(bench.task)].name

        def encoded() -> Iterator[pa.RecordBatch]:
            for documents in bench.documents(["position", "url", "offset", "text"]):
                positions = documents.column("position").to_numpy()
                tokens, lengths = encoder.encode(documents.column("text"))
                in_validation = document_hashes(name, positions, "validation split") < self.validation
                split = pa.array(np.where(in_validation, "validation", "train"))
                bench.judge(positions, Verdicts.all_kept(len(positions), {"tokens": pa.array(lengths), "split": split}))
                batch = encoded_batch(documents, tokens, lengths, in_validation, schema)
                for number in range(len(SPLITS)):
                    if (rows := batch.filter(pc.equal(batch.column("split"), number))).num_rows:
                        yield rows

        bench.write(encoded(), schema)
        bench.note(encoder=encoder.engine, encoder_reason=encoder.reason)

    def _plan(self, bench: Workbench) -> None:
        def lengths(split: int) -> Iterator[npt.NDArray[np.int64]]:
            for part in bench.corpus.parts:
                table = bench.table("encode", str(part.number), ["split", "length"])
                mine = table.filter(pc.equal(table.column("split"), split))
                yield mine.column("length").to_numpy().astype(np.int64)

        shards = [
            asdict(place)
            for number, split in enumerate(SPLITS)
            for place in lay_into_shards(split, lengths(number), self.tokens_per_shard)
        ]
        if not any(shard["name"].startswith("train") for shard in shards):
            raise ValueError(
                "no document is left for the training split: look at the funnel for the stage that drops them"
            )
        bench.note(shards=shards)

    def _pack(self, bench: Workbench) -> None:
        place = _places(bench.corpus)[bench.task]
        rows: list[pa.Table] = []
        size_in_bytes = written = 0
        writer: ShardWriter | None = None
        with bench.create(f"{place.name}.bin") as bin_file, bench.create(f"{place.name}.idx") as index_file:
            for part_number, batch in _batches_of(bench, place):
                tokens = batch.column("tokens").flatten().to_numpy()
                lengths = batch.column("length").to_numpy()
                writer = writer or ShardWriter(bin_file, index_file, tokens.dtype)
                writer.write(tokens, lengths)
                rows.append(_document_rows(bench.corpus.parts[part_number], batch, written))
                written += len(tokens)
                size_in_bytes += pc.sum(batch.column("bytes")).as_py()
            assert writer is not None
            info = writer.close()
        with bench.create(place.documents_file) as file:
            pq.write_table(pa.concat_tables(rows), file, compression="zstd")
        bench.note(shard={"name": place.name, "bytes": size_in_bytes, **asdict(info)})

    def _card(self, bench: Workbench) -> None:
        with bench.wired(TOKENIZER_FILE) as file:
            tokenizer = file.read()
        packed = [note["shard"] for note in bench.corpus.notes["pack"].values()]
        with bench.create(TOKENIZER_FILE) as file:
            file.write(tokenizer)
        with bench.create("dataset.json") as file:
            card = make_card(file, tokenizer, packed)
        bench.note(card=card)


def encoded_schema(dtype: np.dtype[Any]) -> pa.Schema:
    """What the first phase writes, one row a document; `split` is an index of `SPLITS`, one value a batch."""
    return pa.schema(
        {
            "position": pa.int32(),
            "url": pa.string(),
            "offset": pa.int64(),
            "split": pa.int8(),
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
            pc.binary_length(documents.column("text")).cast(pa.int32()),
            pa.array(lengths),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens)),
        ],
        schema=schema,
    )


def _places(corpus: Corpus) -> dict[str, Place]:
    return {shard["name"]: Place(**shard) for shard in corpus.notes[PLAN][PLAN]["shards"]}


def _shard_names(corpus: Corpus) -> list[str]:
    return list(_places(corpus))


def _parts_of_shard(task: str, corpus: Corpus) -> list[tuple[str, str]]:
    place = _places(corpus)[task]
    return [(PLAN, PLAN), *(("encode", str(number)) for number in range(place.first_part, place.last_part + 1))]


def _batches_of(bench: Workbench, place: Place) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a shard, in order, by the number of their part; slices of memory-mapped batches."""
    for number in range(place.first_part, place.last_part + 1):
        begin = place.first_row if number == place.first_part else 0
        end = place.end_row if number == place.last_part else None
        row = 0
        for batch in bench.table("encode", str(number)).to_batches():
            if not batch.num_rows or SPLITS[batch.column("split")[0].as_py()] != place.split:
                continue
            low = max(begin - row, 0)
            high = batch.num_rows if end is None else min(end - row, batch.num_rows)
            row += batch.num_rows
            if low < high:
                yield number, batch.slice(low, high - low)


def _document_rows(part: Any, batch: pa.RecordBatch, written: int) -> pa.Table:
    count = batch.num_rows
    lengths = batch.column("length").to_numpy().astype(np.int64)
    starts = written + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    identity = pc.binary_join_element_wise(
        pa.scalar(part.name), batch.column("position").cast(pa.string()), pa.scalar("#")
    )
    return pa.table(
        {
            "token_start": pa.array(starts, pa.int64()),
            "tokens": batch.column("length"),
            "bytes": batch.column("bytes"),
            "id": identity,
            "url": batch.column("url"),
            "source": pa.array([part.source] * count, pa.string()),
            "path": pa.array([part.path] * count, pa.string()),
            "offset": batch.column("offset"),
        }
    )
