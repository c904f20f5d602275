"""What stages say of a run in few words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa

from tokenmill.stages.dedup.stage import Deduplicate
from tokenmill.stages.report import StageRun
from tokenmill.stages.stage import Stage
from tokenmill.stages.tokens.stage import Shards
from tokenmill.stages.tokens.tokenizer import TrainedTokenizer


@dataclass
class ShownRun:
    """`StageRun` as told, without a ledger."""

    name: str
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]
    sources: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def ledger(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """See `StageRun`."""
        yield from ()

    def table(self, phase: str, partition: str, columns: Sequence[str]) -> pa.Table | None:
        """See `StageRun`."""

    def file(self, name: str) -> BinaryIO | None:
        """See `StageRun`."""


def notices(stage: Stage, run: StageRun) -> list[str]:
    return list(stage.summary(run).notices)


def test_a_vocabulary_that_came_out_smaller() -> None:
    metrics = {"train": {"tokenizer": {"vocabulary": 1200, "vocabulary_asked": 32768}}}
    said = ["words: has 1,200 tokens, not 32,768: there is too little text for more"]
    assert notices(TrainedTokenizer(), ShownRun("words", metrics)) == said
    metrics["train"]["tokenizer"]["vocabulary"] = 32768
    assert notices(TrainedTokenizer(), ShownRun("words", metrics)) == []
    assert notices(TrainedTokenizer(), ShownRun("words", {})) == []


def test_a_slow_encoder_and_an_empty_split() -> None:
    card = {"card": {"splits": {"train": {"documents": 3}, "validation": {"documents": 0}}}}
    encoded: dict[str, dict[str, Any]] = {"a": {"encoder_reason": None}, "b": {"encoder_reason": "it normalizes"}}
    said = [
        "shard: encoded with tokenizers, which is slower: it normalizes",
        "shard: the validation split is empty",
    ]
    assert notices(Shards(), ShownRun("shard", {"encode": encoded, "card": {"card": card}})) == said
    assert notices(Shards(), ShownRun("shard", {"encode": {"a": {"encoder_reason": None}}})) == []


def test_sources_that_lose_much_to_duplicates() -> None:
    metrics = {"signatures": {"p": {"bands": 14, "rows": 8}}}
    run = ShownRun("dedup", metrics, {"one": (10, 4), "two": (10, 5), "none": (0, 0)})
    said = Deduplicate().summary(run)
    assert list(said.notices) == ["dedup: source one loses 60% of its documents: look at the largest clusters"]
    assert said.lines[0].startswith("dedup: 14 bands of 8 rows find pairs by similarity 0.5: 5.3%")
    assert Deduplicate().report_sections(run) == []
    assert Deduplicate().summary(ShownRun("dedup", {}, {"one": (10, 4)})).notices == []
