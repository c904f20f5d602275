"""Writers of other trainers' formats, each from the shards of a published dataset, one shard in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from tokenmill.model.data.shard_format import ShardWriter, write_index
from tokenmill.pipeline.errors import ConfigError

PIECE = 1 << 24
"""Tokens copied at once."""
DOCUMENTS_AT_ONCE = 1000

LLMC_HEADER = 256
LLMC_MAGIC, LLMC_VERSION = 20240520, 1
LLMC_LARGEST = 2**31
"""llm.c counts a file's tokens in an int32."""


@dataclass(frozen=True)
class SplitShard:
    """A shard to export: `tokens`, shape (tokens,); `lengths`, int32, shape (documents,); `table`: its documents table."""

    split: str
    number: int
    of: int
    tokens: npt.NDArray[Any]
    lengths: npt.NDArray[np.int32]
    table: pa.Table


class ShardExporter(Protocol):
    """One format, writing into a folder. `hint`: how to use what was written, `{folder}` in the place of its path."""

    hint: str

    def __init__(self, folder: Path, dtype: np.dtype[Any], tokenizer: Tokenizer) -> None: ...

    def write(self, shard: SplitShard) -> None:
        """Adds a shard; the shards of a split come one after the other."""

    def close(self) -> None:
        """Writes what can only be written at the end."""


class Megatron:
    """`SPLIT.bin` and `SPLIT.idx`, an IndexedDataset a split: `--train-data-path DIR/train`."""

    hint = "Megatron-LM: --train-data-path {folder}/train --valid-data-path {folder}/validation"

    def __init__(self, folder: Path, dtype: np.dtype[Any], tokenizer: Tokenizer) -> None:
        self._folder, self._dtype = folder, dtype
        self._files = ExitStack()
        self._writers: dict[str, ShardWriter] = {}

    def write(self, shard: SplitShard) -> None:
        """See `ShardExporter`."""
        if shard.split not in self._writers:
            base = self._folder / shard.split
            bin_file = self._files.enter_context(base.with_suffix(".bin").open("wb"))
            index_file = self._files.enter_context(base.with_suffix(".idx").open("wb"))
            self._writers[shard.split] = ShardWriter(bin_file, index_file, self._dtype)
        for tokens, lengths in _whole_documents(shard):
            self._writers[shard.split].write(tokens, lengths)

    def close(self) -> None:
        """See `ShardExporter`."""
        for writer in self._writers.values():
            writer.close()
        self._files.close()


class NanoGPT:
    """`train.bin` and `val.bin`, tokens alone, as nanoGPT's `numpy.memmap` reads them.

    `*.bin.index` beside them holds the documents' ends in tokens as uint64, as datatrove and nanotron read them.
    """

    hint = (
        "nanoGPT: copy {folder}/*.bin to data/NAME and give --dataset=NAME; datatrove, nanotron: DatatroveFileDataset"
    )

    def __init__(self, folder: Path, dtype: np.dtype[Any], tokenizer: Tokenizer) -> None:
        self._folder, self._dtype = folder, dtype
        self._ends = {"train": 0, "val": 0}

    def write(self, shard: SplitShard) -> None:
        """See `ShardExporter`."""
        name = SHORT[shard.split]
        with (self._folder / f"{name}.bin").open("ab") as file:
            _copy(shard.tokens, file)
        ends = self._ends[name] + np.cumsum(shard.lengths, dtype=np.uint64)
        with (self._folder / f"{name}.bin.index").open("ab") as file:
            file.write(ends.astype("<u8").tobytes())
        self._ends[name] += len(shard.tokens)

    def close(self) -> None:
        """See `ShardExporter`."""


class LlmC:
    """`NAME_000000.bin` for llm.c and modded-nanogpt: 256 int32, [0] 20240520, [1] 1, [2] tokens, then uint16 tokens.

    `.idx` beside each is a Megatron index whose pointers begin at byte 1024, so that the same file loads there too.
    Source: llm.c, `dev/data/data_common.py` and `llmc/dataloader.h`.
    """

    hint = 'llm.c: -i "{folder}/train_*.bin" -j "{folder}/val_*.bin"'

    def __init__(self, folder: Path, dtype: np.dtype[Any], tokenizer: Tokenizer) -> None:
        if dtype != np.dtype("<u2"):
            raise ConfigError(
                "llm.c's shards hold uint16 tokens, and this vocabulary needs int32; take --format megatron"
            )
        self._folder, self._dtype = folder, dtype

    def write(self, shard: SplitShard) -> None:
        """See `ShardExporter`."""
        if len(shard.tokens) >= LLMC_LARGEST:
            raise ConfigError(
                f"llm.c's shards hold fewer than {LLMC_LARGEST:,} tokens, and {shard.split}-{shard.number:05d} has "
                f"{len(shard.tokens):,}; set the shard stage's tokens_per_shard lower and run again"
            )
        base = self._folder / f"{SHORT[shard.split]}_{shard.number:06d}"
        header = np.zeros(LLMC_HEADER, "<i4")
        header[:3] = LLMC_MAGIC, LLMC_VERSION, len(shard.tokens)
        with base.with_suffix(".bin").open("wb") as file:
            file.write(header.tobytes())
            _copy(shard.tokens, file)
        with base.with_suffix(".idx").open("wb") as file:
            write_index(file, self._dtype, shard.lengths, first_byte=header.nbytes)

    def close(self) -> None:
        """See `ShardExporter`."""


