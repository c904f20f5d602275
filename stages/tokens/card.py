"""The phase `card`: what the published dataset holds, and whether a trainer could learn from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from tokenizers import Tokenizer

from tokenmill.model.data.shard_format import CARD_VERSION, fingerprint_of, token_dtype, write_card
from tokenmill.stages.stage import TaskContext
from tokenmill.stages.tokens.layout import SPLITS, TRAIN
from tokenmill.stages.tokens.tokenizer import TOKENIZER_FILE, end_of_text, load_tokenizer, vocabulary_size

OCCURRENCES = pa.schema({"token": pa.int32(), "count": pa.int64()})
"""How often each token that occurs is in a shard."""

DEGENERATE_ENTROPY = 1.0
"""Bits a token, by unigrams, below which a split is an error. English by GPT-2's tokenizer has about 10; by characters 4."""
DEGENERATE_UNKNOWN = 0.5
"""Share of unknown tokens above which a split is an error."""

Counts = npt.NDArray[np.int64]


def publish_card(context: TaskContext, *, shuffles: bool) -> None:
    """Publishes `tokenizer.json` and `dataset.json`. Raises ValueError for a split from which nothing can be learned.

    `shuffles`: whether the training split is in shuffled order.
    """
    with context.artifact(TOKENIZER_FILE) as file:
        content = file.read()
    tokenizer = load_tokenizer(content, TOKENIZER_FILE)
    unknown = unknown_token(tokenizer, content)
    packed = context.corpus.metrics["pack"]
    splits = {}
    for number, split in enumerate(SPLITS):
        names = [name for name in packed if is_in_split(name, split)]
        splits[split] = {
            **describe_split(tokenizer, unknown, [context.table("pack", name) for name in names]),
            "order": "shuffled" if shuffles and number == TRAIN else "by source",
            "sources": summed_sources(packed[name]["sources"] for name in names),
        }
    check_splits(splits)
    with context.create(TOKENIZER_FILE) as file:
        file.write(content)
    shards = [task["shard"] for task in packed.values()]
    encoded = context.corpus.metrics["encode"].values()
    with context.create("dataset.json") as file:
        card = make_card(file, tokenizer, content, shards, splits, encoded, context.fingerprint)
    context.add_metrics(card=card)


