"""Text to token ids in bulk: by gigatoken where it is exact, by `tokenizers` elsewhere."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from tokenmill.model.data.shard_format import token_dtype
from tokenmill.stages.tokens.tokenizer import end_of_text, load_tokenizer, vocabulary_size

CHECKED_BYTES = 262_144
"""Text of each task that `tokenizers` encodes too, to compare."""

DECODED_DOCUMENTS = 16
"""Documents of each task that are decoded again."""

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.int32]


class Encoder:
    """Encodes the documents of one task; each ends with the end-of-text id.

    Text is never read as special tokens: a page that spells out `<|endoftext|>` gets the tokens of those characters.
    `tokenizers` encodes such pages, and all pages where gigatoken does not know the tokenizer, or gave other ids on the first
    documents of the task (`engine` and `reason` say which and why). `round_trip` counts the `documents` that were decoded
    again, and those of them whose text came back (`exact`).
    """

    def __init__(self, content: bytes) -> None:
        self.tokenizer, self._fast, self.reason, self._special, vocabulary = load_engines(content)
        self.end_of_text = end_of_text(self.tokenizer)
        self.dtype = token_dtype(vocabulary)
        self.engine = "tokenizers" if self._fast is None else "gigatoken"
        self._unchecked = CHECKED_BYTES
        self.round_trip = {"documents": 0, "exact": 0}

    def _fall_back(self, reason: str) -> None:
        self.engine, self.reason = "tokenizers", reason

    def encode(self, text: pa.Array) -> tuple[Tokens, npt.NDArray[np.int32]]:
        """Ids of all documents one after the other, each with its end, and the lengths, shape (documents,)."""
        text = text.fill_null("")
        if self.engine == "gigatoken":
            ids, lengths = self._encode_fast(text)
        else:
            ids, lengths = encode_with_tokenizers(self.tokenizer, text.to_pylist())
        self._decode_some(text, ids, lengths)
        return self._with_ends(ids, lengths)

    def _decode_some(self, text: pa.Array, ids: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> None:
        asked = min(len(text), DECODED_DOCUMENTS - self.round_trip["documents"])
        if asked <= 0:
            return
        documents = np.split(ids[: lengths[:asked].sum()], np.cumsum(lengths[: asked - 1]))
        decoded = self.tokenizer.decode_batch([part.tolist() for part in documents], skip_special_tokens=False)
        self.round_trip["documents"] += asked
        self.round_trip["exact"] += sum(map(str.__eq__, decoded, text.slice(0, asked).to_pylist()))

    def _encode_fast(self, text: pa.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        documents = text.to_pylist()
        # one thread: every processor has a task of its own already. The result is Arrow's layout, taken without a copy
        layout = self._fast.encode_batch(documents, parallel=False).layout
        offsets = np.asarray(layout.offsets.data).astype(np.int64)
        ids, lengths = np.asarray(layout.content.data)[offsets[0] : offsets[-1]], np.diff(offsets)
        # gigatoken reads special tokens in text, and cannot be told not to
        spelled = self._spells_special(text)
        if self._unchecked > 0 and (reason := self._difference(documents, ids, lengths, spelled)):
            self._fall_back(reason)
            return encode_with_tokenizers(self.tokenizer, documents)
        if len(spelled):
            return self._replaced(documents, ids, lengths, spelled)
        return ids, lengths

    def _spells_special(self, text: pa.Array) -> npt.NDArray[np.int64]:
        found = np.zeros(len(text), np.bool_)
        for token in self._special:
            found |= pc.match_substring(text, token).to_numpy(zero_copy_only=False)
        return np.flatnonzero(found)

    def _difference(
        self,
        documents: list[str],
        ids: npt.NDArray[Any],
        lengths: npt.NDArray[np.int64],
        skipped: npt.NDArray[np.int64],
    ) -> str:
        """How ids differ from those of `tokenizers` on the first documents of a task; empty where they do not."""
        ends = np.cumsum(lengths)
        passed = set(skipped.tolist())
        for number, document in enumerate(documents):
            if self._unchecked <= 0:
                break
            if number in passed:
                continue
            self._unchecked -= len(document)
            expected = self.tokenizer.encode(document, add_special_tokens=False).ids
            if not np.array_equal(expected, ids[ends[number] - lengths[number] : ends[number]]):
                return f"gigatoken gave other ids than tokenizers for a document that begins with {document[:40]!r}"
        return ""

    def _replaced(
        self,
        documents: list[str],
        ids: npt.NDArray[Any],
        lengths: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Takes the ids of some documents from `tokenizers`."""
        pieces = np.split(ids, np.cumsum(lengths)[:-1])
        exact, exact_lengths = encode_with_tokenizers(self.tokenizer, [documents[row] for row in rows])
        for row, piece in zip(rows, np.split(exact, np.cumsum(exact_lengths)[:-1]), strict=True):
            pieces[row] = piece
        return np.concatenate(pieces), np.array([len(piece) for piece in pieces], np.int64)

    def _with_ends(self, ids: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> tuple[Tokens, npt.NDArray[np.int32]]:
        # all documents at once: the places of the ends follow from the lengths, and the ids fill the places between
        ended = lengths + 1
        tokens = np.empty(len(ids) + len(lengths), self.dtype)
        last = np.cumsum(ended) - 1
        inside = np.ones(len(tokens), np.bool_)
        inside[last] = False
        tokens[inside] = ids
        tokens[last] = self.end_of_text
        return tokens, ended.astype(np.int32)


class Engines(NamedTuple):
    """`fast`: gigatoken's tokenizer where it knows this one, else None and the `reason`. `special`: the special tokens as
    text. `vocabulary`: one more than the largest id."""

    tokenizer: Tokenizer
    fast: Any
    reason: str
    special: tuple[str, ...]
    vocabulary: int


@lru_cache(maxsize=2)
def load_engines(content: bytes) -> Engines:
    """Both engines of a tokenizer; once a process."""
    import gigatoken

    tokenizer = load_tokenizer(content, "tokenizer.json")
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        fast, reason = gigatoken.Tokenizer.from_json(content), ""
    except (RuntimeError, ValueError) as error:
        fast, reason = None, f"gigatoken does not know this tokenizer: {str(error).splitlines()[0]}"
    special = tuple(token["content"] for token in orjson.loads(content).get("added_tokens", []))
    return Engines(tokenizer, fast, reason, special, vocabulary_size(tokenizer))


def encode_with_tokenizers(
    tokenizer: Tokenizer, documents: list[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids one after the other and lengths, by the `tokenizers` library."""
    encoded = tokenizer.encode_batch_fast(documents, add_special_tokens=False)
    lengths = np.array([len(one.ids) for one in encoded], np.int64)
    ids = np.concatenate([np.asarray(one.ids, np.int64) for one in encoded]) if len(encoded) else np.empty(0, np.int64)
    return ids, lengths
