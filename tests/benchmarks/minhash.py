"""MinHash signatures against datasketch's `update_batch` and rensa's `RMinHash`, one core, the same word 5-grams.

python tests/benchmarks/minhash.py TEXTS [--permutations 128] [--documents 1000]

TEXTS is a .jsonl.gz with a `text` field. `pip install rensa` for its column. Ours is timed from text to band keys. The others
take n-grams (strings; encoded for datasketch) and hash them: timed once with these ready made, as if they cost nothing, and
once with the making of them in Python, which is what a user has to do. All take turns; CPU time, the least of several.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from collections.abc import Callable
from itertools import islice

import pyarrow as pa
from datasketch import MinHash

from tokenmill.stages.dedup.minhash import band_keys, signatures
from tokenmill.stages.text.shingles import shingles

NGRAM = 5
ROUNDS = 5


def ngrams(text: str) -> list[str]:
    """Word n-grams of a text, as strings."""
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[start : start + NGRAM]) for start in range(max(len(words) - NGRAM + 1, 1))]


def ours(texts: pa.Array, permutations: int) -> Callable[[], object]:
    """From text to keys of bands of 8 rows."""

    def run() -> object:
        hashes, bounds, _ = shingles(texts, NGRAM)
        return band_keys(signatures(hashes, bounds, permutations, 1), permutations // 8, 8)

    return run


def of_datasketch(documents: list[list[str]], permutations: int) -> Callable[[], object]:
    """With the default hash function."""
    encoded = [[ngram.encode() for ngram in document] for document in documents]

    def run() -> object:
        made = []
        for document in encoded:
            sketch = MinHash(num_perm=permutations, seed=1, scheme="affine32")
            sketch.update_batch(document)
            made.append(sketch.hashvalues)
        return made

    return run


def of_rensa(documents: list[list[str]], permutations: int) -> Callable[[], object]:
    """Its fastest sketch that keeps MinHash's estimate."""
    from rensa import RMinHash  # type: ignore[import-untyped, import-not-found, unused-ignore]

    def run() -> object:
        made = []
        for document in documents:
            sketch = RMinHash(num_perm=permutations, seed=1)
            sketch.update(document)
            made.append(sketch.digest())
        return made

    return run


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts")
    parser.add_argument("--permutations", type=int, default=128)
    parser.add_argument("--documents", type=int, default=1000)
    arguments = parser.parse_args()
    with gzip.open(arguments.texts, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in islice(lines, arguments.documents)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    documents = [ngrams(text) for text in texts]
    runs: dict[str, Callable[[], object]] = {
        "tokenmill": ours(pa.array(texts, pa.string()), arguments.permutations),
        "datasketch": of_datasketch(documents, arguments.permutations),
        "rensa": of_rensa(documents, arguments.permutations),
        "n-grams": lambda: [ngrams(text) for text in texts],
    }
    runs["tokenmill"]()  # compiles
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            began = time.process_time()
            run()
            least[name] = min(least[name], time.process_time() - began)
    shingled = sum(map(len, documents))
    print(
        f"{len(texts)} documents, {megabytes:.1f} MB, {shingled} {NGRAM}-grams, {arguments.permutations} permutations"
    )
    making = least.pop("n-grams")
    print(f"{'':>10}  {'MB/s':>7}  {'ns an n-gram':>12}  {'slower':>7}  with n-grams")
    for name, seconds in least.items():
        ratio = seconds / least["tokenmill"]
        whole = 1.0 if name == "tokenmill" else (seconds + making) / least["tokenmill"]
        print(
            f"{name:>10}  {megabytes / seconds:7.1f}  {seconds / shingled * 1e9:12.1f}  {ratio:5.1f} x  {whole:9.1f} x"
        )


if __name__ == "__main__":
    main()
