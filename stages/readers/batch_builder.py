"""Rows of read records, gathered into batches of bounded size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa

from tokenmill.stages.stage import DATE, DROPPED, FAILED, KEPT, Verdicts

BATCH_BYTES = 8 * 1024 * 1024
BATCH_ROWS = 4096

Row = tuple[str, int, int, str, int, str | None, str | None]
"""URL, offset, bytes, digest, fate, rule, message."""


@dataclass
class BatchBuilder:
    """Collects rows until a batch is full; positions continue from batch to batch. `content`: what documents are made of."""

    content: Literal["html", "text"]
    position: int = 0
    _date: int | None = None
    _metadata: bytes | None = None
    _size: int = 0
    _rows: list[Row] = field(default_factory=list)
    _payloads: list[bytes | None] = field(default_factory=list)
    _charsets: list[str | None] = field(default_factory=list)
    _dates: list[int | None] = field(default_factory=list)
    _metadatas: list[bytes | None] = field(default_factory=list)

    def describe(self, *, date: int | None, metadata: bytes | None = None) -> None:
        """Sets what is known of the record that is entered next. `date`: seconds since 1970; `metadata`: a JSON object."""
        self._date, self._metadata = date, metadata

    def keep(self, url: str, offset: int, payload: bytes, charset: str | None = None) -> None:
        """Enters a document. Text must be valid UTF-8."""
        self._add(url, offset, payload, KEPT, None, None)
        self._payloads[-1] = payload
        self._charsets[-1] = charset

    def drop(self, url: str, offset: int, payload: bytes, rule: str) -> None:
        """Enters a record that is not a document."""
        self._add(url, offset, payload, DROPPED, rule, None)

    def fail(self, url: str, offset: int, size: int, rule: str, message: str) -> None:
        """Enters a record that could not be read; `size`: its bytes as far as known."""
        self._enter((url, offset, size, "", FAILED, rule, message))

    def _add(self, url: str, offset: int, payload: bytes, fate: int, rule: str | None, message: str | None) -> None:
        digest = hashlib.blake2b(payload, digest_size=16).hexdigest()
        self._enter((url, offset, len(payload), digest, fate, rule, message))
        self._size += len(payload)

    def _enter(self, row: Row) -> None:
        self._rows.append(row)
        self._payloads.append(None)
        self._charsets.append(None)
        self._dates.append(self._date)
        self._metadatas.append(self._metadata)
        self._size += len(self._metadata or b"")
        self._date = self._metadata = None

    @property
    def is_full(self) -> bool:
        """Whether a batch should be taken."""
        return self._size >= BATCH_BYTES or len(self._rows) >= BATCH_ROWS

    def __len__(self) -> int:
        return len(self._rows)

    def take(self) -> tuple[pa.RecordBatch, Verdicts]:
        """The rows collected so far as a batch with its verdicts; the next batch starts empty."""
        urls, offsets, sizes, digests, fates, rules, messages = (
            zip(*self._rows, strict=True) if self._rows else ((),) * 7
        )
        count = len(self._rows)
        columns = {
            "position": pa.array(np.arange(self.position, self.position + count, dtype=np.int32)),
            "url": pa.array([clean_url(url) for url in urls], pa.string()),
            "date": pa.array(self._dates, pa.int64()).cast(DATE),
            "metadata": pa.array(self._metadatas, pa.binary()).cast(pa.string()),
        }
        if self.content == "html":
            columns["html"] = pa.array(self._payloads, pa.binary())
            columns["charset"] = pa.array(self._charsets, pa.string())
        else:
            columns["text"] = pa.array(self._payloads, pa.binary()).cast(pa.string())
        measures = {
            "offset": pa.array(offsets, pa.int64()),
            "bytes": pa.array(sizes, pa.int64()),
            "digest": pa.array(digests, pa.string()),
        }
        verdicts = Verdicts.of(
            np.array(fates, np.uint8), rule=list(rules), message=[clean(m) for m in messages], measures=measures
        )
        self.position += count
        self._rows, self._payloads, self._charsets, self._dates, self._metadatas = [], [], [], [], []
        self._size = 0
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns)), verdicts


def clean_url(url: str) -> str:
    """A URL as valid UTF-8 of bounded length."""
    return url[:4096].encode("utf-8", "replace").decode()


def clean(message: str | None) -> str | None:
    """A message as valid UTF-8 of bounded length."""
    return None if message is None else message[:1000].encode("utf-8", "replace").decode()
