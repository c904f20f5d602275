"""Decontamination against datatrove's filter, one processor each, the same texts and items, in one run.

python -m tests.benchmarks.decontaminate TEXTS.jsonl.gz [--documents 700] [--items 5000]

The items are forty words each out of other texts of the file, so that some documents are found and most are not.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import pyarrow as pa
from datatrove.data import Document

from tests.peer_decontamination import SIZE, peer_filter
from tests.runs import jsonl_file
from tokenmill.stages.decontaminate.stage import Decontaminate
from tokenmill.stages.stage import KEPT

ROUNDS = 3
WORDS = 40


def main() -> None:
    """Prints speeds, their ratio, and on how many documents the two decide the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--documents", type=int, default=700, help="every n-th text, so that about this many are taken")
    parser.add_argument("--items", type=int, default=5000)
    arguments = parser.parse_args()
    with gzip.open(arguments.texts) as file:
        texts = [json.loads(line)["text"] for line in file]
    step = max(len(texts) // arguments.documents, 2)
    documents = texts[::step]
    others = [text.split() for number, text in enumerate(texts) if number % step]
    pieces = (words[start : start + WORDS] for start in range(0, 4000, WORDS) for words in others)
    items = [
        " ".join(piece)
        for piece, _ in zip((p for p in pieces if len(p) == WORDS), range(arguments.items), strict=False)
    ]
    size = sum(len(text.encode()) for text in documents) / 1e6
    batch = pa.record_batch({"text": pa.array(documents, pa.string())})
    with tempfile.TemporaryDirectory() as folder:
        jsonl_file(Path(folder) / "items.jsonl", [{"text": item} for item in items])
        stage = Decontaminate(against=[str(Path(folder) / "items.jsonl")], ngram=SIZE)
        peer = peer_filter(Path(folder), items)
        ours = stage.judge(batch).fate != KEPT  # compiles, and reads the items
        peer.filter(Document(text=documents[0], id=""))
        mine, theirs = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            stage.judge(batch)
            mine.append(time.perf_counter() - began)
            began = time.perf_counter()
            answers = [peer.filter(Document(text=document, id="")) is not True for document in documents]
            theirs.append(time.perf_counter() - began)
    one, two = median(mine), median(theirs)
    print(f"{len(documents):,} documents, {size:.1f} MB, {len(items):,} items")
    print(f"tokenmill {size / one:.0f} MB/s, datatrove {size / two:.2f} MB/s: {two / one:.0f} x")
    same = sum(mine == their for mine, their in zip(ours.tolist(), answers, strict=True))
    print(f"the same decision on {same:,}; dropped by tokenmill {int(ours.sum()):,}, by datatrove {sum(answers):,}")


if __name__ == "__main__":
    main()
