"""Paragraphs that several documents have: one document keeps them, they are removed from the others (`scope: paragraph`).

A paragraph is the text between two line feeds; two are the same where their words are (`text.shingles`), by 128-bit digests.
Of the documents that have it the first in canonical order keeps it, as often as it has it. As CCNet does (Wenzek et al. 2020,
section 3.1), but for the whole corpus instead of one shard of it, keeping one, and with a ledger of what was removed.

Memory of a task: `paragraphs`, `edited`: a batch of documents; `repeats`: about 60 bytes a paragraph whose digest lies in its
range, `RANGE_PARAGRAPHS` on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from tokenmill.stages.dedup.clusters import as_numpy, between
from tokenmill.stages.dedup.group_by_key import Numbers
from tokenmill.stages.dedup.ids import first_numbers, identities, key_ranges, shared_in_range
from tokenmill.stages.stage import DROPPED, KEPT, Corpus, PartitionInfo, Phase, TaskContext, Verdicts, reads_every
from tokenmill.stages.text.shingles import shingles
from tokenmill.stages.text.utf8 import string_buffers

RANGE_PARAGRAPHS = 16_000_000
"""Paragraphs whose digests one task sorts; with more, the digests are cut into ranges."""

LARGEST = 3
"""Most repeated paragraphs of a range, named in the metrics."""

SHOWN_CHARACTERS = 200

PARAGRAPH_SCHEMA = pa.schema(
    {"position": pa.int32(), "paragraph": pa.int32(), "digest_low": pa.uint64(), "digest_high": pa.uint64()}
)
REPEAT_SCHEMA = pa.schema({"document": pa.int64(), "paragraph": pa.int32(), "survivor": pa.int64()})
"""A paragraph to remove, ascending by the document's number, and the document that keeps it."""


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

    def without(self, removed: npt.NDArray[np.bool_], rows: int) -> pa.Array:
        """The texts without some paragraphs, the blank lines after those, and line feeds at the end of a text that lost any."""
        kept, offsets = _without(self.data, self.bounds, self.row, removed, rows)
        return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(kept))


@dataclass(frozen=True)
class RepeatedParagraphs:
    """The phases. `min_words`: shorter paragraphs are left alone; `min_documents`: least documents that have a repeated one."""

    min_words: int
    min_documents: int

    def phases(self) -> Sequence[Phase]:
        """See `stages.stage.CorpusStage`."""
        return (
            Phase("paragraphs", partial(write_paragraphs, min_words=self.min_words), reads_documents=True),
            Phase(
                "repeats",
                partial(write_repeats, min_documents=self.min_documents),
                keys=_ranges,
                reads=reads_every("paragraphs"),
            ),
            Phase(
                "edited",
                remove_repeats,
                reads=reads_every("repeats"),
                judges=True,
                modifies_text=True,
                uses_corpus=True,
            ),
        )


def write_paragraphs(context: TaskContext, *, min_words: int) -> None:
    """Writes `PARAGRAPH_SCHEMA`: the partition's paragraphs that are long enough."""
    total = 0

    def found() -> Iterator[pa.RecordBatch]:
        nonlocal total
        for documents in context.documents(["position", "text"]):
            paragraphs = Paragraphs.of(documents.column("text"))
            words, (low, high) = paragraphs.digests()
            long = np.flatnonzero(words >= min_words)
            total += len(long)
            columns = [
                documents.column("position").take(pa.array(paragraphs.row[long])),
                pa.array(paragraphs.number[long].astype(np.int32)),
                *(pa.array(half[long]) for half in (low, high)),
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=PARAGRAPH_SCHEMA)

    context.write(found(), PARAGRAPH_SCHEMA)
    context.add_metrics(paragraphs=total)


