"""Paragraphs that several documents repeat: one document keeps them, the others lose them (`scope: paragraph`).

A paragraph is what stands between line feeds; two are the same where their words are (`text.shingles`), by 128-bit digests.
Of the documents that hold it the first in canonical order keeps it, as often as it has it. As CCNet does (Wenzek et al. 2020,
section 3.1), but for the whole corpus instead of one shard of it, keeping one, and with the ledger telling what went.

Memory of a task: `paragraphs`, `edited`: a batch of documents; `repeats`: about 60 bytes a paragraph whose digest lies in its
range, `RANGE_PARAGRAPHS` on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from tokenmill.stages.dedup.clusters import as_numpy, between
from tokenmill.stages.dedup.group_by_key import Numbers
from tokenmill.stages.dedup.ids import first_numbers, identities, key_ranges, shared_in_range
from tokenmill.stages.stage import DROPPED, KEPT, Corpus, Phase, TaskContext, Verdicts
from tokenmill.stages.text.shingles import shingles
from tokenmill.stages.text.utf8 import string_buffers

RANGE_PARAGRAPHS = 16_000_000
"""Paragraphs whose digests one task sorts; beyond, the digests are cut into ranges."""

LARGEST = 3
"""Most repeated paragraphs of a range, named in the notes."""

SHOWN_CHARACTERS = 200

PARAGRAPH_SCHEMA = pa.schema(
    {"position": pa.int32(), "paragraph": pa.int32(), "digest_low": pa.uint64(), "digest_high": pa.uint64()}
)
REPEAT_SCHEMA = pa.schema({"document": pa.int64(), "paragraph": pa.int32(), "survivor": pa.int64()})
"""A paragraph that goes, ascending by the document's number, and the document that keeps it."""


class Paragraphs(NamedTuple):
    """The paragraphs of a batch of texts: paragraph p is `data[bounds[p]:bounds[p + 1]]`, its line feed included; `row`: the
    text that it is of, `number`: its place in that. int64, shape (paragraphs,); `bounds` one more."""

    data: npt.NDArray[np.uint8]
    bounds: Numbers
    row: Numbers
    number: Numbers

    @staticmethod
    def of(text: pa.Array) -> Paragraphs:
        """Finds them. An empty text has none."""
        data, offsets = string_buffers(text)
        begin, end = int(offsets[0]), int(offsets[-1])
        after = np.flatnonzero(data[begin:end] == ord("\n")) + begin + 1
        bounds = np.union1d(after, offsets).astype(np.int64)
        row = np.searchsorted(offsets, bounds[:-1], "right") - 1
        number = np.arange(len(row)) - np.searchsorted(row, row)
        return Paragraphs(data, bounds, row, number)

    def digests(self) -> tuple[Numbers, npt.NDArray[np.uint64]]:
        """How many words each has, and the two halves of its digest: shapes (paragraphs,), (2, paragraphs)."""
        data = pa.py_buffer(self.data)
        offsets = pa.py_buffer(self.bounds.astype(np.int32))
        _, words, digests = shingles(pa.StringArray.from_buffers(len(self.row), offsets, data), 1)
        return np.diff(words), digests

    def without(self, gone: npt.NDArray[np.bool_], rows: int) -> pa.Array:
        """The texts without some paragraphs, the blank lines after those, and line feeds at the end of a text that lost any."""
        kept, offsets = _without(self.data, self.bounds, self.row, gone, rows)
        return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(kept))


