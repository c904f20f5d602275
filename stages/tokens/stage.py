"""Tokens into shards: `.bin` and `.idx` pairs with their documents table and the dataset's card.

Each partition's documents become ids and lengths; one task lays documents into shards, in canonical order or shuffled; a
task a shard copies its tokens together; one writes the card. A document is never cut: a shard closes before the document
that would take it over `tokens_per_shard`, so every shard but the last is full to within a document, and a document longer
than that has a shard of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tokenmill.stages.report import Section, StageRun, StageSummary
from tokenmill.stages.stage import CorpusStage, Phase, reads_every
from tokenmill.stages.tokens.card import publish_card
from tokenmill.stages.tokens.encoded import write_encoded
from tokenmill.stages.tokens.pack import pack_shard
from tokenmill.stages.tokens.plan import PLAN, parts_of_shard, plan_shards, shard_names
from tokenmill.stages.tokens.report import shards_section


class Shards(CorpusStage):
    """Publishes shards, their document tables, `tokenizer.json` and `dataset.json`.

    Ledger: `tokens`, `split`, and with `rehydrate` `times_written`.
    """

    version: ClassVar[int] = 3
    artifact_from: ClassVar[str | None] = "tokenizer"
    keeps_all: ClassVar[bool] = True
    is_end: ClassVar[bool] = True
    tokens_measure: ClassVar[str | None] = "tokens"

    tokens_per_shard: int = Field(
        100_000_000, ge=1, description="Tokens that a shard holds at most, document ends included."
    )
    validation: float = Field(
        0.005, ge=0, lt=1, description="Share of documents in the validation split (0 to 1), chosen by document hash."
    )
    shuffle: Literal["none", "documents"] = Field(
        "none",
        description="none: documents in the order of their sources; documents: in an order by a hash of each, over the whole "
        "corpus (validation stays in order, by source). On an object store shuffling reads all tokens once a shard.",
    )
    rehydrate: dict[int, int] | None = Field(
        None,
        description="How often a training document is written, by its `copies` (the documents that it is kept for after "
        "deduplicate): from so many copies on, so many times. FineWeb-2's table is {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}. "
        "Needs `shuffle: documents`, so that copies do not stand beside each other.",
    )
    tokenizer: str | None = Field(
        None, description="The tokenizer stage or tokenizer.json to encode with; default: the nearest stage above."
    )

    @model_validator(mode="after")
    def _can_rehydrate(self) -> Shards:
        if self.rehydrate is None:
            return self
        if min(self.rehydrate, default=0) != 1 or min(self.rehydrate.values()) < 1:
            raise ValueError("rehydrate: begin with 1 copy, and write each document once at least")
        if self.shuffle != "documents":
            raise ValueError("rehydrate: needs `shuffle: documents`, or copies would stand beside each other")
        return self

    def columns_needed(self) -> Sequence[str]:
        """See `Stage`."""
        return ("text",) if self.rehydrate is None else ("text", "copies")

    def phases(self) -> Sequence[Phase]:
        """See `CorpusStage`."""
        shuffles = self.shuffle == "documents"
        encode = partial(write_encoded, validation=self.validation, upsampling=self.rehydrate, shuffles=shuffles)
        plan = partial(
            plan_shards, tokens_per_shard=self.tokens_per_shard, validation=self.validation, shuffles=shuffles
        )
        return (
            Phase("encode", encode, reads_documents=True, judges=True),
            Phase(PLAN, plan, keys=lambda corpus: (PLAN,), reads=reads_every("encode")),
            Phase(
                "pack", partial(pack_shard, shuffles=shuffles), keys=shard_names, reads=parts_of_shard, publishes=True
            ),
            Phase(
                "card",
                partial(publish_card, shuffles=shuffles),
                keys=lambda corpus: ("card",),
                reads=reads_every(PLAN, "pack"),
                publishes=True,
            ),
        )

    def summary(self, run: StageRun) -> StageSummary:
        """See `Stage`."""
        reasons = {metrics["encoder_reason"] for metrics in run.metrics.get("encode", {}).values()}
        slow = sorted(filter(None, reasons))
        notices = [f"{run.name}: encoded with tokenizers, which is slower: {reason}" for reason in slow]
        for metrics in run.metrics.get("card", {}).values():
            splits = metrics["card"]["splits"].items()
            notices += [f"{run.name}: the {name} split is empty" for name, split in splits if not split["documents"]]
        return StageSummary(notices=notices)

    def report_sections(self, run: StageRun) -> Sequence[Section]:
        """See `Stage`."""
        return [shards_section(metrics["card"], run) for metrics in run.metrics.get("card", {}).values()]
