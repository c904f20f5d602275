"""JSON lines into documents."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import orjson
import pyarrow as pa

from tokenmill.stages.readers.batch_builder import BatchBuilder
from tokenmill.stages.readers.compression import PIECE_BYTES, compression_of, pieces
from tokenmill.stages.readers.dates import seconds_of
from tokenmill.stages.readers.metadata import field_of, metadata_of
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.stage import Verdicts
from tokenmill.stages.text.unicode import to_utf8


def read_jsonl(
    file: BinaryIO, *, options: ReadOptions, start: int = 0, end: int | None = None
) -> Iterator[tuple[pa.RecordBatch, Verdicts]]:
    """Reads the lines of a file, or those that begin in the bytes `start` to `end` of a plain one. Blank lines are none.

    Failures: `read.json` (no JSON object), `read.wrong_field` (no text where `text_field` says), `read.too_large`,
    `read.truncated` and `read.corrupt` (compressed data), `read.empty_file`. An empty text is dropped by `read.empty`. What is
    no UTF-8, and surrogates without a partner, become U+FFFD.
    """
    builder = BatchBuilder("text")
    lines = _ranged_lines(file, start, end, options) if end is not None else _compressed_lines(file, options)
    for line in lines:
        if line.error:
            builder.fail("", line.offset, 0, line.rule, f"at byte {line.offset:,}: {line.error}")
        elif line.content and not line.content.isspace():
            _enter(builder, line.offset, line.content, options)
        if builder.is_full:
            yield builder.take()
    if end is None and not len(builder) and not builder.position:
        builder.fail("", 0, 0, "read.empty_file", "the file holds no line that is not blank; fetch it again")
    if len(builder) or not builder.position:
        yield builder.take()


def _enter(builder: BatchBuilder, offset: int, line: bytes, options: ReadOptions) -> None:
    try:
        row = parse_line(line if offset else line.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        builder.fail("", offset, len(line), "read.json", f"the line at byte {offset:,} is no JSON object: {error}")
        return
    builder.describe(date=seconds_of(field_of(row, options.date_field)), metadata=metadata_of(row, options))
    text = field_of(row, options.text_field)
    url = field_of(row, options.url_field)
    if not isinstance(url, str) or not url:
        identity = field_of(row, options.id_field)
        url = str(identity) if isinstance(identity, str | int) else ""
    if not isinstance(text, str):
        kind = "is missing" if text is None else f"is a {type(text).__name__}, not a string"
        fields = ", ".join(list(row)[:8])
        message = (
            f"the line at byte {offset:,}: field {options.text_field!r} {kind} (fields here: {fields}); see text_field"
        )
        builder.fail(url, offset, len(line), "read.wrong_field", message)
        return
    payload = to_utf8(text)
    if len(payload) > options.max_document_bytes:
        message = (
            f"has {len(payload):,} bytes, max_document_bytes is {options.max_document_bytes:,}: raise it to keep it"
        )
        builder.fail(url, offset, len(payload), "read.too_large", message)
    elif not payload or payload.isspace():
        builder.drop(url, offset, payload, "read.empty")
    else:
        builder.keep(url, offset, payload)


def parse_line(line: bytes) -> dict[str, Any]:
    """A line as an object, with U+FFFD for what is no UTF-8. Raises ValueError. Surrogates without a partner, which JSON can
    spell and UTF-8 cannot, are let through."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        text = line.decode("utf-8", "replace")
        try:
            row = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            if "\\u" not in text:
                raise ValueError(str(error)) from error
            try:
                row = json.loads(text)
            except (ValueError, RecursionError):
                raise ValueError(str(error)) from error
    if not isinstance(row, dict):
        raise ValueError(f"it is a {type(row).__name__}")
    return row


class Line(NamedTuple):
    """`offset`: its first byte in the decompressed file. `error`: why there is none, or nothing; `rule`: the failure's name."""

    offset: int
    content: bytes = b""
    rule: str = ""
    error: str = ""

    @staticmethod
    def too_long(offset: int, limit: int) -> Line:
        """A line that was passed over."""
        error = f"the line has more than {limit:,} bytes (twice max_document_bytes)"
        return Line(offset, rule="read.too_large", error=error)


def _compressed_lines(file: BinaryIO, options: ReadOptions) -> Iterator[Line]:
    head = file.read(4)
    if not head:
        error = "the file is empty; fetch it again or take it out of the source"
        yield Line(0, rule="read.empty_file", error=error)
        return
    file.seek(0)
    limit = 2 * options.max_document_bytes + PIECE_BYTES
    pending = bytearray()
    start = 0
    passing = False
    for piece in pieces(file, compression_of(head)):
        pending += piece.data
        if passing:
            ends = pending.find(b"\n") + 1
            passing = not ends
            start += ends or len(pending)
            del pending[: ends or len(pending)]
        cut = pending.rfind(b"\n") + 1
        if cut:
            with memoryview(pending) as view:
                block = bytes(view[:cut])
            del pending[:cut]
            for line in block.split(b"\n")[:-1]:
                yield Line(start, line)
                start += len(line) + 1
        if piece.error:
            lost = "; the line that it broke is lost" if pending and not passing else ""
            yield Line(start, rule=piece.rule, error=piece.error + lost)
            start += len(pending)
            pending.clear()
            passing = False
        if len(pending) > limit:
            if not passing:
                yield Line.too_long(start, limit)
            passing = True
            start += len(pending)
            pending.clear()
    if pending and not passing:
        yield Line(start, bytes(pending))


def _ranged_lines(file: BinaryIO, start: int, end: int, options: ReadOptions) -> Iterator[Line]:
    """A line belongs to the range in which it starts."""
    limit = 2 * options.max_document_bytes + PIECE_BYTES
    at = start
    if start:
        file.seek(start - 1)
        at = start - 1
        while True:  # to the end of the line that starts before the range
            part = file.readline(PIECE_BYTES)
            at += len(part)
            if not part or part.endswith(b"\n"):
                break
    while at < end:
        line = file.readline(limit)
        if not line:
            return
        offset = at
        at += len(line)
        if len(line) == limit and not line.endswith(b"\n"):
            yield Line.too_long(offset, limit)
            while not line.endswith(b"\n") and (line := file.readline(PIECE_BYTES)):
                at += len(line)
            continue
        yield Line(offset, line.removesuffix(b"\n"))
