"""The phase `plan`: which documents go into which shard, decided by one task from all token counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from tokenmill.stages.stage import Corpus, TaskContext
from tokenmill.stages.tokens.layout import SPLITS, TRAIN, Place, lay_into_shards
from tokenmill.stages.tokens.shuffle import lay_shuffled

PLAN = "plan"


def plan_shards(context: TaskContext, *, tokens_per_shard: int, validation: float, shuffles: bool) -> None:
    """Puts the places of all shards into the metrics. Raises ValueError where a split has no documents."""

    def documents(split: int) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
        for part in context.corpus.parts:
            table = context.table("encode", str(part.number), ["split", "length", "key"])
            mine = table.filter(pc.equal(table.column("split"), split))
            yield mine.column("key").to_numpy(), mine.column("length").to_numpy().astype(np.int64)

    shards: list[dict[str, Any]] = []
    for number, split in enumerate(SPLITS):
        if shuffles and number == TRAIN:
            places = lay_shuffled(split, documents(number), tokens_per_shard)
        else:
            places = lay_into_shards(split, (lengths for _, lengths in documents(number)), tokens_per_shard)
        if not places:
            _check_may_be_empty(split, validation, is_sample=context.corpus.sampled)
        shards += map(asdict, places)
    context.add_metrics(shards=shards)


def _check_may_be_empty(split: str, validation: float, *, is_sample: bool) -> None:
    if split == SPLITS[TRAIN]:
        mend = "; a larger sample may hold some" if is_sample else ""
        raise ValueError(
            f"no document is left for the training split: look at the funnel for the stage that drops them{mend}"
        )
    if validation and not is_sample:
        raise ValueError(
            f"no document fell into the validation split: too few are left for a share of {validation:g}; "
            "give `validation: 0` or a larger share"
        )


def shard_places(corpus: Corpus) -> dict[str, Place]:
    """Shard name -> its place, in order."""
    return {shard["name"]: Place(**shard) for shard in corpus.metrics[PLAN][PLAN]["shards"]}


def shard_names(corpus: Corpus) -> list[str]:
    """Task keys of a phase over shards."""
    return list(shard_places(corpus))


def parts_of_shard(task: str, corpus: Corpus) -> list[tuple[str, str]]:
    """For `Phase.reads`: the plan, and the encoded partitions that have documents of the shard."""
    place = shard_places(corpus)[task]
    return [(PLAN, PLAN), *(("encode", str(number)) for number in range(place.first_part, place.last_part + 1))]
