"""Datasets for tests: written with the shard format's writer, as the shard stage publishes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.model.data.shard_format import CARD_VERSION, ShardWriter, fingerprint_of, token_dtype, write_card

END = 0


def documents(lengths: Sequence[int], vocabulary: int = 50_000, seed: int = 0) -> list[npt.NDArray[Any]]:
    """Documents of the given lengths, each of random ids that are not END and then END."""
    random = np.random.default_rng(seed)
    return [np.append(random.integers(1, vocabulary, length - 1), END) for length in lengths]


def write_dataset(
    folder: Path, splits: dict[str, list[list[npt.NDArray[Any]]]], vocabulary: int = 50_000, tokenizer: bytes = b"{}"
) -> Path:
    """A dataset of splits of shards of documents, in a new folder."""
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    described: dict[str, Any] = {}
    for split, shards in splits.items():
        entries = []
        for number, held in enumerate(shards):
            name = f"{split}-{number:05d}"
            with (folder / f"{name}.bin").open("wb") as bin_file, (folder / f"{name}.idx").open("wb") as index_file:
                writer = ShardWriter(bin_file, index_file, token_dtype(vocabulary))
                for document in held:
                    writer.write(document, np.array([len(document)], np.int32))
                info = writer.close()
            entries.append({"name": name, "bytes": 4 * info.tokens, **asdict(info)})
        sums = {field: sum(entry[field] for entry in entries) for field in ("tokens", "documents", "bytes")}
        described[split] = {**sums, "shards": entries}
    tokenizer_hash = hashlib.blake2b(tokenizer, digest_size=16).hexdigest()
    checksums = [entry["checksum"] for content in described.values() for entry in content["shards"]]
    with (folder / "dataset.json").open("wb") as file:
        write_card(
            file,
            {
                "version": CARD_VERSION,
                "tokenizer": "tokenizer.json",
                "tokenizer_hash": tokenizer_hash,
                "dtype": token_dtype(vocabulary).name,
                "vocab_size": vocabulary,
                "end_of_text": END,
                "fingerprint": fingerprint_of(tokenizer_hash, checksums),
                "splits": described,
            },
        )
    return folder


def ring(shards: list[list[npt.NDArray[Any]]]) -> npt.NDArray[Any]:
    """All tokens of a split, in order."""
    return np.concatenate([document for shard in shards for document in shard])
