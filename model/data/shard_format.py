"""The shard format: `.bin` + `.idx` + `dataset.json`, the contract between the pipeline and the trainer. Needs numpy alone.

`NAME.bin` holds tokens alone, one after the other, little-endian: uint16 for vocabularies below 65,500, else int32.
Every document ends with the end-of-text id.

`NAME.idx` is Megatron's MMIDIDX index (Megatron-LM, `megatron/core/datasets/indexed_dataset.py`), all little-endian:

==================  =====================================================================
bytes               what
==================  =====================================================================
0 .. 9              the magic ``MMIDIDX\\0\\0``
9 .. 17             uint64: version, 1
17                  uint8: dtype code, 8 = uint16, 4 = int32
18 .. 26            uint64: sequences, S (here one a document)
26 .. 34            uint64: documents + 1, D
34 ..               int32 [S]: tokens of each sequence
..                  int64 [S]: byte where each sequence begins in the `.bin`
.. end              int64 [D]: sequence with which each document begins, then S
==================  =====================================================================

Megatron's readers disagree about uint16 between vocabularies of 65,500 and 65,536, hence the bound; the index has no code
for uint32, and ids below 2^31 are the same bytes in both.

A dataset is one folder: `train-00000.bin`, `train-00000.idx`, `train-documents-00000.parquet`, `validation-00000.bin`, ...,
`tokenizer.json`, and `dataset.json`, its card: see `check_card`.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tokenmill.model.common.files import read_json

MAGIC = b"MMIDIDX\0\0"
VERSION = 1
HEADER_SIZE = 34
DTYPE_CODES: dict[int, np.dtype[Any]] = {8: np.dtype("<u2"), 4: np.dtype("<i4")}
UINT16_VOCABULARY = 65_500
"""Vocabularies below this are stored as uint16."""

CARD_VERSION = 1
CARD_FILE = "dataset.json"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The dtype of tokens for a vocabulary of `vocab_size` ids."""
    return np.dtype("<u2") if vocab_size < UINT16_VOCABULARY else np.dtype("<i4")


@dataclass(frozen=True)
class ShardInfo:
    """What a shard holds. `largest_id`: -1 where it holds no token. `checksum`: hex blake2b-128 of the `.bin`."""

    tokens: int
    documents: int
    largest_id: int
    checksum: str


