"""From a token to where it came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenmill.pipeline.errors import ConfigError, nearest
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.run_folder import RunFolder

CONTEXT = 24
"""Tokens shown on each side."""


def locate(run: RunFolder, split: str, offset: int, dataset: str | None = None) -> dict[str, Any]:
    """The place of the `offset`th token of a split: shard, document, source, and the text around it.

    Raises `ConfigError` for a split, dataset or offset that is not there.
    """
    chosen = run.choose_dataset(dataset)
    if split not in chosen.splits:
        raise ConfigError(f"{chosen.name} has no split {split!r}; {nearest(split, chosen.splits)}")
    tokens = chosen.splits[split]["tokens"]
    if offset >= tokens:
        raise ConfigError(f"the split {split!r} has {tokens:,} tokens, so the last offset is {tokens - 1:,}")
    rest = offset
    for shard in chosen.splits[split]["shards"]:
        if rest < shard["tokens"]:
            break
        rest -= shard["tokens"]
    with run.store.open(chosen.documents_table(shard["name"])) as file:
        table = read_parquet(file)
    row = int(np.searchsorted(table.column("token_start").to_numpy(), rest, "right")) - 1
    document = table.slice(row, 1).to_pylist()[0]
    start, count = document["token_start"], document["tokens"]
    low, high = max(rest - CONTEXT, start), min(rest + CONTEXT + 1, start + count)
    dtype = np.dtype(chosen.card["dtype"])
    with run.store.open(f"{chosen.name}/{shard['name']}.bin") as file:
        file.seek(low * dtype.itemsize)
        ids = np.frombuffer(file.read((high - low) * dtype.itemsize), dtype)
    here = rest - low

    def decode(part: np.ndarray[Any, Any]) -> str:
        return str(chosen.tokenizer.decode(part.tolist(), skip_special_tokens=False))

    return {
        "split": split,
        "offset": offset,
        "shard": f"{chosen.name}/{shard['name']}.bin",
        "offset_in_shard": rest,
        "document": document["id"],
        "offset_in_document": rest - start,
        "document_tokens": count,
        "document_token_start": start,
        "url": document["url"],
        "source": document["source"],
        "path": document["path"],
        "record_offset": document["offset"],
        "token_id": int(ids[here]),
        "token": decode(ids[here : here + 1]),
        "before": decode(ids[:here]),
        "after": decode(ids[here + 1 :]),
    }


def tokens_of(run: RunFolder, document: str) -> list[dict[str, Any]]:
    """The other way round: the shards and token ranges that a document went to."""
    places = []
    for dataset in run.datasets.values():
        for split, content in dataset.splits.items():
            before = 0
            for shard in content["shards"]:
                with run.store.open(dataset.documents_table(shard["name"])) as file:
                    table = read_parquet(file, where=("id", [document]))
                places += [
                    {
                        "shard": f"{dataset.name}/{shard['name']}.bin",
                        "split": split,
                        "split_offset": before + row["token_start"],
                        "token_start": row["token_start"],
                        "tokens": row["tokens"],
                    }
                    for row in table.to_pylist()
                ]
                before += shard["tokens"]
    return places
