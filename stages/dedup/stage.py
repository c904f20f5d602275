"""Deduplication: exact by a digest of the normalized text, near by MinHash and LSH, verified, without chains.

Broder 1997 ("On the resemblance and containment of documents") for shingles and MinHash; bands as in Leskovec, Rajaraman,
Ullman, chapter 3. A candidate is verified by the exact Jaccard similarity of the two shingle sets (or because the loser is
contained in the winner, see `stages.dedup.verify.verify`); then, by priority, a document goes only if it matches one that
stays.

Memory of a task, whatever the corpus:

* `signatures`, `verdicts`: a batch of documents; 30 bytes a document of the partition;
* `candidates`: about 60 bytes a document whose key lies in its range, `RANGE_DOCUMENTS` at most on average;
* `sets`, `verified`: `SET_BATCH` and `GROUP_SHINGLES` shingles of 4 bytes, `MOST_PAIRS` pairs of about 150 bytes;
* `kept`, the one task that sees the corpus: one byte a document and `MOST_PAIRS` pairs, so 10 billion documents in 10 GB;
* `survivors`: one byte a document, memory-mapped where the store is local, and 100 bytes a document of its group that goes;
* `against`, `matched`: 40 bytes a document of this or an earlier run whose key lies in its range; `MOST_PAIRS` pairs.

A band's column is read once for each key range: beyond some billion documents that, not the text, would be most of the work.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from tokenmill.stages.dedup.clusters import (
    FATE_SCHEMA,
    NEAR,
    STAYS,
    DuplicateFates,
    PartitionFates,
    as_numpy,
    between,
    exact_fates,
    joined,
    near_fates,
    sliced,
    sweep,
    thresholds,
    with_copies,
)
from tokenmill.stages.dedup.group_by_key import Numbers
from tokenmill.stages.dedup.ids import (
    band_column,
    band_tasks,
    first_numbers,
    identities,
    key_ranges,
    runs_of,
    shared_in_range,
)
from tokenmill.stages.dedup.lsh import PEERS, distinct, exact_pairs, near_pairs, numbers_of, ranks_of
from tokenmill.stages.dedup.minhash import band_keys, choose_bands, match_probability, signatures
from tokenmill.stages.dedup.paragraphs import ParagraphRepeats
from tokenmill.stages.dedup.previous_runs import EarlierMatches, sketches
from tokenmill.stages.dedup.report import duplicate_sections, paragraph_sections, summary_lines, summary_notices
from tokenmill.stages.dedup.verify import Verifier, verify
from tokenmill.stages.report import Section, StageRun, StageSummary
from tokenmill.stages.stage import (
    DROPPED,
    KEPT,
    Corpus,
    CorpusStage,
    PartitionInfo,
    Phase,
    PreviousPartition,
    TaskContext,
    Verdicts,
)
from tokenmill.stages.text.shingles import shingle_sets, shingles

RANGE_DOCUMENTS = 16_000_000
"""Documents whose keys of one band one task sorts; beyond, the key space is cut into ranges."""

SET_BATCH = 16_000_000
"""Shingles of sets written as one batch."""

GROUP_SHINGLES = 64_000_000
"""Shingles, and 16 a document, of the sets whose candidate pairs one task verifies (or of one partition that has more)."""

MOST_PAIRS = 8_000_000
"""Pairs held at once."""

GONE_EARLIER = 2
"""In `KEPT_SCHEMA`, beside 0 (stays) and 1 (goes for a document of this run): goes for one of an earlier run."""

LARGEST_CLUSTERS = 3
"""Of each partition, named in the notes."""

PAIR_SCHEMA = pa.schema(dict.fromkeys(("loser", "loser_rank", "winner_rank"), pa.int64()))
"""`loser`: number of the document that would go, ascending."""
VERIFIED_SCHEMA = pa.schema(
    {"loser_rank": pa.int64(), "winner_rank": pa.int64(), "similarity": pa.float32(), "rule": pa.uint8()}
)
"""Each batch ascending by ranks, batches ascending by the losers' numbers. `similarity`: NaN where not verified."""
SET_SCHEMA = pa.schema({"position": pa.int32(), "shingles": pa.list_(pa.uint32())})
KEPT_SCHEMA = pa.schema({"dropped": pa.uint8()})