def write_repeats(context: TaskContext, *, min_documents: int) -> None:
    """Writes `REPEAT_SCHEMA`: the paragraphs to remove whose digests lie in the task's range."""
    shared = _shared_paragraphs(context)
    groups = np.cumsum(shared.begins) - 1
    first = shared.document[shared.begins][groups]
    # a document that has the paragraph twice counts once: its rows are neighbours, and only the first of them is counted
    changes = shared.begins.copy()
    changes[1:] |= shared.document[1:] != shared.document[:-1]
    documents = np.bincount(groups, changes).astype(np.int64)
    is_removed = (documents[groups] >= min_documents) & (shared.document != first)
    order = np.flatnonzero(is_removed)
    order = order[np.lexsort((shared.paragraph[order], shared.document[order]))]
    columns = [pa.array(column[order]) for column in (shared.document, shared.paragraph, first)]
    context.write(pa.table(columns, schema=REPEAT_SCHEMA), REPEAT_SCHEMA)
    most = np.argsort(-documents, kind="stable")[:LARGEST]
    heads = np.flatnonzero(shared.begins)[most]
    largest = [
        [int(documents[group]), int(shared.document[head]), int(shared.paragraph[head])]
        for group, head in zip(most, heads, strict=True)
        if documents[group] >= min_documents
    ]
    context.add_metrics(repeats=len(order), largest=largest)


def remove_repeats(context: TaskContext) -> None:
    """Removes the repeated paragraphs from the partition's documents, and shows how the most repeated ones begin."""
    repeats = _repeats_of_part(context)
    examples = _examples(context.corpus, context.corpus.parts[int(context.task)])
    shown: list[dict[str, Any]] = []

    def change(documents: pa.RecordBatch) -> tuple[pa.RecordBatch, Verdicts]:
        paragraphs = Paragraphs.of(documents.column("text"))
        positions = documents.column("position").to_numpy().astype(np.int64)
        keys = _keys(positions[paragraphs.row], paragraphs.number)
        for (position, number), count in examples.items():
            if position in positions:
                shown.append({"documents": count, "text": _sample(paragraphs, keys, position, number)})
        return _without_repeats(documents, paragraphs, keys, repeats, context.corpus)

    context.transform(change)
    context.add_metrics(largest_repeats=sorted(shown, key=lambda one: -one["documents"]))


class _Repeats(NamedTuple):
    """Paragraphs to remove from a partition's documents: `keys`, ascending, see `_keys`; and who keeps each, `survivors`."""

    keys: Numbers
    survivors: Numbers


def _repeats_of_part(context: TaskContext) -> _Repeats:
    part = context.corpus.parts[int(context.task)]
    base = int(first_numbers(context.corpus.parts)[part.number])
    tables = [context.table(*pair) for pair in context.corpus.every("repeats")]
    rows = [between(as_numpy(table, "document"), base, base + part.size) for table in tables]
    mine = pa.concat_tables(
        [table.slice(some.start, some.stop - some.start) for table, some in zip(tables, rows, strict=True)]
    ).sort_by([("document", "ascending"), ("paragraph", "ascending")])
    keys = _keys(as_numpy(mine, "document") - base, as_numpy(mine, "paragraph"))
    return _Repeats(keys, as_numpy(mine, "survivor"))


def _examples(corpus: Corpus, part: PartitionInfo) -> dict[tuple[int, int], int]:
    """The most repeated paragraphs of the corpus that a partition keeps: position and place -> documents that have it."""
    base = int(first_numbers(corpus.parts)[part.number])
    return {
        (number - base, paragraph): documents
        for metrics in corpus.metrics["repeats"].values()
        for documents, number, paragraph in metrics["largest"]
        if base <= number < base + part.size
    }