class ShardWriter:
    """Writes one shard. Tokens stream through; of each document 4 bytes (its length) are held until `close`."""

    def __init__(self, bin_file: BinaryIO, index_file: BinaryIO, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        if self.dtype not in DTYPE_CODES.values():
            raise ValueError(f"tokens are uint16 or int32, not {self.dtype}")
        self._bin, self._index = bin_file, index_file
        self._lengths: list[npt.NDArray[np.int32]] = []
        self._digest = hashlib.blake2b(digest_size=16)
        self._tokens = 0
        self._largest = -1

    def write(self, tokens: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> None:
        """Adds whole documents. `tokens`: ids one after the other, shape (sum of lengths,); `lengths`: (documents,).

        Raises ValueError where the two do not fit, a document is empty, or an id does not fit the dtype.
        """
        if len(tokens) != int(lengths.sum(dtype=np.int64)) or (len(lengths) and int(lengths.min()) < 1):
            raise ValueError(f"{len(tokens)} tokens cannot be {len(lengths)} documents of these lengths")
        if len(tokens):
            largest, smallest = int(tokens.max()), int(tokens.min())
            if smallest < 0 or largest > np.iinfo(self.dtype).max:
                raise ValueError(f"ids from {smallest} to {largest} do not fit {self.dtype}")
            self._largest = max(self._largest, largest)
        data = np.ascontiguousarray(tokens, self.dtype)
        self._digest.update(data.view(np.uint8).data)
        self._bin.write(data.view(np.uint8).data)
        self._lengths.append(np.asarray(lengths, "<i4"))
        self._tokens += len(tokens)

    def close(self) -> ShardInfo:
        """Writes the index; the files stay open (they are the caller's)."""
        lengths = np.concatenate([np.empty(0, "<i4"), *self._lengths]).astype("<i4")
        write_index(self._index, self.dtype, lengths)
        return ShardInfo(self._tokens, len(lengths), self._largest, self._digest.hexdigest())


def write_index(file: BinaryIO, dtype: np.dtype[Any], lengths: npt.NDArray[np.int32], first_byte: int = 0) -> None:
    """Writes the index of documents of `lengths` tokens, shape (documents,); the first begins at `first_byte` of the `.bin`."""
    code = next(code for code, known in DTYPE_CODES.items() if known == dtype)
    count = len(lengths)
    file.write(MAGIC + struct.pack("<QBQQ", VERSION, code, count, count + 1))
    file.write(lengths.astype("<i4").tobytes())
    ends = np.cumsum(lengths, dtype="<i8") * dtype.itemsize
    file.write((first_byte + np.concatenate([np.zeros(1, "<i8"), ends])[:count]).astype("<i8").tobytes())
    file.write(np.arange(count + 1, dtype="<i8").tobytes())


@dataclass(frozen=True)
class IndexHeader:
    """The first 34 bytes of an `.idx`: the dtype of the tokens and how many sequences (here documents) there are."""

    dtype: np.dtype[Any]
    sequences: int


def read_header(index_path: Path) -> IndexHeader:
    """Reads an index's header alone and holds it against the file's size.

    Raises ValueError where the file is not an index that this version reads, OSError where it is missing.
    """
    with index_path.open("rb") as file:
        header = file.read(HEADER_SIZE)
        size = os.fstat(file.fileno()).st_size
    if len(header) < HEADER_SIZE or header[: len(MAGIC)] != MAGIC:
        raise ValueError(f"{index_path}: is not a MMIDIDX index")
    version, code, sequences, documents = struct.unpack("<QBQQ", header[len(MAGIC) :])
    if version != VERSION or code not in DTYPE_CODES:
        raise ValueError(f"{index_path}: has version {version} and dtype code {code}; 1 and 8 or 4 are known")
    if size != HEADER_SIZE + 12 * sequences + 8 * documents:
        raise ValueError(f"{index_path}: has {size} bytes, not those of {sequences} sequences")
    return IndexHeader(DTYPE_CODES[code], sequences)


class Shard:
    """A shard opened for reading, memory-mapped: nothing is read before it is asked for.

    `tokens`: shape (tokens,). `lengths`: int32, `pointers`: int64, both (sequences,); `documents`: int64, (documents + 1,):
    the three tables of the index as they lie in it, not aligned.
    """

    def __init__(self, bin_path: Path | str) -> None:
        """Opens NAME.bin and NAME.idx. Raises ValueError where the index is not one, OSError where a file is missing."""
        self.bin_path = Path(bin_path)
        self.index_path = self.bin_path.with_suffix(".idx")
        header = read_header(self.index_path)
        content = np.memmap(self.index_path, np.uint8, "r").view(np.ndarray)
        pointers = HEADER_SIZE + 4 * header.sequences
        documents = pointers + 8 * header.sequences
        self.dtype = header.dtype
        self.lengths: npt.NDArray[np.int32] = content[HEADER_SIZE:pointers].view("<i4")
        self.pointers: npt.NDArray[np.int64] = content[pointers:documents].view("<i8")
        self.documents: npt.NDArray[np.int64] = content[documents:].view("<i8")
        size = self.bin_path.stat().st_size
        if size % self.dtype.itemsize:
            raise ValueError(f"{self.bin_path}: {size} bytes are not a whole number of {self.dtype} tokens")
        self.tokens: npt.NDArray[Any] = np.memmap(self.bin_path, self.dtype, "r") if size else np.empty(0, self.dtype)

    def __len__(self) -> int:
        return len(self.lengths)

    def document(self, number: int) -> npt.NDArray[Any]:
        """The ids of a document, its end included, shape (length,)."""
        start = int(self.pointers[number]) // self.dtype.itemsize
        return self.tokens[start : start + int(self.lengths[number])]

    def documents_between(self, start: int, end: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The documents that hold the tokens `start` .. `end` (start < end), and how many of these each holds.

        Both int64, shape (documents,). Binary search reads a few entries of the index, whatever its size.
        """
        size = self.dtype.itemsize
        first = bisect_right(self.pointers, start * size) - 1
        last = bisect_left(self.pointers, end * size, lo=first)
        begins = np.array(self.pointers[first:last]) // size
        ends = begins + self.lengths[first:last]
        return np.arange(first, last), np.minimum(ends, end) - np.maximum(begins, start)

    def validate(self, end_of_text: int, checksum: str | None = None) -> list[str]:
        """The faults of the shard, in words; an empty list where it is sound.

        With `checksum`, the card's, the whole `.bin` is read; without, the index and the last token of every document.
        """
        problems = []
        ends = np.cumsum(self.lengths, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        if checksum is not None and (found := file_checksum(self.bin_path)) != checksum:
            problems.append(f"the tokens have changed: the .bin's checksum is {found}, the card says {checksum}")
        if total != len(self.tokens):
            return [*problems, f"the index counts {total:,} tokens, the .bin holds {len(self.tokens):,}"]
        if not np.array_equal(self.pointers, (ends - self.lengths) * self.dtype.itemsize):
            problems.append("the index's pointers do not follow from its lengths")
        if not np.array_equal(self.documents, np.arange(len(self.lengths) + 1)):
            problems.append("the index's documents are not one a sequence")
        if len(self.lengths) and int(self.lengths.min()) < 1:
            return [*problems, f"document {int(np.argmin(self.lengths))} has no token"]
        wrong = np.flatnonzero(self.tokens[ends - 1] != end_of_text)
        if len(wrong):
            problems.append(f"{len(wrong):,} documents do not end with {end_of_text}; the first is {int(wrong[0])}")
        return problems


def file_checksum(path: Path) -> str:
    """Hex blake2b-128 of a file, read in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def fingerprint_of(tokenizer_hash: str, checksums: list[str]) -> str:
    """The dataset's fingerprint: of its tokenizer and of its shards' tokens, in order."""
    return hashlib.blake2b("\n".join([tokenizer_hash, *checksums]).encode(), digest_size=16).hexdigest()


def write_card(file: BinaryIO, card: dict[str, Any]) -> None:
    """Writes a card, checked as `read_card` does."""
    check_card(card, CARD_FILE)
    file.write(json.dumps(card, indent=1).encode() + b"\n")


def read_card(path: Path | str) -> dict[str, Any]:
    """The card of a dataset's folder. Raises ValueError where it is not one that this version reads."""
    place = Path(path) / CARD_FILE
    card = read_json(place, "give the folder that a shard stage published")
    check_card(card, str(place))
    return card


def check_card(card: Any, name: str) -> None:
    """Raises ValueError where a card lacks a field, or contradicts itself. Other fields are ignored.

    Of these a shard stage writes, a split: `entropy`, `most_frequent`, `unknown_share` (see `stages.tokens.card`), `order`
    ("by source" or "shuffled") and `sources`: name -> `tokens`, `documents`, `bytes`, in that order.

    Fields: `version`; `tokenizer` (file beside the card) and `tokenizer_hash` (hex blake2b-128 of it); `dtype`; `vocab_size`;
    `end_of_text`; `fingerprint` (see `fingerprint_of`); `splits`: name -> `tokens`, `documents`, `bytes` (UTF-8) and
    `shards`, each with `name`, `tokens`, `documents`, `bytes`, `largest_id`, `checksum` (hex blake2b-128 of the `.bin`).
    """
    if not isinstance(card, dict) or card.get("version") != CARD_VERSION:
        raise ValueError(f"{name}: is not a dataset card of version {CARD_VERSION}")
    _require(card, _CARD_FIELDS, name)
    if card["dtype"] != token_dtype(card["vocab_size"]).name:
        raise ValueError(f"{name}: a vocabulary of {card['vocab_size']:,} ids is not stored as {card['dtype']!r}")
    if not 0 <= card["end_of_text"] < card["vocab_size"]:
        raise ValueError(f"{name}: the end-of-text id {card['end_of_text']} is not in the vocabulary")
    checksums = []
    names = set()
    for split, content in card["splits"].items():
        _require(content, _SPLIT_FIELDS, f"{name}: split {split!r}")
        for shard in content["shards"]:
            _require(shard, _SHARD_FIELDS, f"{name}: a shard of split {split!r}")
            if Path(shard["name"]).name != shard["name"] or shard["name"] in names:
                raise ValueError(f"{name}: {shard['name']!r} is not a shard's name, or occurs twice")
            if shard["largest_id"] >= card["vocab_size"]:
                raise ValueError(f"{name}: {shard['name']} holds the id {shard['largest_id']}, beyond the vocabulary")
            names.add(shard["name"])
            checksums.append(shard["checksum"])
        for field in _COUNTS:
            if content[field] != sum(shard[field] for shard in content["shards"]):
                raise ValueError(f"{name}: the {field} of split {split!r} are not the sum over its shards")
    if card["fingerprint"] != fingerprint_of(card["tokenizer_hash"], checksums):
        raise ValueError(f"{name}: the fingerprint does not follow from the tokenizer's hash and the shards' checksums")


_COUNTS = ("tokens", "documents", "bytes")
_CARD_FIELDS = {
    "tokenizer": str,
    "tokenizer_hash": str,
    "dtype": str,
    "vocab_size": int,
    "end_of_text": int,
    "fingerprint": str,
    "splits": dict,
}
_SPLIT_FIELDS = {**dict.fromkeys(_COUNTS, int), "shards": list}
_SHARD_FIELDS = {"name": str, **dict.fromkeys(_COUNTS, int), "largest_id": int, "checksum": str}


def _require(content: Any, fields: dict[str, type], name: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{name}: is not a JSON object")
    for field, kind in fields.items():
        if not isinstance(content.get(field), kind):
            raise ValueError(f"{name}: has no field {field!r} that is {kind.__name__}")
        if kind is int and field != "largest_id" and content[field] < 0:
            raise ValueError(f"{name}: {field} is {content[field]}")
