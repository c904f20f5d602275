"""Tokens into shards: `.bin` and `.idx` pairs with their documents table and the dataset's card.

Each partition's documents become ids and lengths; one task lays documents into shards, in canonical order or shuffled; a
task a shard copies its tokens together; one writes the card. A document is never cut: a shard closes before the document
that would take it over `tokens_per_shard`, so every shard but the last is full to within a document, and a document longer
than that has a shard of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from tokenmill.model.data.shard_format import ShardWriter
from tokenmill.stages.report import Section, StageRun, StageSummary
from tokenmill.stages.stage import Corpus, CorpusStage, PartitionInfo, Phase, TaskContext, Verdicts
from tokenmill.stages.tokens.card import (
    OCCURRENCES,
    added,
    as_table,
    check_splits,
    counted_by_source,
    describe_split,
    is_in_split,
    make_card,
    summed_sources,
    unknown_token,
)
from tokenmill.stages.tokens.encode import Encoder
from tokenmill.stages.tokens.layout import SPLITS, Place, lay_into_shards
from tokenmill.stages.tokens.report import shards_section
from tokenmill.stages.tokens.shuffle import lay_shuffled, shuffle_keys, shuffled_batches, sorted_runs
from tokenmill.stages.tokens.tokenizer import TOKENIZER_FILE, document_hashes, load_tokenizer
from tokenmill.stages.tokens.upsampling import rehydrated, times_written

PLAN = "plan"
TRAIN = SPLITS.index("train")


class Shards(CorpusStage):
    """Publishes shards, their document tables, `tokenizer.json` and `dataset.json`.

    Ledger: `tokens`, `split`, and with `rehydrate` `times_written`.
    """

    version: ClassVar[int] = 3
    artifact_from: ClassVar[str | None] = "tokenizer"
    keeps_all: ClassVar[bool] = True
    is_end: ClassVar[bool] = True
    tokens_measure: ClassVar[str | None] = "tokens"

    tokens_per_shard: int = Field(
        100_000_000, ge=1, description="Tokens that a shard holds at most, document ends included."
    )
    validation: float = Field(
        0.005, ge=0, lt=1, description="Share of documents in the validation split (0 to 1), chosen by document hash."
    )
    shuffle: Literal["none", "documents"] = Field(
        "none",
        description="none: documents in the order of their sources; documents: in an order by a hash of each, over the whole "
        "corpus (validation stays in order, by source). On an object store shuffling reads all tokens once a shard.",
    )
    rehydrate: dict[int, int] | None = Field(
        None,
        description="How often a training document is written, by its `copies` (the documents that it stands for after "
        "deduplicate): from so many copies on, so many times. FineWeb-2's table is {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}. "
        "Needs `shuffle: documents`, so that copies do not stand beside each other.",
    )
    tokenizer: str | None = Field(
        None, description="The tokenizer stage or tokenizer.json to encode with; default: the nearest stage above."
    )

    @model_validator(mode="after")
    def _can_rehydrate(self) -> Shards:
        if self.rehydrate is None:
            return self
        if min(self.rehydrate, default=0) != 1 or min(self.rehydrate.values()) < 1:
            raise ValueError("rehydrate: begin with 1 copy, and write each document once at least")
        if self.shuffle != "documents":
            raise ValueError("rehydrate: needs `shuffle: documents`, or copies would stand beside each other")
        return self

    def columns_needed(self) -> Sequence[str]:
        """See `Stage`."""
        return ("text",) if self.rehydrate is None else ("text", "copies")

    def phases(self) -> Sequence[Phase]:
        """See `CorpusStage`."""
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

    def _encode(self, context: TaskContext) -> None:
        with context.artifact(TOKENIZER_FILE) as file:
            content = file.read()
        encoder = Encoder(content)
        dtype = encoder.dtype
        schema = encoded_schema(dtype)
        name = context.corpus.parts[int(context.task)].name

        def encoded() -> Iterator[pa.RecordBatch]:
            for documents in context.documents(["position", "url", "offset", *self.columns_needed()]):
                positions = documents.column("position").to_numpy()
                tokens, lengths = encoder.encode(documents.column("text"))
                in_validation = document_hashes(name, positions, "validation split") < self.validation
                split = pa.array(np.where(in_validation, "validation", "train"))
                measures = {"tokens": pa.array(lengths), "split": split}
                keys = shuffle_keys(name, positions)
                batch = encoded_batch(documents, tokens, lengths, in_validation, keys, schema)
                if self.rehydrate is not None:
                    times = np.where(in_validation, 1, times_written(self.rehydrate, documents.column("copies")))
                    measures["times_written"] = pa.array(times, pa.int32())
                    batch = rehydrated(batch, times, name)
                context.judge(positions, Verdicts.all_kept(len(positions), measures))
                for number in range(len(SPLITS)):
                    if (rows := batch.filter(pc.equal(batch.column("split"), number))).num_rows:
                        yield rows

        context.write(sorted_runs(encoded(), TRAIN) if self.shuffle == "documents" else encoded(), schema)
        context.add_metrics(encoder=encoder.engine, encoder_reason=encoder.reason, round_trip=encoder.round_trip)

    def _plan(self, context: TaskContext) -> None:
        def documents(split: int) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
            for part in context.corpus.parts:
                table = context.table("encode", str(part.number), ["split", "length", "key"])
                mine = table.filter(pc.equal(table.column("split"), split))
                yield mine.column("key").to_numpy(), mine.column("length").to_numpy().astype(np.int64)

        shards: list[dict[str, Any]] = []
        for number, split in enumerate(SPLITS):
            if self._shuffles(split):
                places = lay_shuffled(split, documents(number), self.tokens_per_shard)
            else:
                places = lay_into_shards(split, (lengths for _, lengths in documents(number)), self.tokens_per_shard)
            if not places and split == "train":
                mend = "; a larger sample may hold some" if context.corpus.sampled else ""
                raise ValueError(
                    "no document is left for the training split: look at the funnel for the stage that drops them"
                    + mend
                )
            if not places and self.validation and not context.corpus.sampled:
                raise ValueError(
                    f"no document fell into the validation split: too few are left for a share of {self.validation:g}; "
                    "give `validation: 0` or a larger share"
                )
            shards += map(asdict, places)
        context.add_metrics(shards=shards)

    def _pack(self, context: TaskContext) -> None:
        place = _places(context.corpus)[context.task]
        rows: list[pa.Table] = []
        size_in_bytes = written = 0
        occurrences = np.zeros(0, np.int64)
        writer: ShardWriter | None = None
        with context.create(f"{place.name}.bin") as bin_file, context.create(f"{place.name}.idx") as index_file:
            for parts, batch in self._batches_of(context, place):
                tokens = batch.column("tokens").flatten().to_numpy()
                lengths = batch.column("length").to_numpy()
                writer = writer or ShardWriter(bin_file, index_file, tokens.dtype)
                writer.write(tokens, lengths)
                rows.append(_document_rows(context.corpus.parts, parts, batch, written))
                written += len(tokens)
                occurrences = added(occurrences, np.bincount(tokens))
                size_in_bytes += pc.sum(batch.column("bytes")).as_py()
            assert writer is not None
            info = writer.close()
        documents = pa.concat_tables(rows)
        with context.create(place.documents_file) as file:
            pq.write_table(documents, file, compression="zstd")
        context.write(as_table(occurrences), OCCURRENCES)
        context.add_metrics(
            shard={"name": place.name, "bytes": size_in_bytes, **asdict(info)}, sources=counted_by_source(documents)
        )

    def _batches_of(self, context: TaskContext, place: Place) -> Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch]]:
        parts = (
            (number, context.table("encode", str(number)).to_batches())
            for number in range(place.first_part, place.last_part + 1)
        )
        if self._shuffles(place.split):
            return shuffled_batches(parts, place, TRAIN)
        return _batches_in_order(parts, place)

    def _shuffles(self, split: str) -> bool:
        return self.shuffle == "documents" and split == SPLITS[TRAIN]

    def _card(self, context: TaskContext) -> None:
        with context.artifact(TOKENIZER_FILE) as file:
            content = file.read()
        tokenizer = load_tokenizer(content, TOKENIZER_FILE)
        unknown = unknown_token(tokenizer, content)
        metrics = context.corpus.metrics["pack"].values()
        packed = [add_metrics["shard"] for add_metrics in metrics]
        splits = {
            split: {
                **describe_split(
                    tokenizer,
                    unknown,
                    [context.table("pack", shard["name"]) for shard in packed if is_in_split(shard["name"], split)],
                ),
                "order": "shuffled" if self._shuffles(split) else "by source",
                "sources": summed_sources(
                    add_metrics["sources"]
                    for add_metrics in metrics
                    if is_in_split(add_metrics["shard"]["name"], split)
                ),
            }
            for split in SPLITS
        }
        check_splits(splits)
        with context.create(TOKENIZER_FILE) as file:
            file.write(content)
        encoded = context.corpus.metrics["encode"].values()
        with context.create("dataset.json") as file:
            card = make_card(file, tokenizer, content, packed, splits, encoded, context.fingerprint)
        context.add_metrics(card=card)

    def summary(self, run: StageRun) -> StageSummary:
        """See `Stage`."""
        reasons = {metrics["encoder_reason"] for metrics in run.metrics.get("encode", {}).values()}
        slow = sorted(filter(None, reasons))
        notices = [f"{run.name}: encoded with tokenizers, which is slower: {reason}" for reason in slow]
        for metrics in run.metrics.get("card", {}).values():
            splits = metrics["card"]["splits"].items()
            notices += [f"{run.name}: the {name} split is empty" for name, split in splits if not split["documents"]]
        return StageSummary(notices=notices)

    def report_sections(self, run: StageRun) -> Sequence[Section]:
        """See `Stage`."""
        return [shards_section(metrics["card"], run) for metrics in run.metrics.get("card", {}).values()]


def encoded_schema(dtype: np.dtype[Any]) -> pa.Schema:
    """What the first phase writes, a row a document. `split`: index of `SPLITS`, one a batch; `key`: see `shuffle_keys`."""
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


def _places(corpus: Corpus) -> dict[str, Place]:
    return {shard["name"]: Place(**shard) for shard in corpus.metrics[PLAN][PLAN]["shards"]}


def _shard_names(corpus: Corpus) -> list[str]:
    return list(_places(corpus))


def _parts_of_shard(task: str, corpus: Corpus) -> list[tuple[str, str]]:
    place = _places(corpus)[task]
    return [(PLAN, PLAN), *(("encode", str(number)) for number in range(place.first_part, place.last_part + 1))]


def _batches_in_order(
    parts: Iterable[tuple[int, list[pa.RecordBatch]]], place: Place
) -> Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch]]:
    """The rows of a shard, in order, with the number of their part for each; slices of memory-mapped batches."""
    for number, batches in parts:
        begin = place.first_row if number == place.first_part else 0
        end = place.end_row if number == place.last_part else None
        row = 0
        for batch in batches:
            if not batch.num_rows or SPLITS[batch.column("split")[0].as_py()] != place.split:
                continue
            low = max(begin - row, 0)
            high = batch.num_rows if end is None else min(end - row, batch.num_rows)
            row += batch.num_rows
            if low < high:
                yield np.full(high - low, number), batch.slice(low, high - low)


def _document_rows(
    parts: Sequence[PartitionInfo], numbers: npt.NDArray[np.int64], batch: pa.RecordBatch, written: int
) -> pa.Table:
    lengths = batch.column("length").to_numpy().astype(np.int64)
    starts = written + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    mine, index = np.unique(numbers, return_inverse=True)

    def of_parts(field: str) -> pa.Array:
        return pa.array([getattr(parts[number], field) for number in mine], pa.string()).take(pa.array(index))

    identity = pc.binary_join_element_wise(of_parts("name"), batch.column("position").cast(pa.string()), pa.scalar("#"))
    return pa.table(
        {
            "token_start": pa.array(starts, pa.int64()),
            "tokens": batch.column("length"),
            "bytes": batch.column("bytes"),
            "id": identity,
            "url": batch.column("url"),
            "source": of_parts("source"),
            "path": of_parts("path"),
            "offset": batch.column("offset"),
        }
    )
