"""fastText classifiers read from their own file, and run in bulk.

The library predicts one text a call at about 10 MB/s a core; this reads the same file (`.ftz`, quantized and pruned, or
`.bin`) and gives the same labels over Arrow buffers: each word's vectors are summed once and remembered, since words repeat.

Method: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification" (classifier), Bojanowski et al. 2017
(character n-grams), Joulin et al. 2016, "FastText.zip" (quantization). Format: facebookresearch/fastText, version 12.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.fasttext_kernel import REMEMBERED_WORDS, predict_rows
from stages.utf8 import string_buffers

MAGIC, VERSION = 793_712_314, 12
HIERARCHICAL_SOFTMAX, SOFTMAX = 1, 3
SUPERVISED = 3
LABEL = b"__label__"
END_OF_LINE = b"</s>"
CENTROIDS = 256


class UnsupportedModel(ValueError):
    """A model file that the library may read and this does not."""


@dataclass(frozen=True)
class FastTextClassifier:
    """`labels`: without their prefix. `vectors`: float32, shape (words + n-grams, dimension). `output`: float32, shape (labels
    or inner nodes, dimension). `tree`: int32, shape (nodes, 2), children of the Huffman tree; empty for softmax. `kept_ngrams`:
    int32, (buckets,), row of `vectors` or -1; `is_kept`: the same as bits."""

    labels: list[str]
    vectors: npt.NDArray[np.float32]
    output: npt.NDArray[np.float32]
    tree: npt.NDArray[np.int32]
    table: npt.NDArray[np.int32]
    word_bytes: npt.NDArray[np.uint8]
    word_bounds: npt.NDArray[np.int64]
    kept_ngrams: npt.NDArray[np.int32]
    bucket: int
    shortest: int
    longest: int
    end_of_line: int
    is_kept: npt.NDArray[np.uint32]
    memory: WordMemory

    @staticmethod
    def load(path: Path) -> FastTextClassifier:
        """The classifier in a file, once a process. Raises `UnsupportedModel`, OSError."""
        return _load(str(path))

    def predict(self, text: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """For each text the index of its most probable label (-1 where there is nothing but white space) and that
        probability; shape (texts,) each. A text is one line: line breaks and NULs count as spaces."""
        data, offsets = string_buffers(text)
        return predict_rows(
            data,
            offsets,
            self.vectors,
            self.output,
            self.tree,
            self.table,
            self.word_bytes,
            self.word_bounds,
            self.kept_ngrams,
            self.is_kept,
            np.uint32(self.bucket),
            self.shortest,
            self.longest,
            self.end_of_line,
            *self.memory.arrays(),
        )


class WordMemory:
    """The summed vectors of words seen lately, by a hash of the word. It makes answers faster and never other: a word's sum
    is the same whenever it is made."""

    def __init__(self, dimension: int) -> None:
        self._keys = np.zeros(REMEMBERED_WORDS, np.uint64)
        self._sums = np.zeros((REMEMBERED_WORDS, dimension), np.float32)
        self._amounts = np.zeros(REMEMBERED_WORDS, np.int32)

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Hash, sum and number of vectors of each word."""
        return self._keys, self._sums, self._amounts


class _File:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self._content, self._place)
        self._place += struct.calcsize("<" + form)
        return found

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        found = np.frombuffer(self._content, np.dtype(dtype), count, self._place)
        self._place += found.nbytes
        return found

    def word(self) -> bytes:
        end = self._content.index(b"\0", self._place)
        found = self._content[self._place : end]
        self._place = end + 1
        return found


@cache
def _load(path: str) -> FastTextClassifier:
    file = _File(Path(path).read_bytes())
    try:
        return _parse(file, path)
    except (struct.error, ValueError, IndexError) as error:
        if isinstance(error, UnsupportedModel):
            raise
        raise UnsupportedModel(f"{path}: is no fastText model, or is cut short: {error}") from error