@dataclass(frozen=True)
class ParagraphRepeats:
    """The phases. `min_words`: shorter paragraphs are left alone; `min_documents`: that must hold one for it to be a repeat."""

    min_words: int
    min_documents: int

    def phases(self) -> Sequence[Phase]:
        """See `stages.stage.CorpusStage`."""

        def every(phase: str) -> Any:
            return lambda task, corpus: corpus.every(phase)

        return (
            Phase("paragraphs", self._paragraphs, reads_documents=True),
            Phase("repeats", self._repeats, keys=_ranges, reads=every("paragraphs")),
            Phase("edited", self._edited, reads=every("repeats"), judges=True, modifies_text=True, uses_corpus=True),
        )

    def _paragraphs(self, context: TaskContext) -> None:
        total = 0

        def found() -> Iterator[pa.RecordBatch]:
            nonlocal total
            for documents in context.documents(["position", "text"]):
                paragraphs = Paragraphs.of(documents.column("text"))
                words, (low, high) = paragraphs.digests()
                long = np.flatnonzero(words >= self.min_words)
                total += len(long)
                columns = [
                    documents.column("position").take(pa.array(paragraphs.row[long])),
                    pa.array(paragraphs.number[long].astype(np.int32)),
                    *(pa.array(half[long]) for half in (low, high)),
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=PARAGRAPH_SCHEMA)

        context.write(found(), PARAGRAPH_SCHEMA)
        context.add_metrics(paragraphs=total)

    def _repeats(self, context: TaskContext) -> None:
        held = _held_by_several(context)
        groups = np.cumsum(held.begins) - 1
        first = held.document[held.begins][groups]
        changes = held.begins.copy()
        changes[1:] |= held.document[1:] != held.document[:-1]
        documents = np.bincount(groups, changes).astype(np.int64)
        goes = (documents[groups] >= self.min_documents) & (held.document != first)
        order = np.flatnonzero(goes)
        order = order[np.lexsort((held.paragraph[order], held.document[order]))]
        columns = [pa.array(column[order]) for column in (held.document, held.paragraph, first)]
        context.write(pa.table(columns, schema=REPEAT_SCHEMA), REPEAT_SCHEMA)
        most = np.argsort(-documents, kind="stable")[:LARGEST]
        heads = np.flatnonzero(held.begins)[most]
        largest = [
            [int(documents[group]), int(held.document[head]), int(held.paragraph[head])]
            for group, head in zip(most, heads, strict=True)
            if documents[group] >= self.min_documents
        ]
        context.add_metrics(repeats=len(order), largest=largest)

    def _edited(self, context: TaskContext) -> None:
        corpus = context.corpus
        part = corpus.parts[int(context.task)]
        base = int(first_numbers(corpus.parts)[part.number])
        tables = [context.table(*pair) for pair in corpus.every("repeats")]
        mine = pa.concat_tables(
            [
                table.slice(rows.start, rows.stop - rows.start)
                for table in tables
                for rows in [_of_part(table, base, part.size)]
            ]
        ).sort_by([("document", "ascending"), ("paragraph", "ascending")])
        gone = _keys(as_numpy(mine, "document") - base, as_numpy(mine, "paragraph"))
        survivors = as_numpy(mine, "survivor")
        examples = {
            (number - base, paragraph): documents
            for add_metrics in corpus.metrics["repeats"].values()
            for documents, number, paragraph in add_metrics["largest"]
            if base <= number < base + part.size
        }
        shown: list[dict[str, Any]] = []

        def change(documents: pa.RecordBatch) -> tuple[pa.RecordBatch, Verdicts]:
            text = documents.column("text")
            positions = documents.column("position").to_numpy().astype(np.int64)
            paragraphs = Paragraphs.of(text)
            keys = _keys(positions[paragraphs.row], paragraphs.number)
            places = np.searchsorted(gone, keys)
            goes = np.zeros(len(keys), np.bool_)
            inside = places < len(gone)
            goes[inside] = gone[places[inside]] == keys[inside]
            edited = paragraphs.without(goes, len(text)) if goes.any() else text
            for (position, number), count in examples.items():
                if positions[0] <= position <= positions[-1]:
                    shown.append({"documents": count, "text": _sample(paragraphs, keys, position, number)})
            count = np.bincount(paragraphs.row[goes], minlength=len(text))
            removed = (pc.binary_length(text).to_numpy() - pc.binary_length(edited).to_numpy()).astype(np.int64)
            is_empty = (count > 0) & (pc.binary_length(pc.utf8_trim_whitespace(edited)).to_numpy() == 0)
            first = np.full(len(text), -1)
            rows, index = np.unique(paragraphs.row[goes], return_index=True)
            first[rows] = survivors[places[goes][index]]
            rule = np.full(len(text), None, object)
            rule[is_empty] = "deduplicate.paragraphs"
            verdicts = Verdicts.of(
                np.where(is_empty, DROPPED, KEPT).astype(np.uint8),
                rule=rule.tolist(),
                value=count.astype(np.float64),
                measures={
                    "repeated_paragraphs": pa.array(count.astype(np.int32)),
                    "repeated_bytes": pa.array(removed),
                    "repeated_from": identities(corpus.parts, first, first < 0),
                },
            )
            documents = documents.set_column(documents.schema.get_field_index("text"), "text", edited)
            if "copies" not in documents.schema.names:  # no stage before told documents for several
                documents = documents.append_column("copies", pa.array(np.ones(len(text), np.int32)))
            return documents, verdicts

        context.edit(change)
        context.add_metrics(largest_repeats=sorted(shown, key=lambda one: -one["documents"]))


