"""What deduplication adds to a run's report: how likely it was to find a pair, the largest clusters, repeated paragraphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.stages.dedup.agreement import Agreement, Pair, agreeing_bands, measure_agreement
from tokenmill.stages.dedup.minhash import match_probability
from tokenmill.stages.report import (
    Bars,
    Chart,
    Curve,
    DocumentPair,
    Heading,
    Paragraph,
    Part,
    Points,
    Section,
    StageRun,
)

CURVE_AT = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Similarities at which the chance of a match is told."""
FLAGGED_LOSS = 0.5
"""Share of a source's documents above which their loss to duplicates is pointed out."""
REPEATS_SHOWN = 5
"""Paragraphs named, of those that most documents held."""
CLUSTERS = 10
"""Clusters shown, the largest."""
PAIRS = 2000
"""Duplicates of which the bands are looked at."""

Counts = npt.NDArray[np.int64]


def summary_lines(run: StageRun) -> list[str]:
    """How likely a pair was to be found, by its similarity, and the paragraphs that most documents held."""
    lines = []
    if (shape := _shape(run)) is not None:
        chances = (f"{at:g}: {match_probability(at, *shape):.1%}" for at in CURVE_AT)
        lines.append(
            f"{run.name}: {shape[0]} bands of {shape[1]} rows find pairs by similarity {', '.join(chances)}",
        )
    return lines + _repeated_paragraphs(run)


def summary_notices(run: StageRun) -> list[str]:
    """Sources that lose much to duplicates."""
    if _shape(run) is None:
        return []
    return [
        f"{run.name}: source {source} loses {1 - kept / entered:.0%} of its documents: look at the largest clusters"
        for source, (entered, kept) in run.sources.items()
        if entered and 1 - kept / entered > FLAGGED_LOSS
    ]


def _shape(run: StageRun) -> tuple[int, int] | None:
    """Bands and rows of the signatures; None where documents were not compared."""
    signed = next(iter(run.metrics.get("signatures", {}).values()), None)
    return None if signed is None else (signed["bands"], signed["rows"])


def _repeated_paragraphs(run: StageRun) -> list[str]:
    largest = [one for metrics in run.metrics.get("edited", {}).values() for one in metrics["largest_repeats"]]
    largest.sort(key=lambda one: (-one["documents"], one["text"]))
    return [f"{run.name}: {one['documents']:,} documents held: {one['text']}" for one in largest[:REPEATS_SHOWN]]


def paragraph_sections(run: StageRun) -> list[Section]:
    """The paragraphs that most documents held."""
    lines = _repeated_paragraphs(run)
    return [Section("Paragraphs that were repeated most", [Paragraph(line) for line in lines])] if lines else []


@dataclass
class Duplicates:
    """`largest`: (copies, id) of the documents that stand for most, `copy_of`: of each of these the id of one that it stands
    for and their similarity. `similarities`: of duplicates, in 20 bins from 0 to 1. `pairs`: by the id of a kept document its
    first duplicate that was verified; the first `PAIRS` of these."""

    largest: list[tuple[int, str]] = field(default_factory=list)
    copy_of: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    similarities: Counts = field(default_factory=lambda: np.zeros(20, np.int64))
    pairs: dict[str, Pair] = field(default_factory=dict)


def find_duplicates(run: StageRun, *, has_earlier: bool) -> Duplicates:
    """Looks through a run's ledger, twice. `has_earlier`: whether some duplicates are of documents of earlier runs."""
    found = Duplicates()
    for batch in run.ledger(["id", "copies", "similarity"]):
        _take_largest(batch, found)
        values = batch.column("similarity").drop_null().to_numpy(zero_copy_only=False)
        found.similarities += np.histogram(values, len(found.similarities), (0, 1))[0]
    names = pa.array([name for _, name in found.largest], pa.string())
    least: dict[str, tuple[float, str]] = {}
    for batch in run.ledger(["id", "survivor", "similarity", *["survivor_run"] * has_earlier]):
        if has_earlier:  # those of earlier runs are not in this ledger, and others may have their ids
            batch = batch.filter(pc.is_null(batch.column("survivor_run")))
        _take_pairs(batch, found.pairs)
        _take_least_like(batch.filter(pc.is_in(batch.column("survivor"), names)), least)
    found.copy_of = {survivor: (name, similarity or None) for survivor, (similarity, name) in least.items()}
    return found


def _take_largest(batch: pa.RecordBatch, found: Duplicates) -> None:
    copies = batch.column("copies").fill_null(0).to_numpy(zero_copy_only=False)
    least = found.largest[-1][0] if len(found.largest) == CLUSTERS else 1
    places = np.flatnonzero(copies > least)
    places = places[np.argsort(-copies[places], kind="stable")[:CLUSTERS]]
    ids = batch.column("id").take(pa.array(places)).to_pylist()
    merged = [*found.largest, *zip(copies[places].tolist(), ids, strict=True)]
    found.largest = sorted(merged, key=lambda pair: (-pair[0], pair[1]))[:CLUSTERS]


