"""Deduplication: exact by a digest of the normalized text, near by MinHash and LSH, verified, without chains.

Broder 1997 ("On the resemblance and containment of documents") for shingles and MinHash; bands as in Leskovec, Rajaraman,
Ullman, chapter 3. A candidate is verified by the exact Jaccard similarity of the two shingle sets (or containment of the
shorter); then, by priority, a document goes only if it matches one that stays.

Memory of a task: signatures, sets and verdicts hold one partition's batches; `exact` and `candidates` hold about 40 bytes a
document of their key range (at most `RANGE_DOCUMENTS` documents); `verified` 64 bytes a candidate pair of its group;
`survivors`, the one task that sees the corpus, about 100 bytes a verified pair and nothing for documents without one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from stages import duplicate_pairs
from stages.duplicate_pairs import Numbers
from stages.minhash import band_keys, choose_bands, match_probability, signatures
from stages.shingles import shingle_sets, shingles
from stages.stage import DROPPED, KEPT, Corpus, Gather, Part, Phase, Verdicts, Workbench

RANGE_DOCUMENTS = 16_000_000
"""Documents whose keys of one band one task sorts; beyond, the key space is cut into ranges."""

GROUP_DOCUMENTS = 2_000_000
"""Documents whose candidate pairs one task verifies."""

CONTAINED_SHINGLES = 20
"""A shorter document must have this many shingles to count as contained: a sentence does not make a page a duplicate."""

PAIR = ("loser", "winner", "loser_priority", "winner_priority")
PAIR_SCHEMA = pa.schema(dict.fromkeys(PAIR, pa.int64()))
VERIFIED_SCHEMA = pa.schema([*PAIR_SCHEMA, ("similarity", pa.float32()), ("contained", pa.bool_())])
"""`similarity`: null where candidates are not verified."""
SET_SCHEMA = pa.schema({"position": pa.int32(), "shingles": pa.list_(pa.uint32())})
SURVIVOR_SCHEMA = pa.schema(
    {
        "document": pa.int64(),
        "survivor": pa.int64(),
        "rule": pa.string(),
        "similarity": pa.float32(),
        "copies": pa.int32(),
    }
)


class Deduplicate(Gather):
    """Drops duplicates corpus-wide.

    Rules: `deduplicate.exact`, `deduplicate.near` (value: exact Jaccard similarity), `deduplicate.contained`. Ledger:
    `survivor` (id of the document that stands for a dropped one), `similarity`, `copies` (how many documents one that stays
    stands for, itself included).
    """

    version: ClassVar[int] = 1

    similarity: float = Field(0.8, gt=0, le=1, description="Least Jaccard similarity of shingle sets (0 to 1).")
    ngram: int = Field(5, ge=1, description="Words in a shingle.")
    bands: int | None = Field(None, ge=1, description="Bands of the signature; default: chosen by `similarity`.")
    rows: int | None = Field(None, ge=1, description="MinHash values in a band; default: chosen by `similarity`.")
    seed: int = Field(1, ge=0, description="Seed of datasketch's permutations.")
    keep: Literal["longest", "first"] = Field(
        "longest", description="Which of two duplicates stays: the one of more bytes, or the first in canonical order."
    )
    verify: bool = Field(
        True, description="Check each candidate pair by its exact similarity; false takes all as they are."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Deduplicate:
        if (self.bands is None) != (self.rows is None):
            raise ValueError("give both bands and rows, or neither")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Bands and rows."""
        if self.bands is not None and self.rows is not None:
            return self.bands, self.rows
        return choose_bands(self.similarity)

    def phases(self) -> Sequence[Phase]:
        """See `Gather`."""

        def all_of(*phases: str) -> Any:
            return lambda task, corpus: [pair for phase in phases for pair in corpus.every(phase)]

        return (
            Phase("signatures", self._signatures, reads_documents=True),
            Phase("exact", self._exact, keys=_ranges, reads=all_of("signatures")),
            Phase("candidates", self._candidates, keys=self._band_ranges, reads=all_of("signatures", "exact")),
            Phase("sets", self._sets, reads=all_of("candidates"), reads_documents=True, uses_corpus=True),
            Phase("verified", self._verified, keys=_groups, reads=all_of("candidates", "sets")),
            Phase("survivors", self._survivors, keys=lambda corpus: ("all",), reads=all_of("exact", "verified")),
            Phase("verdicts", self._verdicts, reads=all_of("survivors"), judges=True, uses_corpus=True),
        )

    def _signatures(self, bench: Workbench) -> None:
        bands, rows = self.shape
        names = [_band_column(band) for band in range(bands)]
        fields = {"position": pa.int32(), "priority": pa.int64(), "digest_high": pa.uint64(), "digest_low": pa.uint64()}
        schema = pa.schema(fields | dict.fromkeys(names, pa.uint64()))
        without_words = 0

        def signed() -> Iterator[pa.RecordBatch]:
            nonlocal without_words
            for documents in bench.documents(["position", "text"]):
                text = documents.column("text")
                hashes, bounds, digests = shingles(text, self.ngram)
                keys = band_keys(signatures(hashes, bounds, bands * rows, self.seed), bands, rows)
                columns = [documents.column("position"), self._priority(text), pa.array(digests[:, 1].copy())]
                columns += [pa.array(digests[:, 0].copy()), *(pa.array(key) for key in keys)]
                has_words = np.diff(bounds) > 0
                without_words += int((~has_words).sum())
                yield pa.RecordBatch.from_arrays(columns, schema=schema).filter(pa.array(has_words))

        bench.write(signed(), schema)
        found = match_probability(self.similarity, bands, rows)
        bench.note(bands=bands, rows=rows, recall_at_threshold=round(found, 4), without_words=without_words)

    def _priority(self, text: pa.Array) -> pa.Array:
        if self.keep == "first":
            return pa.array(np.zeros(len(text), np.int64))
        return pc.binary_length(text).cast(pa.int64())

    def _exact(self, bench: Workbench) -> None:
        documents, priority, high, low = _rows_of_keys(bench, ["digest_high", "digest_low"], bench.task)
        # two documents of one upper half and two lower halves are told apart by the second key
        both = high ^ (low * np.uint64(0x9E3779B97F4A7C15))
        rows, bounds = duplicate_pairs.bucket_rows(both, documents, priority)
        best = np.repeat(rows[bounds[:-1]], np.diff(bounds))
        is_same = (high[rows] == high[best]) & (low[rows] == low[best]) & (rows != best)
        losers, winners = rows[is_same], best[is_same]
        order = np.argsort(documents[losers])
        losers, winners = losers[order], winners[order]
        columns = [documents[losers], documents[winners], priority[losers], priority[winners]]
        columns += [np.ones(len(losers), np.float32), np.zeros(len(losers), np.bool_)]
        bench.write(pa.table([pa.array(column) for column in columns], schema=VERIFIED_SCHEMA), VERIFIED_SCHEMA)

    def _band_ranges(self, corpus: Corpus) -> list[str]:
        return [f"band{band:03d}-{key}" for band in range(self.shape[0]) for key in _ranges(corpus)]

    def _candidates(self, bench: Workbench) -> None:
        band, _, key_range = bench.task.partition("-")
        documents, priority, keys = _rows_of_keys(bench, [_band_column(int(band[4:]))], key_range)
        exact = [bench.table(*pair, ["loser"]).column("loser").to_numpy() for pair in bench.corpus.every("exact")]
        alone = ~np.isin(documents, np.concatenate(exact))
        documents, priority, keys = documents[alone], priority[alone], keys[alone]
        rows, bounds = duplicate_pairs.bucket_rows(keys, documents, priority)
        pairs = duplicate_pairs.candidate_pairs(rows, bounds)
        order = np.lexsort((documents[pairs[1]], documents[pairs[0]]))
        losers, winners = pairs[0][order], pairs[1][order]
        columns = [documents[losers], documents[winners], priority[losers], priority[winners]]
        bench.write(pa.table([pa.array(column) for column in columns], schema=PAIR_SCHEMA), PAIR_SCHEMA)
        _write_involved(bench, np.unique(documents[rows]))
        sizes = np.diff(bounds)
        largest = int(sizes.max()) if len(sizes) else 0
        bench.note(pairs=len(losers), largest_bucket=largest, limited=int((sizes > duplicate_pairs.PEERS + 1).sum()))

    def _sets(self, bench: Workbench) -> None:
        part = int(bench.task)
        base = _bases(bench.corpus.parts)[part]
        found = [_read_involved(bench, pair, part) for pair in bench.corpus.every("candidates")]
        involved = np.unique(np.concatenate([np.empty(0, np.int64), *found])) - base
        involved = involved if self.verify else involved[:0]

        def made() -> Iterator[pa.RecordBatch]:
            for documents in bench.documents(["position", "text"]) if len(involved) else ():
                chosen = documents.filter(pc.is_in(documents.column("position"), pa.array(involved.astype(np.int32))))
                values, bounds = shingle_sets(chosen.column("text"), self.ngram)
                sets = pa.ListArray.from_arrays(pa.array(bounds.astype(np.int32)), pa.array(values))
                yield pa.RecordBatch.from_arrays([chosen.column("position"), sets], schema=SET_SCHEMA)

        bench.write(made(), SET_SCHEMA)

    def _verified(self, bench: Workbench) -> None:
        parts = bench.corpus.parts
        bases = _bases(parts)
        first, last = _group_bounds(bench.corpus)[bench.task]
        pairs = _pairs_between(bench, bases[first], bases[last])
        bench.note(candidates=pairs.num_rows)
        if not self.verify:
            unknown = [pa.nulls(pairs.num_rows, pa.float32()), pa.array(np.zeros(pairs.num_rows, np.bool_))]
            bench.write(pa.table([*pairs.columns, *unknown], schema=VERIFIED_SCHEMA), VERIFIED_SCHEMA)
            return
        loser_parts = np.searchsorted(bases, pairs.column("loser").to_numpy(), "right") - 1
        winner_parts = np.searchsorted(bases, pairs.column("winner").to_numpy(), "right") - 1
        block = loser_parts * len(parts) + winner_parts
        order = np.argsort(block, kind="stable")
        cuts = np.flatnonzero(np.diff(block[order], prepend=-1, append=-1))
        opened = _OpenSets(bench)

        def verified() -> Iterator[pa.RecordBatch]:
            for begin, end in pairwise(cuts):
                rows = order[begin:end]
                one, other = int(loser_parts[rows[0]]), int(winner_parts[rows[0]])
                yield from self._verify_block(opened, pairs.take(pa.array(rows)), one, other, bases)

        bench.write(verified(), VERIFIED_SCHEMA)

    def _verify_block(
        self, opened: _OpenSets, pairs: pa.Table, one: int, other: int, bases: Numbers
    ) -> Iterator[pa.RecordBatch]:
        """The pairs that are duplicates, of those whose losers lie in part `one` and whose winners in part `other`."""
        losers = pairs.column("loser").to_numpy() - bases[one]
        winners = pairs.column("winner").to_numpy() - bases[other]
        for loser_set, loser_rows, winner_set, winner_rows, chosen in opened.joined(one, losers, other, winners):
            shared = duplicate_pairs.overlaps(
                loser_rows, winner_rows, loser_set.values, loser_set.bounds, winner_set.values, winner_set.bounds
            )
            sizes = np.diff(loser_set.bounds)[loser_rows].astype(np.int64)
            others = np.diff(winner_set.bounds)[winner_rows].astype(np.int64)
            similarity = shared / (sizes + others - shared)
            smaller = np.minimum(sizes, others)
            contained = (shared == smaller) & (smaller >= CONTAINED_SHINGLES) & (similarity < self.similarity)
            good = pa.array((similarity >= self.similarity) | contained)
            mine = pairs.filter(pa.array(chosen)).combine_chunks().to_batches()[0]
            measured = [pa.array(similarity.astype(np.float32)), pa.array(contained)]
            yield pa.RecordBatch.from_arrays([*mine.columns, *measured], schema=VERIFIED_SCHEMA).filter(good)

    def _survivors(self, bench: Workbench) -> None:
        exact = pa.concat_tables([bench.table(*pair) for pair in bench.corpus.every("exact")])
        near = pa.concat_tables([bench.table(*pair) for pair in bench.corpus.every("verified")])
        numbers = {
            name: near.column(name).to_numpy(zero_copy_only=False)
            if name == "contained"
            else near.column(name).to_numpy()
            for name in VERIFIED_SCHEMA.names
        }
        order = np.lexsort(
            (numbers["winner"], -numbers["winner_priority"], numbers["loser"], -numbers["loser_priority"])
        )
        documents = np.unique(np.concatenate([numbers["loser"], numbers["winner"]]))
        losers = np.searchsorted(documents, numbers["loser"][order])
        winners = np.searchsorted(documents, numbers["winner"][order])
        pair = duplicate_pairs.survivors(losers, winners, len(documents))
        gone = np.flatnonzero(pair >= 0)
        by = order[pair[gone]]
        near_rules = np.where(numbers["contained"][by], "deduplicate.contained", "deduplicate.near")
        # a document that is the same as one that went near-dropped is represented by that one's survivor
        exact_losers, exact_winners = (exact.column(name).to_numpy() for name in ("loser", "winner"))
        place = np.minimum(np.searchsorted(documents[gone], exact_winners), max(len(gone) - 1, 0))
        moved = documents[gone][place] == exact_winners if len(gone) else np.zeros(len(exact_winners), np.bool_)
        exact_survivors = exact_winners.copy()
        exact_similarity = np.ones(len(exact_winners), np.float32)
        exact_rules = np.full(len(exact_winners), "deduplicate.exact", object)
        exact_survivors[moved] = numbers["winner"][by][place[moved]]
        exact_similarity[moved] = numbers["similarity"][by][place[moved]]
        exact_rules[moved] = near_rules[place[moved]]
        survivors = np.concatenate([numbers["winner"][by], exact_survivors])
        staying, counts = np.unique(survivors, return_counts=True)
        table = pa.table(
            [
                pa.array(np.concatenate([documents[gone], exact_losers, staying])),
                pa.array(np.concatenate([survivors, staying])),
                pa.array([*near_rules, *exact_rules, *[None] * len(staying)], pa.string()),
                pa.array(
                    np.concatenate(
                        [numbers["similarity"][by], exact_similarity, np.full(len(staying), np.nan, np.float32)]
                    ),
                    from_pandas=True,
                ),
                pa.array(np.concatenate([np.zeros(len(survivors), np.int32), (counts + 1).astype(np.int32)])),
            ],
            schema=SURVIVOR_SCHEMA,
        ).sort_by("document")
        bench.write(table, SURVIVOR_SCHEMA)
        largest = np.argsort(-counts, kind="stable")[:10]
        clusters = [
            {"survivor": identity(bench.corpus.parts, int(staying[place])), "copies": int(counts[place]) + 1}
            for place in largest
        ]
        bench.note(exact=len(exact_losers), near=len(gone), largest_clusters=clusters)

    def _verdicts(self, bench: Workbench) -> None:
        parts = bench.corpus.parts
        part = parts[int(bench.task)]
        base = int(_bases(parts)[part.number])
        table = bench.table("survivors", "all")
        listed = table.column("document").to_numpy()
        mine = table.slice(*_slice(listed, base, base + part.size)).combine_chunks()
        places = mine.column("document").to_numpy() - base
        survivor_ids = pa.array(
            [identity(parts, number) for number in mine.column("survivor").to_pylist()], pa.string()
        )
        is_survivor = pc.is_null(mine.column("rule"))
        survivor_ids = pc.if_else(is_survivor, pa.scalar(None, pa.string()), survivor_ids)
        for documents in bench.documents(["position"]):
            positions = documents.column("position").to_numpy()
            back = _positions_of(positions, places)
            rule = _flat(mine.column("rule").take(back))
            similarity = _flat(mine.column("similarity").take(back))
            copies = _flat(mine.column("copies").take(back)).fill_null(1)
            dropped = pc.is_valid(rule).to_numpy(zero_copy_only=False)
            fate = np.where(dropped, DROPPED, KEPT).astype(np.uint8)
            measures = {
                "survivor": _flat(survivor_ids.take(back)),
                "similarity": similarity,
                "copies": pc.if_else(pa.array(dropped), pa.scalar(None, pa.int32()), copies),
            }
            verdicts = Verdicts.of(
                fate,
                rule=rule,
                value=similarity.to_numpy(zero_copy_only=False).astype(np.float64),
                threshold=np.full(len(fate), self.similarity),
                measures=measures,
            )
            bench.judge(positions, verdicts)