def added(one: Counts, other: Counts) -> Counts:
    """The sum of counts by token id, each as long as its largest id asks for."""
    total = np.zeros(max(len(one), len(other)), np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


def as_table(counts: Counts) -> pa.Table:
    """Counts by token id as rows of `OCCURRENCES`."""
    tokens = np.flatnonzero(counts)
    return pa.table([pa.array(tokens, pa.int32()), pa.array(counts[tokens])], schema=OCCURRENCES)


def is_in_split(shard: str, split: str) -> bool:
    """Whether a shard of this name is of the split."""
    return shard.rpartition("-")[0] == split


def unknown_token(tokenizer: Tokenizer, content: bytes) -> int | None:
    """The id of the unknown token of a tokenizer and its `tokenizer.json`; None where it has none, as those by bytes."""
    name = orjson.loads(content)["model"].get("unk_token")
    return tokenizer.token_to_id(name) if name else None


def describe_split(tokenizer: Tokenizer, unknown: int | None, occurrences: Iterable[pa.Table]) -> dict[str, Any]:
    """What a trainer wants to know of a split's tokens; `occurrences`: `OCCURRENCES` of each shard.

    `entropy`: of the unigrams, bits a token: the loss of a model that knows nothing but frequencies. `most_frequent`: `id`,
    `token` and `share` (0 to 1). `unknown_share`: of the tokenizer's unknown token; None where it has none. All None where
    the split is empty.
    """
    counts = np.zeros(0, np.int64)
    for table in occurrences:
        mine = np.zeros(int(table.column("token")[-1].as_py()) + 1, np.int64)
        mine[table.column("token").to_numpy()] = table.column("count").to_numpy()
        counts = added(counts, mine)
    total = int(counts.sum())
    if not total:
        return {"entropy": None, "most_frequent": None, "unknown_share": None}
    shares = counts[counts > 0] / total
    first = int(counts.argmax())
    unknown_count = None if unknown is None else int(counts[unknown]) if unknown < len(counts) else 0
    return {
        "entropy": round(float(-(shares * np.log2(shares)).sum()), 4),
        "most_frequent": {
            "id": first,
            "token": tokenizer.decode([first], skip_special_tokens=False),
            "share": round(int(counts[first]) / total, 6),
        },
        "unknown_share": None if unknown_count is None else round(unknown_count / total, 6),
    }


def counted_by_source(documents: pa.Table) -> dict[str, dict[str, int]]:
    """Of each source in a shard's documents table, in the order in which they begin: `tokens`, `documents`, `bytes`."""
    sums = documents.group_by("source", use_threads=False).aggregate(
        [("tokens", "sum"), ("tokens", "count"), ("bytes", "sum")]
    )
    return {
        row["source"]: {"tokens": row["tokens_sum"], "documents": row["tokens_count"], "bytes": row["bytes_sum"]}
        for row in sums.to_pylist()
    }


def summed_sources(shards: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """The sums of what `counted_by_source` gives for shards."""
    total: dict[str, dict[str, int]] = {}
    for sources in shards:
        for name, counts in sources.items():
            before = total.setdefault(name, dict.fromkeys(counts, 0))
            total[name] = {field: before[field] + count for field, count in counts.items()}
    return total


def check_splits(splits: dict[str, dict[str, Any]]) -> None:
    """Raises ValueError where a split holds nothing to learn."""
    for split, described in splits.items():
        if described["entropy"] is None:
            continue
        frequent = described["most_frequent"]
        if described["entropy"] < DEGENERATE_ENTROPY:
            raise ValueError(
                f"the {split} split holds next to nothing to learn: its tokens have {described['entropy']:.2f} bits of "
                f"entropy, and {frequent['share']:.0%} of them are {frequent['token']!r}; look at the texts that reach the "
                "shard stage"
            )
        if (described["unknown_share"] or 0) > DEGENERATE_UNKNOWN:
            raise ValueError(
                f"{described['unknown_share']:.0%} of the tokens of the {split} split are unknown to the tokenizer: it was "
                "made for other texts; train one on these, or take one that works by bytes"
            )


def make_card(
    file: BinaryIO,
    tokenizer: Tokenizer,
    content: bytes,
    shards: list[dict[str, Any]],
    described: dict[str, dict[str, Any]],
    encoded: Iterable[Mapping[str, Any]],
    inputs: str,
) -> dict[str, Any]:
    """Writes `dataset.json` and returns it.

    `content`: the tokenizer's `tokenizer.json`; `shards`: of each packed shard name, tokens, documents, bytes, largest_id,
    checksum; `described`: split -> what `describe_split` gives, its order and its sources; `encoded`: the metrics of the tasks
    that encoded, each with `round_trip`; `inputs`: fingerprint of all inputs of the shards and their card.
    """
    vocabulary = vocabulary_size(tokenizer)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    splits = {}
    for split in SPLITS:
        mine = [shard for shard in shards if is_in_split(shard["name"], split)]
        splits[split] = {
            **{field: sum(shard[field] for shard in mine) for field in ("tokens", "documents", "bytes")},
            **described[split],
            "shards": mine,
        }
    trips = [task["round_trip"] for task in encoded]
    card = {
        "version": CARD_VERSION,
        "tokenizer": TOKENIZER_FILE,
        "tokenizer_hash": digest,
        "dtype": token_dtype(vocabulary).name,
        "vocab_size": vocabulary,
        "end_of_text": end_of_text(tokenizer),
        "fingerprint": fingerprint_of(digest, [shard["checksum"] for shard in shards]),
        "inputs": inputs,
        "round_trip": {field: sum(trip[field] for trip in trips) for field in ("documents", "exact")},
        "splits": splits,
    }
    write_card(file, card)
    return card
