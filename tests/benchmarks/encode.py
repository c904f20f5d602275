"""Encoding and packing against `tokenizers`: python -m tests.benchmarks.encode ../shared/data/text.jsonl.gz TOKENIZER_JSON

One processor each. Ours takes the texts from Arrow to a finished `.bin` and `.idx` on disk, with every check that a run makes;
`tokenizers` encodes the same texts with `encode_batch` and `encode_batch_fast` and keeps nothing. The two take turns, and
the median of the rounds counts. That the ids are the same is asserted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS, DOCUMENTS = 3, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("tokenizer", type=Path)
    arguments = parser.parse_args()
    os.environ |= {
        "RAYON_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # before the libraries start their threads
    import numpy as np
    import pyarrow as pa

    from tokenmill.model.data.shard_format import ShardWriter
    from tokenmill.stages.tokens.encode import Encoder

    with gzip.open(arguments.texts, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    batches = [pa.array(texts[at : at + DOCUMENTS], pa.string()) for at in range(0, len(texts), DOCUMENTS)]
    size = sum(len(text.encode("utf-8", "replace")) for text in texts) / 1e6
    content = arguments.tokenizer.read_bytes()
    found: dict[str, int] = {}

    def ours() -> None:
        encoder = Encoder(content)
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder) / "train-00000"
            with base.with_suffix(".bin").open("wb") as bin_file, base.with_suffix(".idx").open("wb") as index_file:
                writer = ShardWriter(bin_file, index_file, encoder.dtype)
                for batch in batches:
                    writer.write(*encoder.encode(batch))
                found["tokenmill"] = writer.close().tokens - len(texts)
        assert encoder.engine == "gigatoken", encoder.reason

    def theirs(method: str) -> Callable[[], None]:
        encode: Any = getattr(Encoder(content).tokenizer, method)

        def run() -> None:
            count = 0
            for batch in batches:
                count += sum(len(one.ids) for one in encode(batch.to_pylist(), add_special_tokens=False))
            found[method] = count

        return run

    ways = {"tokenmill": ours, "encode_batch": theirs("encode_batch"), "encode_batch_fast": theirs("encode_batch_fast")}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    Encoder(content).encode(batches[0])
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    assert len(set(found.values())) == 1, found
    own = median(seconds["tokenmill"])
    print(f"{len(texts):,} documents, {size:.1f} MB, {np.int64(found['tokenmill']):,} tokens")
    for name, taken in seconds.items():
        print(
            f"{name:18} {median(taken):7.2f} s  {size / median(taken):7.1f} MB/s  tokenmill is {median(taken) / own:5.1f} x"
        )


if __name__ == "__main__":
    main()