def identity(parts: Sequence[Part], number: int) -> str:
    """The ledger id of a document by its number."""
    bases = _bases(parts)
    place = int(np.searchsorted(bases, number, "right")) - 1
    return f"{parts[place].name}#{number - int(bases[place])}"


def _bases(parts: Sequence[Part]) -> Numbers:
    """The number of each part's first document, and one past the last part's."""
    return np.concatenate([[0], np.cumsum([part.size for part in parts])]).astype(np.int64)


def _band_column(band: int) -> str:
    return f"band{band:03d}"


def _ranges(corpus: Corpus) -> list[str]:
    documents = sum(part.kept for part in corpus.parts)
    count = max(-(-documents // RANGE_DOCUMENTS), 1)
    return [f"{number}of{count}" for number in range(count)]


def _rows_of_keys(bench: Workbench, columns: list[str], key_range: str) -> tuple[Any, ...]:
    """Numbers, priorities and key columns of all documents whose first key lies in a range like "0of4"."""
    number, count = (int(word) for word in key_range.split("of"))
    low, high = (2**64 * number) // count, (2**64 * (number + 1)) // count - 1
    bases = _bases(bench.corpus.parts)
    pieces = []
    for phase, task in bench.corpus.every("signatures"):
        table = bench.table(phase, task, ["position", "priority", *columns])
        if count > 1:
            keys = table.column(columns[0])
            within = pc.and_(
                pc.greater_equal(keys, pa.scalar(low, pa.uint64())), pc.less_equal(keys, pa.scalar(high, pa.uint64()))
            )
            table = table.filter(within)
        documents = table.column("position").to_numpy().astype(np.int64) + bases[int(task)]
        pieces.append((documents, *(table.column(name).to_numpy() for name in ("priority", *columns))))
    return tuple(np.concatenate(column) for column in zip(*pieces, strict=True))


def _write_involved(bench: Workbench, documents: Numbers) -> None:
    """Writes the documents of candidate pairs so that one partition's can be read alone: where each partition's begin
    (int64, partitions + 1), then the numbers (int64)."""
    bases = _bases(bench.corpus.parts)
    with bench.create("involved.bin") as file:
        file.write(np.searchsorted(documents, bases).astype("<i8").tobytes())
        file.write(documents.astype("<i8").tobytes())


def _read_involved(bench: Workbench, pair: tuple[str, str], part: int) -> Numbers:
    with bench.file(*pair, "involved.bin") as file:
        file.seek(8 * part)
        begin, end = struct.unpack("<2q", file.read(16))
        file.seek(8 * (len(bench.corpus.parts) + 1 + begin))
        return np.frombuffer(file.read(8 * (end - begin)), "<i8")


def _group_bounds(corpus: Corpus) -> dict[str, tuple[int, int]]:
    """Groups of neighbouring parts of about `GROUP_DOCUMENTS` documents: name -> first part and one past the last."""
    groups: dict[str, tuple[int, int]] = {}
    first = kept = 0
    for part in corpus.parts:
        kept += part.kept
        if kept >= GROUP_DOCUMENTS or part.number == len(corpus.parts) - 1:
            groups[f"group{len(groups):05d}"] = (first, part.number + 1)
            first, kept = part.number + 1, 0
    return groups


def _groups(corpus: Corpus) -> list[str]:
    return list(_group_bounds(corpus))


def _slice(ascending: npt.NDArray[Any], low: int, high: int) -> tuple[int, int]:
    begin, end = np.searchsorted(ascending, [low, high])
    return int(begin), int(end - begin)


def _pairs_between(bench: Workbench, low: int, high: int) -> pa.Table:
    """The candidate pairs of all bands whose loser lies in a range of documents, each once, by loser and winner."""
    tables = []
    for pair in bench.corpus.every("candidates"):
        table = bench.table(*pair)
        tables.append(table.slice(*_slice(table.column("loser").to_numpy(), low, high)))
    joined = pa.concat_tables(tables).combine_chunks()
    losers, winners = joined.column("loser").to_numpy(), joined.column("winner").to_numpy()
    order = np.lexsort((winners, losers))
    repeats = (np.diff(losers[order], prepend=-1) == 0) & (np.diff(winners[order], prepend=-1) == 0)
    return joined.take(pa.array(order[~repeats]))


def _positions_of(positions: npt.NDArray[np.int32], listed: Numbers) -> pa.Array:
    """For each position its place in an ascending list, null where it is not in it."""
    if not len(listed):
        return pa.nulls(len(positions), pa.int64())
    places = np.minimum(np.searchsorted(listed, positions), len(listed) - 1)
    return pa.array(places, mask=listed[places] != positions)


def _flat(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


class _Sets:
    """The shingle sets of a batch of documents: `positions` ascending, `values` and `bounds` as in `overlaps`."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        sets = batch.column("shingles")
        self.positions = batch.column("position").to_numpy()
        self.values = sets.values.to_numpy()
        self.bounds = sets.offsets.to_numpy()


class _OpenSets:
    """The shingle sets of all parts, memory-mapped when first asked for."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._parts: dict[int, list[_Sets]] = {}

    def _of(self, part: int) -> list[_Sets]:
        if part not in self._parts:
            table = self._bench.table("sets", str(part))
            self._parts[part] = [_Sets(batch) for batch in table.to_batches() if batch.num_rows]
        return self._parts[part]

    def joined(
        self, one: int, losers: Numbers, other: int, winners: Numbers
    ) -> Iterator[tuple[_Sets, Numbers, _Sets, Numbers, npt.NDArray[np.bool_]]]:
        """The pairs cut by the batches that hold their sets: sets and rows of both sides, and which pairs these are."""
        for mine in self._of(one):
            held = (losers >= mine.positions[0]) & (losers <= mine.positions[-1])
            for theirs in self._of(other):
                chosen = held & (winners >= theirs.positions[0]) & (winners <= theirs.positions[-1])
                if chosen.any():
                    loser_rows = np.searchsorted(mine.positions, losers[chosen])
                    winner_rows = np.searchsorted(theirs.positions, winners[chosen])
                    yield mine, loser_rows, theirs, winner_rows, chosen
