"""Deduplication beside datatrove's four steps: the same texts, the same shape of signatures, two processes each.

python -m tests.benchmarks.deduplicate_peer FOLDER [--documents 100_000]

The texts are those of `tests.benchmarks.deduplicate`. Ours is all phases of the stage over Arrow files; datatrove's are
signature, buckets, cluster and filter over JSON lines, each by its LocalPipelineExecutor, its result written as JSON lines.
Starting our processes is not timed, nor making the texts. Needs `pip install 'tokenmill[peers]'`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.deduplicate import measure, texts_of

FILES = 2


def write_jsonl(folder: Path, documents: int) -> None:
    """Writes the documents, a file a process."""
    folder.mkdir(parents=True)
    texts = texts_of(np.arange(documents, dtype=np.uint64), documents).to_pylist()
    for number in range(FILES):
        with (folder / f"{number}.jsonl").open("w") as file:
            for row in range(number, documents, FILES):
                file.write(json.dumps({"id": str(row), "text": texts[row]}) + "\n")


def steps_of(folder: Path) -> dict[str, tuple[list[Any], int]]:
    """datatrove's steps by name: what each runs, and with how many tasks."""
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5)
    texts, signed, buckets, gone = (str(folder / name) for name in ("texts", "signed", "buckets", "gone"))
    return {
        "signature": ([JsonlReader(texts), MinhashDedupSignature(signed, config=config)], FILES),
        "buckets": ([MinhashDedupBuckets(signed, buckets, config=config)], 14),
        "cluster": ([MinhashDedupCluster(buckets, gone, config=config)], 1),
        "filter": ([JsonlReader(texts), MinhashDedupFilter(gone), JsonlWriter(str(folder / "kept"))], FILES),
    }


def theirs(folder: Path, documents: int) -> float:
    """Seconds of datatrove's steps; prints each."""
    from datatrove.executor import LocalPipelineExecutor

    write_jsonl(folder / "texts", documents)
    total = 0.0
    for name, (pipeline, tasks) in steps_of(folder).items():
        began = time.perf_counter()
        logs = str(folder / "logs" / name)
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=FILES, logging_dir=logs).run()
        seconds = time.perf_counter() - began
        print(f"datatrove {name}: {seconds:.1f} s", flush=True)
        total += seconds
    shutil.rmtree(folder)
    return total


def main() -> None:
    """Prints both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="is made, and deleted at the end")
    parser.add_argument("--documents", type=int, default=100_000)
    arguments = parser.parse_args()
    measure(arguments.folder, 1000, FILES)  # compiles
    mine = measure(arguments.folder, arguments.documents, FILES)
    other = theirs(arguments.folder, arguments.documents)
    print(f"tokenmill {mine:.2f} s, datatrove {other:.1f} s: 1 : {other / mine:.0f}")


if __name__ == "__main__":
    main()
