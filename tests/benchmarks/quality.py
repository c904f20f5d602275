"""Quality rules against datatrove's filters: python -m tests.benchmarks.quality ../shared/data/text.jsonl.gz [--documents 2000]

One processor each, the same texts. Ours measures and judges every document by every rule; datatrove's filters stop at the
first that fails, and split words and sentences with spaCy (`pip install 'tokenmill[peers]'`). NeMo Curator's ratios have no
peer there. C4's rules are asked last, as the sets after it see little of a text. The ways take turns, and the median of the
rounds counts.
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
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter

from tokenmill.stages.quality.stage import Quality

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--documents", type=int, default=2000, help="every n-th text, so that this many are taken")
    parser.add_argument("--language", help="texts of this language only (en)")
    arguments = parser.parse_args()
    with gzip.open(arguments.texts) as file:
        rows = [json.loads(line) for line in file]
    texts = [row["text"] for row in rows if arguments.language in (None, row["language"])]
    texts = texts[:: max(len(texts) // arguments.documents, 1)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})

    def ours(*rules: str) -> Callable[[], object]:
        stage = Quality(rules=list(rules))
        return lambda: stage.apply(batch)

    def theirs(*filters: BaseFilter) -> Callable[[], object]:
        def judge() -> object:
            # C4's filter edits the document that it is given
            documents = [Document(text=text, id="") for text in texts]
            return [all(one.filter(document) is True for one in filters) for document in documents]

        return judge

    peers = {
        "gopher": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "fineweb": FineWebQualityFilter(),
        "c4": C4QualityFilter(),
    }
    pairs = {name: (ours(name), theirs(peer)) for name, peer in peers.items()}
    pairs["these four"] = ours(*peers), theirs(*peers.values())
    print(f"{len(texts):,} documents, {size:.1f} MB")
    for name, (mine, other) in pairs.items():
        mine()
        seconds = [(timed(mine), timed(other)) for _ in range(ROUNDS)]
        one, two = median(first for first, _ in seconds), median(second for _, second in seconds)
        print(f"{name:18} tokenmill {size / one:6.1f} MB/s, datatrove {size / two:5.2f} MB/s: {two / one:5.1f} x")
    for name, rules in (("nemo", ["nemo"]), ("all five", ["nemo", *peers])):
        ours(*rules)()
        print(f"{name:18} tokenmill {size / median(timed(ours(*rules)) for _ in range(ROUNDS)):6.1f} MB/s")


def timed(way: Callable[[], object]) -> float:
    """Seconds that a way takes."""
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
