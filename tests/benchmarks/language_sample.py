"""How much of a text is enough to tell its language: python -m tests.benchmarks.language_sample ../shared/data

For samples of several sizes, over text.jsonl.gz and the extracted pages of crawl/: how often the label is that of the whole
text, how often the decision at the default threshold is (keep a document if English with 0.65), and the speed of the answer.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.stages.extract.stage import Extract
from tokenmill.stages.filters.language import bundled_model, classify
from tokenmill.stages.filters.sampling import sample_text
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.readers.reader import read

SIZES = (500, 1000, 2000, 4000, 8000, 16_000, 32_000)


def extracted(crawl: Path) -> pa.Array:
    """The main texts of the pages of WARC files."""
    texts = []
    for path in sorted(crawl.iterdir()):
        with path.open("rb") as file:
            for batch, _ in read(file, path=path.name, options=ReadOptions()):
                texts.append(Extract().apply(batch)[0].column("text"))
    return pa.concat_arrays(texts)


def main(data: Path) -> None:
    with gzip.open(data / "text.jsonl.gz") as file:
        texts = pa.array([json.loads(line)["text"] for line in file])
    for name, text in (("text.jsonl.gz", texts), ("crawl, extracted", extracted(data / "crawl"))):
        text = text.filter(pc.greater(pc.binary_length(text), 0))
        megabytes = pc.sum(pc.binary_length(text)).as_py() / 1e6
        whole, scores = classify(text, bundled_model())
        kept = pc.equal(whole, "en").to_numpy(zero_copy_only=False) & (scores >= 0.65)
        print(f"{name}: {len(text):,} texts, {megabytes:.1f} MB")
        for size in (*SIZES, 1 << 30):
            seconds = []
            for _ in range(3):
                began = time.perf_counter()
                labels, sampled = classify(sample_text(text, size), bundled_model())
                seconds.append(time.perf_counter() - began)
            same = pc.mean(pc.equal(labels, whole)).as_py()
            decided = np.mean(kept == (pc.equal(labels, "en").to_numpy(zero_copy_only=False) & (sampled >= 0.65)))
            shown = f"{size:,} bytes" if size < 1 << 30 else "whole text"
            print(f"  {shown:>12}: label {same:8.3%}  decision {decided:8.3%}  {megabytes / min(seconds):6.0f} MB/s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
