"""The loader beside Megatron's GPTDataset, litdata and MosaicML streaming: python -m tests.benchmarks.peer_loaders

Needs `pip install megatron-core litdata mosaicml-streaming` in an environment of its own, with numpy and torch; run it there
from the repository's root. Batches of 64 windows of 1,024 inputs and as many targets, int64 in torch, in random order, from the
same tokens in each one's own format in page cache, one process without workers. Start-up: from opening to the first batch in a
new process (imports not counted; Megatron and streaming build and store an index the first time, so both times are shown).
All ways take turns, and the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

WAYS = ("tokenmill", "megatron", "litdata", "streaming")
BATCH, WINDOW = 64, 1024
ROUNDS, BATCHES = 5, 200


def write(way: str, source: Path, folder: Path) -> None:
    """The tokens of a dataset in the format of a way; litdata and streaming hold them cut into windows."""
    import torch

    from tokenmill.model.data.shard_format import Shard

    shards = [Shard(path) for path in sorted(source.glob("train-*.bin"))]
    blocks = (
        np.array(shard.tokens[at : at + WINDOW + 1])
        for shard in shards
        for at in range(0, len(shard.tokens) - WINDOW, WINDOW)
    )
    if way == "litdata":
        from litdata.streaming.cache import Cache
        from litdata.streaming.item_loader import TokensLoader

        cache = Cache(str(folder), chunk_bytes="64MB", item_loader=TokensLoader(WINDOW + 1))
        for number, block in enumerate(blocks):
            cache[number] = torch.from_numpy(block.astype(np.int32))
        cache.done()
        cache.merge()
    elif way == "streaming":
        from streaming import MDSWriter

        with MDSWriter(out=str(folder), columns={"tokens": f"ndarray:uint16:{WINDOW + 1}"}) as writer:
            for block in blocks:
                writer.write({"tokens": block})
    else:
        folder.mkdir(exist_ok=True)


def batches(way: str, source: Path, folder: Path) -> Iterator[tuple[Any, Any]]:
    """Batches without end, inputs and targets."""
    import torch

    if way == "tokenmill":
        from tokenmill.model.data.dataset import TokenDataset

        for batch in TokenDataset(source, context_length=WINDOW, batch_size=BATCH, device="cpu"):
            yield batch.inputs, batch.targets
    elif way == "megatron":
        dataset = megatron(source, folder)
        for first in range(0, len(dataset) - BATCH, BATCH):
            items = [dataset[first + row] for row in range(BATCH)]
            yield torch.stack([item["tokens"] for item in items]), torch.stack([item["labels"] for item in items])
    else:
        for rows in torch.utils.data.DataLoader(peer_stream(way, folder), batch_size=BATCH):
            windows = (rows["tokens"] if way == "streaming" else rows).to(torch.int64)
            yield windows[:, :-1], windows[:, 1:]


def megatron(source: Path, folder: Path) -> Any:
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from torch import distributed

    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())  # type: ignore[attr-defined]

    class Tokenizer:
        eod, pad, vocab_size, unique_identifiers = 0, 0, 50_000, {"name": "none"}

    prefixes = [str(path.with_suffix("")) for path in sorted(source.glob("train-*.bin"))]
    config = GPTDatasetConfig(
        random_seed=0,
        sequence_length=WINDOW,
        blend=(prefixes, None),
        split="1,0,0",
        tokenizer=Tokenizer(),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        path_to_cache=str(folder),
    )
    samples = BATCH * BATCHES * ROUNDS * 2
    return BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build()[0]


def peer_stream(way: str, folder: Path) -> Any:
    if way == "litdata":
        from litdata import StreamingDataset
        from litdata.streaming.item_loader import TokensLoader

        return StreamingDataset(str(folder), item_loader=TokensLoader(WINDOW + 1), shuffle=True)
    from streaming import StreamingDataset as MosaicDataset

    return MosaicDataset(local=str(folder), shuffle=True, batch_size=BATCH)


def measure(way: str, source: Path, folder: Path) -> None:
    """In a process of its own: prints the seconds to the first batch, and those of `BATCHES` more."""
    import torch

    torch.set_num_threads(1)
    imports = {"megatron": "megatron.core.datasets.gpt_dataset", "tokenmill": "tokenmill.model.data.device_transfer"}
    __import__(imports.get(way, way))
    if way == "tokenmill":
        import tokenmill.model.data.dataset  # noqa: F401
    began = time.perf_counter()
    source_batches = batches(way, source, folder)
    inputs, targets = next(source_batches)
    first = time.perf_counter() - began
    assert inputs.shape == targets.shape == (BATCH, WINDOW)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    began = time.perf_counter()
    for _ in range(BATCHES):
        next(source_batches)
    print("measured", json.dumps([first, time.perf_counter() - began]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS, metavar=("WHAT", "WAY", "SOURCE", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.one:
        what, way, source, folder = arguments.one
        (write if what == "write" else measure)(way, Path(source), Path(folder))
        return
    from tests.benchmarks.loader import make

    with tempfile.TemporaryDirectory() as scratch:
        source = make(Path(scratch) / "source", int(arguments.gigabytes * 5e8), 10)

        def child(what: str, way: str) -> list[float]:
            command = [
                sys.executable,
                "-m",
                "tests.benchmarks.peer_loaders",
                "--one",
                what,
                way,
                source,
                f"{scratch}/{way}",
            ]
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
            said = [line for line in done.stdout.splitlines() if line.startswith("measured")]
            return [float(number) for number in json.loads(said[-1].partition(" ")[2])] if said else []

        at_first = {}
        for way in WAYS:
            try:
                child("write", way)
                at_first[way] = child("measure", way)[0]
            except RuntimeError as error:
                print(f"{way} does not run here: {error}")
        rounds = [{way: child("measure", way) for way in at_first} for _ in range(ROUNDS)]
    print(f"{arguments.gigabytes:g} GB of uint16 tokens, medians of {ROUNDS} rounds in turns")
    own = median(one["tokenmill"][1] for one in rounds)
    print(f"{'':10} {'first batch':>12} {'again':>10} {'batches/s':>10} {'tokenmill is':>13}")
    for way, first in at_first.items():
        again = median(one[way][0] for one in rounds)
        taken = median(one[way][1] for one in rounds)
        print(f"{way:10} {first * 1e3:9.0f} ms {again * 1e3:7.0f} ms {BATCHES / taken:10.0f} {taken / own:11.1f} x")


if __name__ == "__main__":
    main()
