"""What the shard stage adds to a run's page."""

from __future__ import annotations

import json
from typing import Any

from tokenmill.stages.report import Paragraph, Part, Section, Snippets, StageRun, Table
from tokenmill.stages.tokens.tokenizer import TOKENIZER_FILE, load_tokenizer

LONGEST_TOKENS = 12
"""Tokens shown."""


def shards_section(card: dict[str, Any], run: StageRun) -> Section:
    """The splits, their sources, the longest tokens and what identifies the dataset, by its card."""
    parts: list[Part] = [_splits(card["splits"]), _sources(card["splits"])]
    if (file := run.file(TOKENIZER_FILE)) is not None:
        with file:
            parts.append(Snippets("Longest tokens:", _longest_tokens(file.read(), card["vocab_size"])))
    made = f"dataset {card['fingerprint']}, inputs {card['inputs']}, tokenizer {card['tokenizer_hash']}"
    parts.append(Paragraph(f"Vocabulary {card['vocab_size']:,}, {card['dtype']}; {made}.", is_soft=True))
    return Section("Shards", parts)


def _splits(splits: dict[str, dict[str, Any]]) -> Table:
    numeric = ("documents", "tokens", "bytes a token", "entropy", "shards")
    columns = ("split", "documents", "tokens", "bytes a token", "entropy", "most frequent token", "shards", "order")
    rows = [
        (
            name,
            split["documents"],
            split["tokens"],
            f"{split['bytes'] / split['tokens']:.3f}" if split["tokens"] else None,
            None if split["entropy"] is None else f"{split['entropy']:.2f} bits",
            _frequent(split["most_frequent"]),
            len(split["shards"]),
            split["order"],
        )
        for name, split in splits.items()
    ]
    return Table(columns, rows, numeric)


def _frequent(token: dict[str, Any] | None) -> str | None:
    return None if token is None else f"{json.dumps(token['token'], ensure_ascii=False)} {token['share']:.2%}"


def _sources(splits: dict[str, dict[str, Any]]) -> Table:
    rows = [
        (source, name, counts["documents"], counts["tokens"])
        for name, split in splits.items()
        for source, counts in split["sources"].items()
    ]
    return Table(("source", "split", "documents", "tokens"), rows, ("documents", "tokens"))


def _longest_tokens(content: bytes, vocabulary: int) -> list[str]:
    """The tokens of most characters, decoded, ties by id."""
    tokenizer = load_tokenizer(content, TOKENIZER_FILE)
    decoded = tokenizer.decode_batch([[number] for number in range(vocabulary)], skip_special_tokens=True)
    return sorted(decoded, key=len, reverse=True)[:LONGEST_TOKENS]