class ParquetTokens:
    """`SPLIT-00000.parquet`: a row a document, `id`, `url`, `source` and `tokens` (a list of the shards' dtype)."""

    hint = "pyarrow.parquet.read_table('{folder}/train-00000.parquet'); column tokens, one list a document"

    def __init__(self, folder: Path, dtype: np.dtype[Any], tokenizer: Tokenizer) -> None:
        self._folder = folder

    def write(self, shard: SplitShard) -> None:
        """See `ShardExporter`."""
        path = self._folder / f"{shard.split}-{shard.number:05d}.parquet"
        _write_rows(path, ({**rows, "tokens": tokens} for rows, tokens in _rows(shard)))

    def close(self) -> None:
        """See `ShardExporter`."""


class HuggingFace:
    """A folder that `datasets.load_dataset` opens: `data/SPLIT-*.parquet` with `id`, `url`, `source`, `text` and `input_ids`.

    The text is what the tokens decode to, the end of text left out.
    """

    hint = "datasets.load_dataset('{folder}')"

    def __init__(self, folder: Path, dtype: np.dtype[Any], tokenizer: Tokenizer) -> None:
        self._folder, self._tokenizer = folder, tokenizer
        self._counts: dict[str, list[int]] = {}
        (folder / "data").mkdir()

    def write(self, shard: SplitShard) -> None:
        """See `ShardExporter`."""
        counts = self._counts.setdefault(shard.split, [0, 0])
        counts[0] += len(shard.lengths)
        counts[1] += len(shard.tokens)
        path = self._folder / "data" / f"{shard.split}-{shard.number:05d}-of-{shard.of:05d}.parquet"
        _write_rows(
            path,
            ({**rows, "text": self._decoded(tokens), "input_ids": tokens} for rows, tokens in _rows(shard)),
        )

    def _decoded(self, tokens: pa.ListArray) -> pa.Array:
        return pa.array(
            self._tokenizer.decode_batch([ids[:-1] for ids in tokens.to_pylist()], skip_special_tokens=False),
            pa.string(),
        )

    def close(self) -> None:
        """See `ShardExporter`."""
        files = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in self._counts)
        table = "".join(f"| {split} | {one:,} | {two:,} |\n" for split, (one, two) in self._counts.items())
        self._folder.joinpath("README.md").write_text(
            f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n\n"
            "# Tokens made by tokenmill\n\n"
            "A row a document: `id` (source file and record), `url`, `source`, `text`, and `input_ids`, which end with the\n"
            "end-of-text id of `tokenizer.json`.\n\n| split | documents | tokens |\n| --- | --- | --- |\n" + table
        )


SHORT = {"train": "train", "validation": "val"}
FORMATS: dict[str, type[ShardExporter]] = {
    "llmc": LlmC,
    "megatron": Megatron,
    "nanogpt": NanoGPT,
    "parquet": ParquetTokens,
    "huggingface": HuggingFace,
}


def _copy(tokens: npt.NDArray[Any], file: Any) -> None:
    for start in range(0, len(tokens), PIECE):
        file.write(np.ascontiguousarray(tokens[start : start + PIECE]).view(np.uint8).data)


def _whole_documents(shard: SplitShard) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.int32]]]:
    """A shard's tokens and lengths in pieces of about `PIECE` tokens."""
    ends = np.cumsum(shard.lengths, dtype=np.int64)
    first = 0
    while first < len(ends):
        start = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, start + PIECE, "right")), first + 1)
        yield shard.tokens[start : int(ends[last - 1])], shard.lengths[first:last]
        first = last


def _rows(shard: SplitShard) -> Iterator[tuple[dict[str, pa.Array], pa.ListArray]]:
    """Columns of the documents table, and each document's tokens, `DOCUMENTS_AT_ONCE` at a time."""
    bounds = np.concatenate([[0], np.cumsum(shard.lengths, dtype=np.int64)])
    table = shard.table.select(["id", "url", "source"]).combine_chunks()
    for first in range(0, len(shard.lengths), DOCUMENTS_AT_ONCE):
        mine = bounds[first : first + DOCUMENTS_AT_ONCE + 1]
        tokens = pa.array(shard.tokens[mine[0] : mine[-1]])
        lists = pa.ListArray.from_arrays(pa.array((mine - mine[0]).astype(np.int32)), tokens)
        rows = table.slice(first, DOCUMENTS_AT_ONCE).to_batches()[0]
        yield dict(zip(rows.schema.names, rows.columns, strict=True)), lists


def _write_rows(path: Path, groups: Iterator[dict[str, pa.Array]]) -> None:
    writer: pq.ParquetWriter | None = None
    for columns in groups:
        batch = pa.RecordBatch.from_pydict(columns)
        writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
        writer.write_batch(batch)
    if writer is not None:
        writer.close()