def _parse(file: _File, path: str) -> FastTextClassifier:
    magic, version = file.values("ii")
    if magic != MAGIC or version != VERSION:
        raise UnsupportedModel(f"{path}: is no fastText model of version {VERSION}")
    dimension, _, _, _, _, word_ngrams, loss, model, bucket, shortest, longest, _ = file.values("12i")
    file.values("d")
    if model != SUPERVISED or loss not in (HIERARCHICAL_SOFTMAX, SOFTMAX) or word_ngrams > 1:
        raise UnsupportedModel(f"{path}: is no classifier with (hierarchical) softmax over single words")
    size, words, labels, _, pruned = file.values("iiiqq")
    entries = [(file.word(), *file.values("qb")) for _ in range(size)]
    pairs = file.array("<i4", 2 * max(pruned, 0)).reshape(-1, 2)
    vectors = _matrix(file, dimension, bool(file.values("?")[0]))
    if file.values("?")[0]:
        raise UnsupportedModel(f"{path}: has a quantized output layer")
    output = _dense(file)
    kept = np.full(max(bucket, 1), -1, np.int32)
    if pruned >= 0:
        kept[pairs[:, 0]] = pairs[:, 1] + words
    else:
        kept[:] = np.arange(len(kept)) + words
    names = [word for word, _, _ in entries[:words]]
    counts = [count for _, count, _ in entries[words : words + labels]]
    return FastTextClassifier(
        labels=[word.removeprefix(LABEL).decode() for word, _, _ in entries[words : words + labels]],
        vectors=vectors,
        output=np.ascontiguousarray(output),
        tree=huffman_tree(counts) if loss == HIERARCHICAL_SOFTMAX else np.empty((0, 2), np.int32),
        table=_hash_table(names),
        word_bytes=np.frombuffer(b"".join(names) or b"\0", np.uint8),
        word_bounds=np.concatenate([[0], np.cumsum([len(name) for name in names])]).astype(np.int64),
        kept_ngrams=kept,
        bucket=bucket,
        shortest=shortest,
        longest=longest if bucket else 0,
        end_of_line=names.index(END_OF_LINE) if END_OF_LINE in names else -1,
        is_kept=_bits(kept >= 0),
        memory=WordMemory(dimension),
    )


def _bits(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """A bit for each flag, 32 a number, the lowest first."""
    return np.packbits(np.pad(flags, (0, -len(flags) % 32)), bitorder="little").view("<u4")


def _dense(file: _File) -> npt.NDArray[np.float32]:
    rows, columns = file.values("qq")
    return file.array("<f4", rows * columns).reshape(rows, columns)


def _matrix(file: _File, dimension: int, is_quantized: bool) -> npt.NDArray[np.float32]:
    """The input matrix; a product-quantized one is multiplied out (lid.176.ftz: 3 MB)."""
    if not is_quantized:
        return np.ascontiguousarray(_dense(file))
    (has_norms,) = file.values("?")
    rows, _ = file.values("qq")
    (code_count,) = file.values("i")
    codes = file.array("u1", code_count).reshape(rows, -1)
    full = _product(file, codes, dimension)
    if has_norms:
        norm_codes = file.array("u1", rows).reshape(rows, 1)
        full *= _product(file, norm_codes, 1)
    return np.ascontiguousarray(full)


def _product(file: _File, codes: npt.NDArray[np.uint8], dimension: int) -> npt.NDArray[np.float32]:
    _, parts, width, last_width = file.values("4i")
    centroids = file.array("<f4", dimension * CENTROIDS)
    columns = []
    for part in range(parts):
        mine = last_width if part == parts - 1 else width
        start = part * CENTROIDS * width
        book = centroids[start : start + CENTROIDS * mine].reshape(CENTROIDS, mine)
        columns.append(book[codes[:, part]])
    return np.concatenate(columns, axis=1)


def huffman_tree(counts: list[int]) -> npt.NDArray[np.int32]:
    """Children of every node of the tree over labels (given by falling count), int32, shape (2 * labels - 1, 2); leaves, which
    come first, have -1. The child at 1 is the one that a sigmoid near 1 leads to."""
    leaves = len(counts)
    nodes = 2 * leaves - 1
    weight = [*counts, *[10**15] * (leaves - 1)]
    children = np.full((nodes, 2), -1, np.int32)
    leaf, node = leaves - 1, leaves
    for parent in range(leaves, nodes):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weight[leaf] < weight[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        children[parent] = pair
        weight[parent] = weight[pair[0]] + weight[pair[1]]
    return children


def _hash_table(words: list[bytes]) -> npt.NDArray[np.int32]:
    """Open addressing by fastText's hash; at most half full."""
    size = 1 << max((2 * len(words)).bit_length(), 4)
    table = np.full(size, -1, np.int32)
    for number, word in enumerate(words):
        place = word_hash(word) & (size - 1)
        while table[place] >= 0:
            place = (place + 1) & (size - 1)
        table[place] = number
    return table


def word_hash(word: bytes) -> int:
    """fastText's 32-bit FNV-1a; its bytes are signed, so those from 0x80 up set all upper bits."""
    value = 2166136261
    for byte in word:
        value = (value ^ (byte | (0xFFFFFF00 if byte & 0x80 else 0))) * 16777619 & 0xFFFFFFFF
    return value
