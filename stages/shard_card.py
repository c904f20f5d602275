"""The card of a published dataset."""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO

from model.shard_format import CARD_VERSION, fingerprint_of, token_dtype, write_card
from stages.shard_layout import SPLITS
from stages.tokenizer import TOKENIZER_FILE, end_of_text, load_tokenizer, vocabulary_size


def make_card(file: BinaryIO, tokenizer: bytes, shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Writes `dataset.json` for packed shards (name, tokens, documents, bytes, largest_id, checksum) and returns it."""
    loaded = load_tokenizer(tokenizer, TOKENIZER_FILE)
    vocabulary = vocabulary_size(loaded)
    digest = hashlib.blake2b(tokenizer, digest_size=16).hexdigest()
    splits = {}
    for split in SPLITS:
        mine = [shard for shard in shards if shard["name"].startswith(f"{split}-")]
        splits[split] = {
            **{field: sum(shard[field] for shard in mine) for field in ("tokens", "documents", "bytes")},
            "shards": mine,
        }
    card = {
        "version": CARD_VERSION,
        "tokenizer": TOKENIZER_FILE,
        "tokenizer_hash": digest,
        "dtype": token_dtype(vocabulary).name,
        "vocab_size": vocabulary,
        "end_of_text": end_of_text(loaded),
        "fingerprint": fingerprint_of(digest, [shard["checksum"] for shard in shards]),
        "splits": splits,
    }
    write_card(file, card)
    return card
