"""From a token to where it came from."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from tokenmill.pipeline.errors import ConfigError, nearest
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.run_folder import choose_dataset, dataset_nodes, documents_table, read_dataset_card
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.tokens.tokenizer import load_tokenizer

CONTEXT = 24
"""Tokens shown on each side."""


def locate(store: Store, split: str, offset: int, dataset: str | None = None) -> dict[str, Any]:
    """The place of the `offset`th token of a split: shard, document, source, and the text around it.

    Raises `ConfigError` for a split, dataset or offset that is not there.
    """
    node = choose_dataset(store, dataset)
    card = read_dataset_card(store, node)
    if split not in card["splits"]:
        raise ConfigError(f"{node} has no split {split!r}; {nearest(split, card['splits'])}")
    tokens = card["splits"][split]["tokens"]
    if offset >= tokens:
        raise ConfigError(f"the split {split!r} has {tokens:,} tokens, so the last offset is {tokens - 1:,}")
    rest = offset
    for shard in card["splits"][split]["shards"]:
        if rest < shard["tokens"]:
            break
        rest -= shard["tokens"]
    with store.open(documents_table(node, shard["name"])) as file:
        table = read_parquet(file)
    row = int(np.searchsorted(table.column("token_start").to_numpy(), rest, "right")) - 1
    document = table.slice(row, 1).to_pylist()[0]
    start, count = document["token_start"], document["tokens"]
    low, high = max(rest - CONTEXT, start), min(rest + CONTEXT + 1, start + count)
    dtype = np.dtype(card["dtype"])
    with store.open(f"{node}/{shard['name']}.bin") as file:
        file.seek(low * dtype.itemsize)
        ids = np.frombuffer(file.read((high - low) * dtype.itemsize), dtype)
    with store.open(f"{node}/tokenizer.json") as file:
        tokenizer = load_tokenizer(file.read(), "tokenizer.json")
    here = rest - low

    def decode(part: np.ndarray[Any, Any]) -> str:
        return str(tokenizer.decode(part.tolist(), skip_special_tokens=False))

    return {
        "split": split,
        "offset": offset,
        "shard": f"{node}/{shard['name']}.bin",
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


def tokens_of(store: Store, document: str) -> list[dict[str, Any]]:
    """The other way round: the shards and token ranges that a document went to."""
    places = []
    for node in dataset_nodes(store):
        for split, content in store.read_json(f"{node}/dataset.json")["splits"].items():
            before = 0
            for shard in content["shards"]:
                with store.open(documents_table(node, shard["name"])) as file:
                    table = read_parquet(file, where=("id", [document]))
                places += [
                    {
                        "shard": f"{node}/{shard['name']}.bin",
                        "split": split,
                        "split_offset": before + row["token_start"],
                        "token_start": row["token_start"],
                        "tokens": row["tokens"],
                    }
                    for row in table.to_pylist()
                ]
                before += shard["tokens"]
    return places


def print_place(console: Console, place: dict[str, Any]) -> None:
    """A place, for people; the token stands out in its text."""
    for name in ("shard", "offset_in_shard", "document", "url", "source", "path", "record_offset"):
        console.print(f"[bold]{name.replace('_', ' '):16}[/] {escape(str(place[name]))}", highlight=False)
    within = f"token {place['offset_in_document']:,} of {place['document_tokens']:,}, id {place['token_id']}"
    console.print(f"[bold]{'in the document':16}[/] {within}", highlight=False)
    token = place["token"].replace("\n", "\\n") if place["token"].isspace() else place["token"]
    console.print(
        f"\n{escape(place['before'])}[reverse]{escape(token)}[/reverse]{escape(place['after'])}", highlight=False
    )
