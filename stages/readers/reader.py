"""The readers' entry: files of any known format into batches of documents, a row for every record, also for failed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from tokenmill.stages.readers import warc
from tokenmill.stages.readers.jsonl import read_jsonl
from tokenmill.stages.readers.options import Format, ReadOptions, format_of
from tokenmill.stages.readers.parquet import read_parquet
from tokenmill.stages.readers.text import read_text
from tokenmill.stages.stage import Verdicts

READERS: dict[Format, Callable[..., Iterator[tuple[pa.RecordBatch, Verdicts]]]] = {
    "warc": warc.read_warc,
    "wet": warc.read_warc,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "text": read_text,
}


def read(
    file: BinaryIO, *, path: str, options: ReadOptions, start: int = 0, end: int | None = None
) -> Iterator[tuple[pa.RecordBatch, Verdicts]]:
    """Reads a file, or a range of it, into batches of bounded size.

    `start`, `end`: bytes of a plain JSONL file (the lines that begin there), or row groups of a Parquet file. Each batch has
    `position` (running over all records), `url`, `date` and `metadata` (null where unknown), and `html` with `charset` (from
    the HTTP header) or `text`; its verdicts say which records are not documents or failed, and measure `offset`, `bytes` and
    `digest` (hex blake2b-128 of the payload). A file that is broken gives a failed row for each place where it is. Raises
    OSError where the file cannot be read.
    """
    file_format = format_of(path, options)
    bounds: dict[str, Any] = {"start": start, "end": end} if file_format in ("jsonl", "parquet") else {}
    yield from READERS[file_format](file, options=options, **bounds)


def payload_at(file: BinaryIO, *, path: str, options: ReadOptions, offset: int) -> bytes | None:
    """The payload of the WARC record at an offset as `read` gave it; None for other formats and for what is no record."""
    return warc.payload_at(file, options, offset) if format_of(path, options) in ("warc", "wet") else None
