"""A fastText quality classifier of DCLM's shape against the fastText library, one processor each, in one run.

python -m tests.benchmarks.classifier TEXTS.jsonl.gz
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import fasttext
import pyarrow as pa

from tests.fasttext_writer import write_classifier
from tokenmill.stages.filters.classifier import label_probability

ROUNDS = 3
DIMENSION, BUCKETS = 100, 1_000_000
"""fastText's default dimension; its vectors, 0.4 GB, fit no cache."""


def main(path: Path) -> None:
    """Prints speeds, their ratio and how far apart the scores are, for words alone and with bigrams."""
    with gzip.open(path) as file:
        texts = [json.loads(line)["text"] for line in file]
    array = pa.array(texts)
    size = sum(len(text.encode()) for text in texts) / 1e6
    lines = [text.replace("\n", " ").replace("\r", " ").replace("\0", " ") for text in texts]
    seen = Counter(word for line in lines[::10] for word in line.split())
    words = ["</s>", *(word for word, _ in seen.most_common(200_000) if word != "</s>")]
    for word_ngrams in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            model = write_classifier(
                Path(folder) / "m.bin",
                words,
                {"hq": 2, "cc": 1},
                loss=3,
                word_ngrams=word_ngrams,
                dimension=DIMENSION,
                buckets=BUCKETS,
            )
            label_probability(array[:1], model, "hq")  # compiles, or loads what was compiled
            library = fasttext.load_model(str(model))
            mine = theirs = float("inf")
            for _ in range(ROUNDS):
                began = time.perf_counter()
                scores = label_probability(array, model, "hq")
                mine = min(mine, time.perf_counter() - began)
                began = time.perf_counter()
                answers = [dict(zip(*library.predict(line, k=-1), strict=True)) for line in lines]
                theirs = min(theirs, time.perf_counter() - began)
        furthest = max(
            abs(answer["__label__hq"] - score)
            for line, answer, score in zip(lines, answers, scores, strict=True)
            if answer and "</s>" not in line  # where the library stops reading
        )
        print(
            f"word n-grams to {word_ngrams}: tokenmill {size / mine:.0f} MB/s, fastText {size / theirs:.1f} MB/s: "
            f"{theirs / mine:.1f} x; scores within {furthest:.1e}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
