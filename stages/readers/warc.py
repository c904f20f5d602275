"""WARC and WET files into documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import pyarrow as pa

from tokenmill.stages.readers.batch_builder import BatchBuilder
from tokenmill.stages.readers.compression import MAGIC, PIECE_BYTES, TooLarge, compression_of, pieces
from tokenmill.stages.readers.dates import seconds_of
from tokenmill.stages.readers.http import BodyError, Response, parse_response
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.readers.warc_records import Record, find_record, records
from tokenmill.stages.stage import Verdicts
from tokenmill.stages.text.unicode import valid_utf8

HEADER_ROOM = 1 << 20
"""Bytes that a record may be longer than `max_document_bytes`, for its HTTP header."""

MAX_RESTARTS = 20
"""Broken records of a plain file after which a further one may cost those that it swallowed: keeps time linear in the file."""

DOCUMENTS = ("response", "resource", "conversion", "revisit")
NO_DOCUMENTS = ("warcinfo", "request", "metadata", "continuation")
HTML_TYPES = ("text/html", "application/xhtml+xml")


def read_warc(file: BinaryIO, *, options: ReadOptions) -> Iterator[tuple[pa.RecordBatch, Verdicts]]:
    """Reads all records that can be documents: responses, resources, conversions (WET) and revisits.

    Rules: `read.revisit`, `read.http_status` (not 2xx), `read.not_html`, `read.empty`. Failures: `read.truncated`,
    `read.corrupt`, `read.too_large`, `read.body`, `read.empty_file`.
    """
    head = file.read(4)
    builder = BatchBuilder("text" if options.format == "wet" else "html")
    if not head:
        builder.fail("", 0, 0, "read.empty_file", "the file is empty; fetch it again or take it out of the source")
    else:
        compression, limit = compression_of(head), options.max_document_bytes + HEADER_ROOM
        file.seek(0)
        holds_records = False
        for record in records(pieces(file, compression), limit) if compression else _plain_records(file, limit):
            holds_records = True
            if record.type == "conversion" and len(builder) == 0 and builder.position == 0:
                builder.content = "text"
            _enter(builder, record, options)
            if builder.is_full:
                yield builder.take()
        if not holds_records:
            builder.fail("", 0, 0, "read.empty_file", "the file holds no record; fetch it again")
    if len(builder) or not builder.position:
        yield builder.take()


def _plain_records(file: BinaryIO, limit: int) -> Iterator[Record]:
    """The records of a file that is not compressed. After a broken one the search for the next starts right behind its first
    byte, since by a wrong length it may have swallowed others."""
    start: int | None = 0
    restarts = 0
    while start is not None:
        file.seek(start)
        base, start = start, None
        for record in records(pieces(file, None), limit):
            offset = base + record.offset
            yield replace(record, offset=offset)
            if record.error and restarts < MAX_RESTARTS:
                restarts += 1
                start = _next_record(file, offset + 1)
                break


def _next_record(file: BinaryIO, begin: int) -> int | None:
    """Where the next record starts after a byte of a plain file; None where none does."""
    file.seek(begin)
    window, at = b"", begin
    while data := file.read(PIECE_BYTES):
        window += data
        found = find_record(window)
        if found >= 0:
            return at + found
        kept = min(len(window), 64)  # the line that starts a record may stand across the border of two pieces
        at += len(window) - kept
        window = window[len(window) - kept :]
    return None


def _enter(builder: BatchBuilder, record: Record, options: ReadOptions) -> None:
    url, offset = record.url, record.offset
    builder.describe(date=seconds_of(record.date))
    if record.error:
        message = f"at byte {offset:,}: {record.error}; fetch the file again, or accept the loss"
        builder.fail(url, offset, record.length, record.rule, message)
    elif record.type in NO_DOCUMENTS:
        return
    elif record.type not in DOCUMENTS:
        message = f"at byte {offset:,}: WARC-Type is {record.type[:40]!r}, none that WARC/1.1 defines"
        builder.fail(url, offset, record.length, "read.corrupt", message)
    elif record.type == "revisit":
        builder.drop(url, offset, record.content or b"", "read.revisit")
    elif record.content is None:
        _fail_too_large(builder, record, options, f"{record.length:,} bytes")
    elif record.type == "conversion":
        _enter_text(builder, record, options)
    else:
        _enter_page(builder, record, options)


def _fail_too_large(builder: BatchBuilder, record: Record, options: ReadOptions, size: str) -> None:
    message = f"has {size}, max_document_bytes is {options.max_document_bytes:,}: raise it in the source to keep it"
    builder.fail(record.url, record.offset, record.length, "read.too_large", message)


def _enter_text(builder: BatchBuilder, record: Record, options: ReadOptions) -> None:
    assert record.content is not None
    if len(record.content) > options.max_document_bytes:
        _fail_too_large(builder, record, options, f"{len(record.content):,} bytes")
    elif not record.content.strip():
        builder.drop(record.url, record.offset, record.content, "read.empty")
    elif builder.content == "html":
        builder.drop(record.url, record.offset, record.content, "read.not_html")
    else:
        builder.keep(record.url, record.offset, valid_utf8(record.content))


def _enter_page(builder: BatchBuilder, record: Record, options: ReadOptions) -> None:
    try:
        page = page_of(record, options)
    except TooLarge as error:
        _fail_too_large(builder, record, options, str(error))
        return
    except (BodyError, MemoryError) as error:  # a zstd frame may claim any size, and zstandard allocates it
        message = f"at byte {record.offset:,}: {str(error) or 'its body claims more bytes than there is memory'}"
        builder.fail(record.url, record.offset, record.length, "read.body", message)
        return
    if page.status and not 200 <= page.status < 300:
        builder.drop(record.url, record.offset, page.body, "read.http_status")
    elif not page.body.strip(b" \t\r\n\0"):
        builder.drop(record.url, record.offset, page.body, "read.empty")
    elif builder.content == "text" or not is_html(page):
        builder.drop(record.url, record.offset, page.body, "read.not_html")
    else:
        builder.keep(record.url, record.offset, page.body, page.charset)


def page_of(record: Record, options: ReadOptions) -> Response:
    """The page that a response or resource record holds. Raises `TooLarge`, `BodyError`."""
    assert record.content is not None
    if record.content.startswith(b"HTTP/") or "application/http" in record.content_type:
        return parse_response(record.content, options.max_document_bytes)
    if len(record.content) > options.max_document_bytes:
        raise TooLarge(f"{len(record.content):,} bytes")
    return Response(0, record.content_type.partition(";")[0].strip(), None, record.content)


def is_html(page: Response) -> bool:
    """Whether a page is HTML by its declared type, or without one by its first bytes."""
    if page.type:
        return page.type in HTML_TYPES
    head = page.body[:1024].lower()
    return any(mark in head for mark in (b"<html", b"<!doctype html", b"<body"))


def payload_at(file: BinaryIO, options: ReadOptions, offset: int) -> bytes | None:
    """The payload of the record at an offset (the decoded HTTP body), or None where there is none."""
    file.seek(offset)
    head = file.read(4)
    compression = compression_of(head)
    if compression is None and not head.startswith(b"WARC"):
        return None
    file.seek(offset)
    if compression == "zstd" and not head.startswith(MAGIC["zstd"]):
        return None
    record = next(records(pieces(file, compression), options.max_document_bytes + HEADER_ROOM), None)
    if record is None or record.error or record.content is None:
        return None
    if record.type == "conversion":
        return record.content
    try:
        return page_of(record, options).body
    except (TooLarge, BodyError, MemoryError):
        return record.content