def _take_least_like(batch: pa.RecordBatch, least: dict[str, tuple[float, str]]) -> None:
    """For each survivor the duplicate that is least like it (0 where it was not measured), ties by id."""
    columns = [batch.column("survivor"), batch.column("id"), batch.column("similarity").fill_null(0)]
    ordered = pa.table(columns, names=["survivor", "id", "similarity"])
    ordered = ordered.sort_by([("similarity", "ascending"), ("id", "ascending")])
    first = ordered.group_by("survivor", use_threads=False).aggregate([("similarity", "first"), ("id", "first")])
    for row in first.to_pylist():
        candidate = row["similarity_first"], row["id_first"]
        least[row["survivor"]] = min(least.get(row["survivor"], candidate), candidate)


def _take_pairs(batch: pa.RecordBatch, into: dict[str, Pair]) -> None:
    if len(into) == PAIRS:
        return
    verified = pa.Table.from_batches([batch.filter(pc.is_valid(batch.column("similarity")))])
    first = verified.group_by("survivor", use_threads=False).aggregate([("id", "first"), ("similarity", "first")])
    for row in first.to_pylist():
        if len(into) < PAIRS:
            into.setdefault(row["survivor"], Pair(row["id_first"], row["survivor"], row["similarity_first"]))


def duplicate_sections(run: StageRun, *, has_earlier: bool) -> list[Section]:
    """The match curve over what was found, the bands that agree, and the largest clusters."""
    shape = _shape(run)
    if shape is None:
        return []
    found = find_duplicates(run, has_earlier=has_earlier)
    parts: list[Part] = []
    if found.similarities.sum():
        parts.append(match_chart(*shape, found.similarities))
    clusters = [
        DocumentPair(f"{copies:,} documents stand as one", name, *found.copy_of[name])
        for copies, name in found.largest
        if name in found.copy_of
    ]
    if not parts and not clusters:
        return []
    parts += [Paragraph(line, is_soft=True) for line in summary_lines(run)]
    agreement = measure_agreement(run, *shape, list(found.pairs.values()))
    if agreement is not None:
        parts += agreement_parts(agreement)
    return [Section("Duplicates", [*parts, *clusters])]


def match_chart(bands: int, rows: int, similarities: Counts) -> Chart:
    """The share of pairs that bands find by their similarity, and the similarities of the duplicates that were found."""
    at = np.linspace(0, 1, 101)
    return Chart(
        "similarity",
        "share",
        1.05,
        [
            Bars(
                "duplicates, of the fullest bar",
                np.linspace(0, 1, len(similarities) + 1).tolist(),
                (similarities / similarities.max()).tolist(),
            ),
            Curve(
                f"chance to be found: 1 - (1 - s^{rows})^{bands}",
                at.tolist(),
                [match_probability(float(value), bands, rows) for value in at],
            ),
        ],
    )


def agreement_parts(measured: Agreement) -> Sequence[Part]:
    """Bands that agree in the pairs that were found, by similarity: the means measured, over the mean that theory has."""
    bands, rows, every = measured.bands, measured.rows, measured.all()
    bins = measured.bins()
    at = np.linspace(min(0.5, bins[0].similarity), 1, 201)
    curve = Curve(
        f"theory: {bands} s^{rows} / (1 - (1 - s^{rows})^{bands})",
        at.tolist(),
        agreeing_bands(at, bands, rows)[0].tolist(),
    )
    points = Points(
        "measured, with two standard errors",
        [one.similarity for one in bins],
        [one.agreeing for one in bins],
        [2 * one.error for one in bins],
        {"pairs": ("0,0", [one.pairs for one in bins])},
    )
    pairs = "pair" if every.pairs == 1 else "pairs"
    return [
        Heading("Theory against what was measured"),
        Chart("similarity", "bands that agree", bands + 0.5, [curve, points]),
        Paragraph(
            f"A pair is found where one of the {bands} bands agrees, or more. The pairs that none finds cannot be counted, but "
            "in those that were found it can be seen how many bands agree: if each does with chance "
            f"s^{rows}, as theory has it, then on average {bands} s^{rows} / (1 - (1 - s^{rows})^{bands}) of them, which is "
            "the line. The points are means measured, by similarity in steps of 0.02, in "
            f"{every.pairs:,} {pairs} of a dropped document and the one that is kept for it, one pair for each kept document. "
            "The bars are two standard errors either way, taken from how much the bands differ: pairs of one template are not "
            "independent."
        ),
        Paragraph(
            f"In all {every.agreeing:.2f} bands agree in a pair; theory has {every.expected:.2f}, and the standard error is "
            f"{every.error:.2f}."
        ),
    ]
