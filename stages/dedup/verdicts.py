"""The phases `kept` (which documents to keep), `clusters` (for each dropped one its survivor) and `verdicts`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.stages.dedup import limits
from tokenmill.stages.dedup.candidates import exact_duplicates
from tokenmill.stages.dedup.clusters import (
    FATE_SCHEMA,
    NO_RULE,
    DuplicateFates,
    PartitionFates,
    as_numpy,
    between,
    bounded_ranges,
    joined,
    near_fates,
    sliced,
    sweep,
    with_copies,
)
from tokenmill.stages.dedup.ids import first_numbers, identities, runs_of
from tokenmill.stages.dedup.lsh import numbers_of
from tokenmill.stages.dedup.verified_pairs import group_bounds
from tokenmill.stages.stage import DROPPED, KEPT, Corpus, PartitionInfo, PreviousPartition, TaskContext, Verdicts

DROPPED_BEFORE = 2
"""In `KEPT_SCHEMA`, beside 0 (kept) and 1 (dropped, for a document of this run): dropped for one of a previous run."""

LARGEST_CLUSTERS = 3
"""Of each partition, named in the metrics."""

KEPT_SCHEMA = pa.schema({"dropped": pa.uint8()})
"""A row a document of the corpus, by number."""

RULES = pa.array(
    [None, *(f"deduplicate.{rule}" for rule in ("exact", "near", "contained", "previous_run"))], pa.string()
)
"""By the numbers of `stages.dedup.clusters`."""


def write_kept(context: TaskContext, *, has_previous_runs: bool) -> None:
    """Decides on all documents of the corpus at once, those in `KEPT_SCHEMA`."""
    runs = [batch for pair in context.corpus.every("verified") for batch in context.table(*pair).to_batches()]
    ranks = [as_numpy(run, "loser_rank") for run in runs]
    dropped = np.zeros(first_numbers(context.corpus.parts)[-1], np.uint8)
    for pair in context.corpus.every("matched") if has_previous_runs else ():
        dropped[as_numpy(context.table(*pair), "document")] = DROPPED_BEFORE
    for low, high in bounded_ranges(ranks, 0, 2**63 - 1, limits.MOST_PAIRS):
        where = [between(losers, low, high) for losers in ranks]
        losers, winners = sliced(runs, where, "loser_rank"), sliced(runs, where, "winner_rank")
        order = np.argsort(losers)
        sweep(numbers_of(losers[order]), numbers_of(winners[order]), dropped)
    context.write(pa.table([pa.array(dropped)], schema=KEPT_SCHEMA), KEPT_SCHEMA)
    context.add_metrics(verified_pairs=sum(len(losers) for losers in ranks), near=int((dropped == 1).sum()))


def write_clusters(context: TaskContext) -> None:
    """Writes the fates of the group's near duplicates and of their survivors, whose copies count exact duplicates too."""
    is_dropped = as_numpy(context.table("kept", "all"), "dropped")
    verified = context.table("verified", context.task)
    dropped = joined(near_fates(batch, is_dropped) for batch in verified.to_batches())
    weights = np.ones(len(dropped.document), np.int64)
    for pair in exact_duplicates(context.corpus):
        exact = DuplicateFates.of(context.table(*pair))
        rows, are_there = exact.find(dropped.document)
        weights[are_there] += exact.copies[rows[are_there]]
    context.write(with_copies(dropped, weights).table(), FATE_SCHEMA)


def judge_partition(context: TaskContext, *, threshold: float, has_previous_runs: bool) -> None:
    """Gives the verdicts on the partition's documents."""
    corpus = context.corpus
    part = corpus.parts[int(context.task)]
    fates = _fates_of(context, part, has_previous_runs=has_previous_runs)
    for documents in context.documents(["position"]):
        positions = documents.column("position").to_numpy()
        context.judge(positions, _verdicts(fates, positions, corpus, threshold, has_previous_runs=has_previous_runs))
    most = np.argsort(-fates.copies, kind="stable")[:LARGEST_CLUSTERS]
    clusters = {f"{part.name}#{position}": int(fates.copies[position]) for position in most}
    context.add_metrics(largest_clusters={name: copies for name, copies in clusters.items() if copies > 1})


def _fates_of(context: TaskContext, part: PartitionInfo, *, has_previous_runs: bool) -> PartitionFates:
    corpus = context.corpus
    bases = first_numbers(corpus.parts)
    fates = PartitionFates(int(bases[part.number]), part.size)
    for pair in [*exact_duplicates(corpus), *corpus.every("clusters")]:
        fates.add(DuplicateFates.of(context.table(*pair)))
    bounds = group_bounds(corpus)
    for phase, group in corpus.every("clusters"):
        first, last = bounds[group]
        fates.follow(DuplicateFates.of(context.table(phase, group)), int(bases[first]), int(bases[last]))
    if has_previous_runs:
        fates.add(DuplicateFates.of(context.table("matched", context.task)))
    return fates


def _verdicts(
    fates: PartitionFates,
    positions: npt.NDArray[np.int32],
    corpus: Corpus,
    threshold: float,
    *,
    has_previous_runs: bool,
) -> Verdicts:
    parts: list[PartitionInfo | PreviousPartition] = [*corpus.parts, *corpus.previous]
    rule = fates.rule[positions]
    is_dropped = rule != NO_RULE
    similarity = fates.similarity[positions]
    survivor = fates.survivor[positions]
    measures = {"survivor": identities(parts, survivor, ~is_dropped)}
    if has_previous_runs:
        measures["survivor_run"] = runs_of(corpus, survivor, ~is_dropped)
    return Verdicts.of(
        np.where(is_dropped, DROPPED, KEPT).astype(np.uint8),
        rule=RULES.take(pa.array(rule)),
        value=similarity.astype(np.float64),
        threshold=np.full(len(rule), threshold),
        measures=measures
        | {
            "similarity": pa.array(similarity, from_pandas=True),
            "copies": pa.array(fates.copies[positions].astype(np.int32), mask=is_dropped),
        },
    )