RULES = pa.array([None, *(f"deduplicate.{rule}" for rule in ("exact", "near", "contained", "earlier"))], pa.string())
"""By the numbers of `stages.dedup.clusters`."""


class Deduplicate(CorpusStage):
    """Drops duplicates corpus-wide.

    Rules: `deduplicate.exact`, `deduplicate.near` (value: exact Jaccard similarity), `deduplicate.contained`; with `against:`
    `deduplicate.earlier` (value: similarity estimated from signatures, see `previous_runs`; exact copies have 1). Ledger:
    `survivor` (id of the document that stands for a dropped one), `survivor_run` (with `against:`; the run that this is an
    id of, null for this one), `similarity` (of the two; null where not verified), `copies` (how many documents of this run
    one that stays stands for, itself included). A document without words matches nothing.

    `scope: paragraph` instead takes paragraphs out, see `dedup.paragraphs`. Rule: `deduplicate.paragraphs` (nothing is left;
    value: paragraphs taken out). Ledger: `repeated_paragraphs`, `repeated_bytes` (taken out), `repeated_from` (id of the
    document that keeps the first of them).
    """

    version: ClassVar[int] = 3
    adds: ClassVar[tuple[str, ...]] = ("copies",)
    index: ClassVar[str | None] = "signatures"
    refers_to: ClassVar[tuple[str, ...]] = ("survivor", "repeated_from")

    scope: Literal["document", "paragraph"] = Field(
        "document",
        description="What is compared: whole documents, or their paragraphs (lines): one that several documents hold stays in "
        "the first of them and is taken out of the others. For paragraphs `min_words` and `min_documents` count, nothing else.",
    )
    min_words: int = Field(5, ge=1, description="scope: paragraph: words of a paragraph that is looked at; fewer stay.")
    min_documents: int = Field(
        2, ge=2, description="scope: paragraph: documents that must hold it to make it a repeat."
    )
    similarity: float = Field(0.8, gt=0, le=1, description="Least Jaccard similarity of shingle sets (0 to 1).")
    ngram: int = Field(5, ge=1, le=1000, description="Words in a shingle.")
    bands: int | None = Field(None, ge=1, description="Bands of the signature; default: chosen by `similarity`.")
    rows: int | None = Field(None, ge=1, description="MinHash values in a band; default: chosen by `similarity`.")
    seed: int = Field(1, ge=0, lt=2**32, description="Seed of datasketch's permutations.")
    keep: Literal["longest", "first", "newest"] = Field(
        "longest",
        description="Which of two duplicates stays: the one of more bytes, the first in canonical order, or the one of the "
        "later date (to the minute; a document without a date counts as the oldest). Of equals the first stays.",
    )
    verify: bool = Field(
        True, description="Check each candidate pair by its exact similarity; false takes all as they are."
    )
    against: list[str] = Field(
        [],
        description="Folders of earlier runs: what one of them kept is not kept again. They must have a deduplicate stage of "
        "the same ngram, seed, bands and rows; only its signatures are read.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Deduplicate:
        if (self.bands is None) != (self.rows is None):
            raise ValueError("give both bands and rows, or neither")
        of_paragraphs = {"min_words", "min_documents"}
        for key, field in type(self).model_fields.items():
            is_of_other = (key in of_paragraphs) != (self.scope == "paragraph")
            if key != "scope" and is_of_other and getattr(self, key) != field.get_default():
                raise ValueError(f"{key} is not for scope: {self.scope}")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Bands and rows."""
        if self.bands is not None and self.rows is not None:
            return self.bands, self.rows
        return choose_bands(self.similarity)

    def previous_runs(self) -> Sequence[str]:
        """See `CorpusStage`."""
        return self.against

    def incompatibility(self, earlier: Self) -> str | None:
        """See `CorpusStage`."""
        mine, theirs = (
            f"ngram {stage.ngram}, seed {stage.seed}, {stage.shape[0]} bands x {stage.shape[1]} rows"
            for stage in (self, earlier)
        )
        return None if mine == theirs else f"its signatures have {theirs}, this stage's {mine}"

    def phases(self) -> Sequence[Phase]:
        """See `CorpusStage`."""
        if self.scope == "paragraph":
            return ParagraphRepeats(self.min_words, self.min_documents).phases()

        def pairs_and_sets(task: str, corpus: Corpus) -> list[tuple[str, str]]:
            return _near_bands(corpus) + corpus.every("sets")

        def pairs_of_group(task: str, corpus: Corpus) -> list[tuple[str, str]]:
            return [("kept", "all"), ("verified", task), *_exact(corpus)]

        def fates(task: str, corpus: Corpus) -> list[tuple[str, str]]:
            return _exact(corpus) + corpus.every("survivors") + ([("matched", task)] if self.against else [])

        def matches_and_verified(task: str, corpus: Corpus) -> list[tuple[str, str]]:
            return corpus.every("verified") + (corpus.every("matched") if self.against else [])

        def every(phase: str) -> Callable[[str, Corpus], list[tuple[str, str]]]:
            return lambda task, corpus: corpus.every(phase)

        def near_bands(task: str, corpus: Corpus) -> list[tuple[str, str]]:
            return _near_bands(corpus)

        bounds = (RANGE_DOCUMENTS, MOST_PAIRS)
        earlier = EarlierMatches(self.shape[0], self.similarity if self.verify else None, *bounds)
        return (
            Phase("signatures", self._signatures, reads_documents=True),
            *(earlier.phases() if self.against else ()),
            Phase("candidates", self._candidates, keys=self._bands_and_ranges, reads=every("signatures")),
            Phase("sets", self._sets, reads=near_bands, reads_documents=True, uses_corpus=True),
            Phase("verified", self._verified, keys=_groups, reads=pairs_and_sets),
            Phase("kept", self._kept, keys=lambda corpus: ("all",), reads=matches_and_verified),
            Phase("survivors", self._survivors, keys=_groups, reads=pairs_of_group),
            Phase("verdicts", self._verdicts, reads=fates, judges=True, uses_corpus=True),
        )

    def _signatures(self, context: TaskContext) -> None:
        bands, rows = self.shape
        names = [band_column(band) for band in range(bands)]
        fields = {"position": pa.int32(), "priority": pa.int64(), "digest_low": pa.uint64(), "digest_high": pa.uint64()}
        schema = pa.schema(fields | dict.fromkeys(names, pa.uint64()) | {"sketch": pa.binary(bands * rows)})
        without_words = 0

        def signed() -> Iterator[pa.RecordBatch]:
            nonlocal without_words
            for documents in context.documents(["position", "text", *(["date"] if self.keep == "newest" else [])]):
                text = documents.column("text")
                hashes, bounds, digests = shingles(text, self.ngram)
                values = signatures(hashes, bounds, bands * rows, self.seed)
                columns = [
                    documents.column("position"),
                    self._priorities(documents),
                    *(pa.array(digest) for digest in digests),
                ]
                columns += [*(pa.array(key) for key in band_keys(values, bands, rows)), sketches(values)]
                has_words = np.diff(bounds) > 0
                without_words += int((~has_words).sum())
                yield pa.RecordBatch.from_arrays(columns, schema=schema).filter(pa.array(has_words))

        context.write(signed(), schema)
        found = match_probability(self.similarity, bands, rows)
        context.add_metrics(bands=bands, rows=rows, recall_at_threshold=round(found, 4), without_words=without_words)

    def _priorities(self, documents: pa.RecordBatch) -> pa.Array:
        """The higher, the rather does a document stay: int64, 0 or more."""
        if self.keep == "longest":
            return pc.fill_null(pc.binary_length(documents.column("text")), 0).cast(pa.int64())
        if self.keep == "newest":
            seconds = pc.fill_null(documents.column("date").cast(pa.int64()), 0).to_numpy()
            return pa.array(np.maximum(seconds, 0) // 60)
        return pa.array(np.zeros(documents.num_rows, np.int64))

    def _bands_and_ranges(self, corpus: Corpus) -> list[str]:
        ranges = key_ranges(sum(part.kept for part in corpus.parts), RANGE_DOCUMENTS)
        return [f"exact-{key_range}" for key_range in ranges] + band_tasks(self.shape[0], ranges)

    def _candidates(self, context: TaskContext) -> None:
        kind, _, key_range = context.task.partition("-")
        if kind == "exact":
            self._exact(context, key_range)
        else:
            self._near(context, kind, key_range)

    def _exact(self, context: TaskContext, key_range: str) -> None:
        losers, winners = exact_pairs(*self._shared_keys(context, "digest_low", key_range, "digest_high"))
        context.write(exact_fates(numbers_of(losers), numbers_of(winners)).table(), FATE_SCHEMA)
        context.add_metrics(exact=len(losers))

    def _near(self, context: TaskContext, band: str, key_range: str) -> None:
        losers, winners, involved, sizes = near_pairs(*self._shared_keys(context, band, key_range, "digest_low"))
        numbers = numbers_of(losers)
        order = np.lexsort((winners, numbers))
        columns = [pa.array(column[order]) for column in (numbers, losers, winners)]
        context.write(pa.table(columns, schema=PAIR_SCHEMA), PAIR_SCHEMA)
        _write_involved(context, np.unique(numbers_of(involved)))
        largest = int(sizes.max()) if len(sizes) else 0
        context.add_metrics(pairs=len(losers), largest_bucket=largest, capped_buckets=int((sizes > PEERS + 1).sum()))

    def _shared_keys(self, context: TaskContext, column: str, key_range: str, digest: str) -> tuple[Any, Any, Numbers]:
        """Keys, digests and ranks of the documents whose key lies in a range like "0of4" and is not theirs alone."""
        bases = first_numbers(context.corpus.parts)
        signed = context.corpus.every("signatures")
        keys, rows = shared_in_range((as_numpy(context.table(*pair, [column]), column) for pair in signed), key_range)
        digests, ranks = np.empty(len(keys), np.uint64), np.empty(len(keys), np.int64)
        end = 0
        for (phase, task), mine in zip(signed, rows, strict=True):
            begin, end = end, end + len(mine)
            if begin == end:
                continue
            table = context.table(phase, task, ["position", "priority", digest])
            digests[begin:end] = as_numpy(table, digest)[mine]
            numbers = as_numpy(table, "position")[mine] + bases[int(task)]
            ranks[begin:end] = ranks_of(numbers, as_numpy(table, "priority")[mine])
        return keys, digests, ranks

    def _sets(self, context: TaskContext) -> None:
        part = int(context.task)
        base = first_numbers(context.corpus.parts)[part]
        found = [_read_involved(context, pair, part) for pair in _near_bands(context.corpus)]
        involved = np.unique(np.concatenate([np.empty(0, np.int64), *found])) - base
        total = 0

        def made() -> Iterator[pa.RecordBatch]:
            nonlocal total
            for documents in context.documents(["position", "text"]) if self.verify and len(involved) else ():
                chosen = documents.filter(pc.is_in(documents.column("position"), pa.array(involved.astype(np.int32))))
                values, bounds = shingle_sets(chosen.column("text"), self.ngram)
                total += len(values)
                sets = pa.ListArray.from_arrays(pa.array(bounds.astype(np.int32)), pa.array(values))
                yield pa.RecordBatch.from_arrays([chosen.column("position"), sets], schema=SET_SCHEMA)

        context.write(_gathered(made()), SET_SCHEMA)
        context.add_metrics(documents=len(involved), shingles=total)

    def _verified(self, context: TaskContext) -> None:
        bases = first_numbers(context.corpus.parts)
        first, last = _group_bounds(context.corpus)[context.task]
        tables = [context.table(*pair) for pair in _near_bands(context.corpus)]
        verifier = Verifier(lambda part: context.table("sets", str(part)), bases, first, last) if self.verify else None
        candidates = 0

        def verified() -> Iterator[pa.RecordBatch]:
            nonlocal candidates
            numbers = [as_numpy(table, "loser") for table in tables]
            for low, high in thresholds(numbers, int(bases[first]), int(bases[last]), MOST_PAIRS):
                where = [between(losers, low, high) for losers in numbers]
                losers, winners = distinct(sliced(tables, where, "loser_rank"), sliced(tables, where, "winner_rank"))
                candidates += len(losers)
                yield self._verify(verifier, losers, winners)

        context.write(verified(), VERIFIED_SCHEMA)
        context.add_metrics(candidates=candidates)

    def _verify(self, verifier: Verifier | None, losers: Numbers, winners: Numbers) -> pa.RecordBatch:
        similarity, rule = np.full(len(losers), np.nan, np.float32), np.full(len(losers), NEAR, np.uint8)
        if verifier is not None:
            counts = verifier.compare(numbers_of(losers), numbers_of(winners))
            similarity, rule = verify(*counts, self.similarity)
        good = rule != STAYS
        columns = [pa.array(column[good]) for column in (losers, winners, similarity, rule)]
        return pa.RecordBatch.from_arrays(columns, schema=VERIFIED_SCHEMA)

    def _kept(self, context: TaskContext) -> None:
        runs = [batch for pair in context.corpus.every("verified") for batch in context.table(*pair).to_batches()]
        ranks = [as_numpy(run, "loser_rank") for run in runs]
        dropped = np.zeros(first_numbers(context.corpus.parts)[-1], np.uint8)
        for pair in context.corpus.every("matched") if self.against else ():
            dropped[as_numpy(context.table(*pair), "document")] = GONE_EARLIER
        for low, high in thresholds(ranks, 0, 2**63 - 1, MOST_PAIRS):
            where = [between(losers, low, high) for losers in ranks]
            losers, winners = sliced(runs, where, "loser_rank"), sliced(runs, where, "winner_rank")
            order = np.argsort(losers)
            sweep(numbers_of(losers[order]), numbers_of(winners[order]), dropped)
        context.write(pa.table([pa.array(dropped)], schema=KEPT_SCHEMA), KEPT_SCHEMA)
        context.add_metrics(verified_pairs=sum(len(losers) for losers in ranks), near=int((dropped == 1).sum()))

    def _survivors(self, context: TaskContext) -> None:
        dropped = as_numpy(context.table("kept", "all"), "dropped")
        gone = joined(near_fates(batch, dropped) for batch in context.table("verified", context.task).to_batches())
        weights = np.ones(len(gone.document), np.int64)
        for pair in _exact(context.corpus):
            exact = DuplicateFates.of(context.table(*pair))
            rows, are_there = exact.find(gone.document)
            weights[are_there] += exact.copies[rows[are_there]]
        context.write(with_copies(gone, weights).table(), FATE_SCHEMA)

    def _verdicts(self, context: TaskContext) -> None:
        parts = context.corpus.parts
        part = parts[int(context.task)]
        bases = first_numbers(parts)
        fates = PartitionFates(int(bases[part.number]), part.size)
        groups = _group_bounds(context.corpus)
        for pair in [*_exact(context.corpus), *context.corpus.every("survivors")]:
            fates.add(DuplicateFates.of(context.table(*pair)))
        for phase, group in context.corpus.every("survivors"):
            first, last = groups[group]
            fates.follow(DuplicateFates.of(context.table(phase, group)), int(bases[first]), int(bases[last]))
        if self.against:
            fates.add(DuplicateFates.of(context.table("matched", context.task)))
        for documents in context.documents(["position"]):
            positions = documents.column("position").to_numpy()
            context.judge(positions, self._judged(fates, positions, context.corpus))
        most = np.argsort(-fates.copies, kind="stable")[:LARGEST_CLUSTERS]
        clusters = {f"{part.name}#{position}": int(fates.copies[position]) for position in most}
        context.add_metrics(largest_clusters={name: copies for name, copies in clusters.items() if copies > 1})

    def _judged(self, fates: PartitionFates, positions: npt.NDArray[np.int32], corpus: Corpus) -> Verdicts:
        parts: list[PartitionInfo | PreviousPartition] = [*corpus.parts, *corpus.earlier]
        rule = fates.rule[positions]
        goes = rule != STAYS
        similarity = fates.similarity[positions]
        survivor = fates.survivor[positions]
        measures = {"survivor": identities(parts, survivor, ~goes)}
        if self.against:
            measures["survivor_run"] = runs_of(corpus, survivor, ~goes)
        return Verdicts.of(
            np.where(goes, DROPPED, KEPT).astype(np.uint8),
            rule=RULES.take(pa.array(rule)),
            value=similarity.astype(np.float64),
            threshold=np.full(len(rule), self.similarity),
            measures=measures
            | {
                "similarity": pa.array(similarity, from_pandas=True),
                "copies": pa.array(fates.copies[positions].astype(np.int32), mask=goes),
            },
        )

    def left_unknown(self, name: str) -> str | None:
        """See `Stage`."""
        return (
            f"Which documents {name} would choose of duplicates: one that is dropped here may stand for others, which would "
            "then be kept, and one newly kept may take the place of others."
        )

    def summary(self, run: StageRun) -> StageSummary:
        """See `Stage`."""
        return StageSummary(lines=summary_lines(run), notices=summary_notices(run))

    def report_sections(self, run: StageRun) -> Sequence[Section]:
        """See `Stage`."""
        return [*paragraph_sections(run), *duplicate_sections(run, has_earlier=bool(self.against))]


def _near_bands(corpus: Corpus) -> list[tuple[str, str]]:
    return [pair for pair in corpus.every("candidates") if pair[1].startswith("band")]


def _exact(corpus: Corpus) -> list[tuple[str, str]]:
    return [pair for pair in corpus.every("candidates") if pair[1].startswith("exact")]


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in fewer batches, of about `SET_BATCH` shingles."""
    held: list[pa.RecordBatch] = []
    shingles_held = 0
    for batch in batches:
        held.append(batch)
        shingles_held += len(batch.column("shingles").values)
        if shingles_held >= SET_BATCH:
            yield pa.concat_batches(held)
            held, shingles_held = [], 0
    if held:
        yield pa.concat_batches(held)


def _write_involved(context: TaskContext, documents: Numbers) -> None:
    """Writes the documents of candidate pairs so that one partition's can be read alone: where each partition's begin
    (int64, partitions + 1), then the numbers (int64)."""
    bases = first_numbers(context.corpus.parts)
    with context.create("involved.bin") as file:
        file.write(np.searchsorted(documents, bases).astype("<i8").tobytes())
        file.write(documents.astype("<i8").tobytes())


def _read_involved(context: TaskContext, pair: tuple[str, str], part: int) -> Numbers:
    with context.file(*pair, "involved.bin") as file:
        file.seek(8 * part)
        begin, end = struct.unpack("<2q", file.read(16))
        file.seek(8 * (len(context.corpus.parts) + 1 + begin))
        return np.frombuffer(file.read(8 * (end - begin)), "<i8")


def _group_bounds(corpus: Corpus) -> dict[str, tuple[int, int]]:
    """Groups of neighbouring parts, cut where their sets reach `GROUP_SHINGLES`: name -> first part and one past the last."""
    groups: dict[str, tuple[int, int]] = {}
    first = held = 0
    for part in corpus.parts:
        add_metrics = corpus.metrics["sets"][str(part.number)]
        held += add_metrics["shingles"] + 16 * add_metrics["documents"]
        if held >= GROUP_SHINGLES or part.number == len(corpus.parts) - 1:
            groups[f"group{len(groups):05d}"] = (first, part.number + 1)
            first, held = part.number + 1, 0
    return groups


def _groups(corpus: Corpus) -> list[str]:
    return list(_group_bounds(corpus))
