"""Quality rules against datatrove's filters: python -m tests.benchmarks.quality ../shared/data/text.jsonl.gz [--documents 2000]

One processor each, the same texts. Ours measures and judges every document by every rule; datatrove's GopherQualityFilter
and GopherRepetitionFilter stop at the first that fails, and split words with spaCy (`pip install 'tokenmill[peers]'`). The
ways take turns, and the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pyarrow as pa
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

from stages.quality import Quality

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--documents", type=int, default=2000, help="every n-th text, so that this many are taken")
    arguments = parser.parse_args()
    with gzip.open(arguments.texts) as file:
        texts = [json.loads(line)["text"] for line in file]
    texts = texts[:: max(len(texts) // arguments.documents, 1)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    documents = [Document(text=text, id="") for text in texts]

    def ours(*rules: str) -> Callable[[], object]:
        stage = Quality(rules=list(rules))
        return lambda: stage.apply(batch)

    def theirs(*filters: GopherQualityFilter | GopherRepetitionFilter) -> Callable[[], object]:
        return lambda: [all(one.filter(document) is True for one in filters) for document in documents]

    pairs = {
        "gopher": (ours("gopher"), theirs(GopherQualityFilter())),
        "gopher_repetition": (ours("gopher_repetition"), theirs(GopherRepetitionFilter())),
        "both": (ours("gopher", "gopher_repetition"), theirs(GopherQualityFilter(), GopherRepetitionFilter())),
    }
    print(f"{len(texts):,} documents, {size:.1f} MB")
    for name, (mine, other) in pairs.items():
        mine()
        seconds: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            times = []
            for way in (mine, other):
                began = time.perf_counter()
                way()
                times.append(time.perf_counter() - began)
            seconds.append((times[0], times[1]))
        one, two = median(first for first, _ in seconds), median(second for _, second in seconds)
        print(f"{name:18} tokenmill {size / one:6.1f} MB/s, datatrove {size / two:5.2f} MB/s: {two / one:5.1f} x")


if __name__ == "__main__":
    main()
