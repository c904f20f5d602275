"""A deterministic sample of a run's input, to try a config in seconds: the heads of a few partitions.

Which partitions is decided by their names, how much of each by `RunConfig.sample` and their number, so the sample is the same
with any number of workers. It is made of the heads of files: where their order means something, it stands for their beginnings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import zip_longest

import numpy as np
import pyarrow as pa

from tokenmill.pipeline.graph.partitions import Partition
from tokenmill.stages.stage import KEPT, Verdicts

SAMPLED_PARTITIONS = 16
"""Partitions that a sample is taken from, at most; one of each source where there are more sources."""


def sampled(partitions: Sequence[Partition]) -> list[Partition]:
    """The partitions of a sample, in canonical order: those of each source by a hash of their names, a first one of every
    source, then a second, and so on."""
    queues: dict[str, list[Partition]] = {}
    for partition in sorted(partitions, key=lambda one: hashlib.blake2b(one.name.encode(), digest_size=16).digest()):
        queues.setdefault(partition.source, []).append(partition)
    in_turn = [one for turn in zip_longest(*(queues[name] for name in sorted(queues))) for one in turn if one]
    return sorted(in_turn[: max(SAMPLED_PARTITIONS, len(queues))], key=lambda one: one.order)


def share(documents: int, partitions: int) -> int:
    """Documents of each partition, for a sample of so many."""
    return -(-documents // partitions)


def head(documents: pa.RecordBatch, verdicts: Verdicts, kept: int) -> tuple[pa.RecordBatch, Verdicts]:
    """A batch of records as read, up to its `kept`-th document that reading keeps; whole where it has fewer."""
    places = np.flatnonzero(verdicts.fate == KEPT)
    if len(places) < kept:
        return documents, verdicts
    end = int(places[kept - 1]) + 1
    columns = {
        field.name: getattr(verdicts, field.name)[:end] for field in fields(verdicts) if field.name != "measures"
    }
    measures = {name: column[:end] for name, column in verdicts.measures.items()}
    return documents.slice(0, end), replace(verdicts, **columns, measures=measures)
