"""Writes small fastText classifiers in the library's own format, version 12: fasttext-predict cannot train any."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tokenmill.stages.filters.fasttext_model import MAGIC, SUPERVISED, VERSION

WORD, LABEL = 0, 1


def write_classifier(
    path: Path,
    words: Sequence[str],
    labels: Mapping[str, int],
    *,
    loss: int,
    dimension: int = 16,
    word_ngrams: int = 1,
    buckets: int = 1000,
    ngram_lengths: tuple[int, int] = (0, 0),
    spread: float = 0.5,
    seed: int = 0,
) -> Path:
    """A classifier with random vectors.

    `labels`: with their counts, falling, which give the Huffman tree of hierarchical softmax. `loss`: fastText's number: 1
    hierarchical softmax, 2 negative sampling, 3 softmax. `ngram_lengths`: of characters, shortest and longest; 0: none.
    `spread`: standard deviation of the vectors: the library sums them in 32 bits, so its error grows with it.
    """
    random = np.random.default_rng(seed)
    entries = [(word, 1, WORD) for word in words] + [(f"__label__{name}", n, LABEL) for name, n in labels.items()]
    numbers = (dimension, 5, 5, 1, 5, word_ngrams, loss, SUPERVISED, buckets, *ngram_lengths, 100)
    header = struct.pack("<2i12id", MAGIC, VERSION, *numbers, 1e-4)
    dictionary = struct.pack("<3i2q", len(entries), len(words), len(labels), 1000, -1)
    dictionary += b"".join(word.encode() + b"\0" + struct.pack("<qb", count, kind) for word, count, kind in entries)
    matrices = b""
    for rows in (len(words) + buckets, len(labels)):
        values = random.normal(0, spread, (rows, dimension)).astype("<f4")
        matrices += struct.pack("<?2q", False, rows, dimension) + values.tobytes()
    path.write_bytes(header + dictionary + matrices)
    return path
