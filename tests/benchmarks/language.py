"""Language identification against the fastText library, on whole texts, one processor each, in one run.

python -m tests.benchmarks.language TEXTS.jsonl.gz
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import fasttext
import pyarrow as pa

from tokenmill.stages.filters.fasttext_model import FastTextClassifier
from tokenmill.stages.filters.language import bundled_model

ROUNDS = 3


def main(path: Path) -> None:
    """Prints speeds, their ratio and how often the two agree."""
    with gzip.open(path) as file:
        texts = [json.loads(line)["text"] for line in file]
    array = pa.array(texts)
    size = sum(len(text.encode()) for text in texts) / 1e6
    classifier = FastTextClassifier.load(bundled_model())
    classifier.predict(array[:1])  # compiles, or loads what was compiled
    library = fasttext.load_model(str(bundled_model()))
    lines = [text.replace("\n", " ").replace("\r", " ").replace("\0", " ") for text in texts]
    mine = theirs = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        labels, _ = classifier.predict(array)
        mine = min(mine, time.perf_counter() - began)
        began = time.perf_counter()
        answers = [library.predict(line)[0] for line in lines]
        theirs = min(theirs, time.perf_counter() - began)
    same = sum(names[0] == f"__label__{classifier.labels[label]}" for names, label in zip(answers, labels, strict=True))
    print(f"tokenmill {size / mine:.0f} MB/s, fastText {size / theirs:.1f} MB/s: {theirs / mine:.1f} x")
    print(f"same label on {same:,} of {len(texts):,} documents")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
