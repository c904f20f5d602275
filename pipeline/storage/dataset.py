"""A dataset that a run has published: shards, their documents tables, the tokenizer and the card."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokenmill.model.data.shard_format import CARD_FILE, check_card
from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.storage.store import Store

if TYPE_CHECKING:  # it takes long to import, and few commands need it
    from tokenizers import Tokenizer


def documents_table(shard: str) -> str:
    """The name of a shard's documents table."""
    split, _, number = shard.rpartition("-")
    return f"{split}-documents-{number}.parquet"


class Dataset:
    """The dataset that a stage published into its folder of the run, which has the stage's name."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name

    @cached_property
    def card(self) -> dict[str, Any]:
        """Its card. Raises `RunError` where it is broken."""
        card = self.store.read_json(f"{self.name}/{CARD_FILE}")
        try:
            check_card(card, f"{self.name}/{CARD_FILE}")
        except ValueError as error:
            raise RunError(f"{error}; run `tokenmill verify`") from error
        return dict(card)

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """By name what the card says of each split: tokens, documents, bytes, shards and more."""
        return dict(self.card["splits"])

    @property
    def tokens(self) -> int:
        """Tokens of all splits."""
        return sum(split["tokens"] for split in self.splits.values())

    @cached_property
    def tokenizer_file(self) -> bytes:
        """The content of its `tokenizer.json`."""
        with self.store.open(f"{self.name}/{self.card['tokenizer']}") as file:
            return file.read()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer. Raises `RunError` where it is broken."""
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_buffer(self.tokenizer_file)
        except Exception as error:  # tokenizers raises bare Exception
            where = f"{self.name}/{self.card['tokenizer']}"
            raise RunError(f"{where} is not a tokenizer of the tokenizers library: {error}") from error

    def documents_table(self, shard: str) -> str:
        """Where the documents table of a shard lies in the run."""
        return f"{self.name}/{documents_table(shard)}"

    def documents_tables(self) -> list[str]:
        """The documents tables of all shards."""
        return [self.documents_table(shard["name"]) for split in self.splits.values() for shard in split["shards"]]
