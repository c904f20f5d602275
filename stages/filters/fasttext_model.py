"""fastText classifiers read from their own file, and run in bulk.

The library predicts one text a call at about 10 MB/s a core; this reads the same file (`.ftz`, quantized and pruned, or
`.bin`) and gives the same labels over Arrow buffers: each word's vectors are summed once and remembered, since words repeat.

Method: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification" (classifier), Bojanowski et al. 2017
(character n-grams), Joulin et al. 2016, "FastText.zip" (quantization). Format: facebookresearch/fastText, version 12.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.stages.filters.fasttext_kernel import (
    Dictionary,
    InputLayer,
    Ngrams,
    WordMemory,
    find_word,
    hash_table,
    most_probable,
    probability_of,
    read_entries,
    text_vectors,
    word_hash,
)
from tokenmill.stages.text.utf8 import string_buffers

MAGIC, VERSION = 793_712_314, 12
HIERARCHICAL_SOFTMAX, SOFTMAX = 1, 3
SUPERVISED = 3
LABEL = "__label__"
END_OF_LINE = b"</s>"
CENTROIDS = 256


class UnsupportedModel(ValueError):
    """A model file that the fastText library may read and this module does not."""


@dataclass(frozen=True)
class FastTextClassifier:
    """`labels`: without their prefix. `layer`: from words to a vector. `output`: float32, shape (labels or inner nodes,
    dimension). `tree`: int32, shape (nodes, 2), children of the Huffman tree; empty for softmax. `memory`: of words.

    A text is one line: line breaks and NULs count as spaces. What has a meaning of its own in fastText's training
    files (`</s>`, words that start with `__label__`) is a word like others.
    """

    labels: list[str]
    layer: InputLayer
    output: npt.NDArray[np.float32]
    tree: npt.NDArray[np.int32]
    memory: WordMemory

    @staticmethod
    def load(path: Path) -> FastTextClassifier:
        """The classifier in a file, once a process. Raises `UnsupportedModel`, OSError."""
        stat = path.stat()
        return _load(str(path), stat.st_mtime_ns, stat.st_size)

    def predict(self, text: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """For each text the index of its most probable label (-1 where there is nothing but white space) and that
        probability; shape (texts,) each."""
        labels, scores = most_probable(*self._means(text), self.output, self.tree)
        return labels, scores

    def probability(self, text: pa.Array, label: str) -> npt.NDArray[np.float64]:
        """The probability of a label for each text, shape (texts,); NaN where there is nothing but white space."""
        return probability_of(self.labels.index(label), *self._means(text), self.output, self.tree)

    def _means(self, text: pa.Array) -> Any:
        return text_vectors(*string_buffers(text), self.layer, self.memory)


def model_labels(path: Path) -> list[str]:
    """The labels of a classifier, without their prefix, also of one that only the library runs. Raises `UnsupportedModel` for
    a file that is none, OSError."""
    stat = path.stat()
    return _labels(str(path), stat.st_mtime_ns, stat.st_size)


@cache
def _labels(path: str, modified: int, size: int) -> list[str]:
    with _parsing(path) as file:
        return _Header.read(file, path).labels


class _File:
    """A file mapped into memory, read from its beginning on: the processes of a machine share a model of gigabytes."""

    def __init__(self, path: str) -> None:
        with Path(path).open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.content = np.frombuffer(self._mapped, np.uint8)
        self.place = 0

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self._mapped, self.place)
        self.place += struct.calcsize("<" + form)
        return found

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        found = np.frombuffer(self.content, np.dtype(dtype), count, self.place)
        self.place += found.nbytes
        return found


@contextmanager
def _parsing(path: str) -> Iterator[_File]:
    try:
        yield _File(path)
    except (struct.error, ValueError, IndexError) as error:
        if isinstance(error, UnsupportedModel):
            raise
        raise UnsupportedModel(f"{path}: is no fastText model, or is cut short: {error}") from error


@dataclass(frozen=True)
class _Header:
    """A model file up to its matrices. `bounds`: int64, (words, 2), where each word starts and ends in the file. `pruned`:
    int32, (n-grams, 2), bucket and row of those that are left; None where all are."""

    dimension: int
    word_ngrams: int
    loss: int
    bucket: int
    shortest: int
    longest: int
    bounds: npt.NDArray[np.int64]
    labels: list[str]
    label_counts: list[int]
    pruned: npt.NDArray[np.int32] | None

    @staticmethod
    def read(file: _File, path: str) -> _Header:
        magic, version = file.values("ii")
        if magic != MAGIC or version != VERSION:
            raise UnsupportedModel(f"{path}: is no fastText model of version {VERSION}")
        dimension, _, _, _, _, word_ngrams, loss, model, bucket, shortest, longest, _ = file.values("12i")
        file.values("d")
        if model != SUPERVISED:
            raise UnsupportedModel(f"{path}: is a fastText model of word vectors, no classifier")
        size, words, labels, _, pruned = file.values("iiiqq")
        if not 0 <= words <= size <= len(file.content):
            raise UnsupportedModel(f"{path}: is no fastText model, or is cut short: {size:,} words")
        bounds, counts, file.place = read_entries(file.content, file.place, size)
        pairs = file.array("<i4", 2 * max(pruned, 0)).reshape(-1, 2)
        names = [file.content[begin:end].tobytes().decode() for begin, end in bounds[words : words + labels]]
        return _Header(
            dimension,
            word_ngrams,
            loss,
            bucket,
            shortest,
            longest,
            bounds[:words],
            [name.removeprefix(LABEL) for name in names],
            counts[words : words + labels].tolist(),
            pairs if pruned >= 0 else None,
        )


@cache
def _load(path: str, modified: int, size: int) -> FastTextClassifier:
    with _parsing(path) as file:
        return _parse(file, path)


def _parse(file: _File, path: str) -> FastTextClassifier:
    header = _Header.read(file, path)
    if header.loss not in (HIERARCHICAL_SOFTMAX, SOFTMAX):
        raise UnsupportedModel(f"{path}: is no classifier with (hierarchical) softmax")
    vectors = _matrix(file, header.dimension, bool(file.values("?")[0]))
    if file.values("?")[0]:
        raise UnsupportedModel(f"{path}: has a quantized output layer")
    output = _dense(file)
    count, bucket = len(header.bounds), header.bucket
    rows = np.full(max(bucket, 1), -1, np.int32)
    if header.pruned is not None:
        rows[header.pruned[:, 0]] = header.pruned[:, 1] + count
    else:
        rows[:] = np.arange(len(rows)) + count
    words, starts = _packed(file.content, header.bounds)
    dictionary = Dictionary(words, starts, hash_table(words, starts))
    ngrams = Ngrams(
        rows=rows,
        is_kept=_bits(rows >= 0),
        bucket=np.uint32(bucket),
        shortest=header.shortest,
        longest=header.longest if bucket else 0,
        words=header.word_ngrams if bucket else 1,
    )
    end = np.frombuffer(END_OF_LINE, np.uint8)
    end_of_line = find_word(end, 0, len(end), word_hash(end, 0, len(end)), dictionary)
    tree = huffman_tree(header.label_counts) if header.loss == HIERARCHICAL_SOFTMAX else np.empty((0, 2), np.int32)
    layer = InputLayer(vectors, dictionary, ngrams, end_of_line)
    return FastTextClassifier(header.labels, layer, output, tree, WordMemory.empty(header.dimension))


def _packed(
    content: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of words one after the other, and where each starts, int64, (words + 1,)."""
    if not len(bounds):
        return np.zeros(1, np.uint8), np.zeros(1, np.int64)
    sizes = bounds[:, 1] - bounds[:, 0]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return content[np.arange(starts[-1]) + np.repeat(bounds[:, 0] - starts[:-1], sizes)], starts


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