def _without_repeats(
    documents: pa.RecordBatch, paragraphs: Paragraphs, keys: Numbers, repeats: _Repeats, corpus: Corpus
) -> tuple[pa.RecordBatch, Verdicts]:
    """As `Transform.apply`; `keys`: of the documents' `paragraphs`."""
    text = documents.column("text")
    places = np.searchsorted(repeats.keys, keys)
    is_removed = np.zeros(len(keys), np.bool_)
    inside = places < len(repeats.keys)
    is_removed[inside] = repeats.keys[places[inside]] == keys[inside]
    edited = paragraphs.without(is_removed, len(text)) if is_removed.any() else text
    first = np.full(len(text), -1)
    rows, index = np.unique(paragraphs.row[is_removed], return_index=True)
    first[rows] = repeats.survivors[places[is_removed][index]]
    count = np.bincount(paragraphs.row[is_removed], minlength=len(text))
    documents = documents.set_column(documents.schema.get_field_index("text"), "text", edited)
    if "copies" not in documents.schema.names:  # of an earlier `deduplicate` of documents, if there was one
        documents = documents.append_column("copies", pa.array(np.ones(len(text), np.int32)))
    return documents, _verdicts(text, edited, count, identities(corpus.parts, first, first < 0))


def _verdicts(text: pa.Array, edited: pa.Array, count: npt.NDArray[np.int64], keepers: pa.Array) -> Verdicts:
    """`count`: removed paragraphs of each document; `keepers`: ids of the documents that keep the first of them."""
    removed_bytes = (pc.binary_length(text).to_numpy() - pc.binary_length(edited).to_numpy()).astype(np.int64)
    is_empty = (count > 0) & (pc.binary_length(pc.utf8_trim_whitespace(edited)).to_numpy() == 0)
    rule = np.full(len(text), None, object)
    rule[is_empty] = "deduplicate.paragraphs"
    return Verdicts.of(
        np.where(is_empty, DROPPED, KEPT).astype(np.uint8),
        rule=rule.tolist(),
        value=count.astype(np.float64),
        measures={
            "repeated_paragraphs": pa.array(count.astype(np.int32)),
            "repeated_bytes": pa.array(removed_bytes),
            "repeated_from": keepers,
        },
    )


class _SharedParagraphs(NamedTuple):
    """Paragraphs whose digest occurs more than once, by digest, document and place; `begins`: where a digest's begin."""

    document: Numbers
    paragraph: npt.NDArray[np.int32]
    begins: npt.NDArray[np.bool_]


def _shared_paragraphs(context: TaskContext) -> _SharedParagraphs:
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
    return _SharedParagraphs(document[order], paragraph[order], begins)


def _ranges(corpus: Corpus) -> list[str]:
    return key_ranges(sum(task["paragraphs"] for task in corpus.metrics["paragraphs"].values()), RANGE_PARAGRAPHS)


def _keys(positions: Numbers, paragraphs: npt.NDArray[Any]) -> Numbers:
    """One number for a document's position and a paragraph's place in it, in their order."""
    return positions.astype(np.int64) << 32 | paragraphs


def _sample(paragraphs: Paragraphs, keys: Numbers, position: int, number: int) -> str:
    """How a paragraph begins."""
    place = int(np.searchsorted(keys, position << 32 | number))
    content = paragraphs.data[paragraphs.bounds[place] : paragraphs.bounds[place + 1]].tobytes()
    return content.decode("utf-8", "replace").strip()[:SHOWN_CHARACTERS]


@njit(cache=True, nogil=True)
def _without(data: Any, bounds: Any, row: Any, removed: Any, rows: int) -> Any:
    """The texts' bytes without removed paragraphs, and where each text begins."""
    # what is kept is never longer than what was there: one buffer, cut to its length at the end
    kept = np.empty(bounds[-1] - bounds[0], np.uint8)
    offsets = np.zeros(rows + 1, np.int64)
    at = place = 0
    for text in range(rows):
        begin = at
        is_cut = has_lost = False
        while place < len(row) and row[place] == text:
            first, end = bounds[place], bounds[place + 1]
            if removed[place]:
                is_cut = has_lost = True
            # a blank line after a removed paragraph parted it from the next one: two removed in a row leave one gap, not three
            elif not (is_cut and _is_blank(data, first, end)):
                is_cut = False
                kept[at : at + end - first] = data[first:end]
                at += end - first
            place += 1
        # the line feed before a removed last paragraph ends nothing any more; untouched texts stay as they are to the byte
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