class _Held(NamedTuple):
    """Paragraphs whose digest occurs more than once, by digest, document and place; `begins`: where a digest's begin."""

    document: Numbers
    paragraph: npt.NDArray[np.int32]
    begins: npt.NDArray[np.bool_]


def _held_by_several(context: TaskContext) -> _Held:
    bases = first_numbers(context.corpus.parts)
    tables = [context.table(*pair) for pair in context.corpus.every("paragraphs")]
    keys, rows = shared_in_range((as_numpy(table, "digest_low") for table in tables), context.task)
    columns = [(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.uint64))]
    for table, base, mine in zip(tables, bases[:-1], rows, strict=True):
        position, paragraph, upper = (as_numpy(table, name)[mine] for name in ("position", "paragraph", "digest_high"))
        columns.append((position + base, paragraph, upper))
    document, paragraph, upper = (np.concatenate(pieces) for pieces in zip(*columns, strict=True))
    order = np.lexsort((paragraph, document, upper, keys))
    keys, upper = keys[order], upper[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (keys[1:] != keys[:-1]) | (upper[1:] != upper[:-1])
    return _Held(document[order], paragraph[order], begins)


def _ranges(corpus: Corpus) -> list[str]:
    return key_ranges(
        sum(add_metrics["paragraphs"] for add_metrics in corpus.metrics["paragraphs"].values()), RANGE_PARAGRAPHS
    )


def _of_part(table: pa.Table, base: int, size: int) -> slice:
    return between(as_numpy(table, "document"), base, base + size)


def _keys(positions: Numbers, paragraphs: npt.NDArray[Any]) -> Numbers:
    """One number for a document's position and a paragraph's place in it, in their order."""
    return positions.astype(np.int64) << 32 | paragraphs


def _sample(paragraphs: Paragraphs, keys: Numbers, position: int, number: int) -> str:
    """How a paragraph begins."""
    place = int(np.searchsorted(keys, position << 32 | number))
    content = paragraphs.data[paragraphs.bounds[place] : paragraphs.bounds[place + 1]].tobytes()
    return content.decode("utf-8", "replace").strip()[:SHOWN_CHARACTERS]


@njit(cache=True, nogil=True)
def _without(data: Any, bounds: Any, row: Any, gone: Any, rows: int) -> Any:
    kept = np.empty(bounds[-1] - bounds[0], np.uint8)
    offsets = np.zeros(rows + 1, np.int64)
    at = place = 0
    for text in range(rows):
        begin = at
        is_cut = has_lost = False
        while place < len(row) and row[place] == text:
            first, end = bounds[place], bounds[place + 1]
            if gone[place]:
                is_cut = has_lost = True
            elif not (is_cut and _is_blank(data, first, end)):
                is_cut = False
                kept[at : at + end - first] = data[first:end]
                at += end - first
            place += 1
        while has_lost and at > begin and kept[at - 1] == 10:
            at -= 1
        offsets[text + 1] = at
    return kept[:at], offsets


@njit(cache=True, nogil=True)
def _is_blank(data: Any, place: int, end: int) -> bool:
    """Whether a line is of white space of ASCII alone."""
    while place < end:
        if data[place] != 32 and not 9 <= data[place] <= 13:
            return False
        place += 1
    return True
