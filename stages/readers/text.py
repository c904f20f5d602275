"""Plain text files into documents: one file, one document."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from tokenmill.stages.readers.batch_builder import BatchBuilder
from tokenmill.stages.readers.compression import compression_of, pieces
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.stage import Verdicts
from tokenmill.stages.text.unicode import valid_utf8

REPLACEMENT = "\ufffd".encode()
MAX_REPLACED = 0.1
"""Share of bytes that may be no UTF-8: a text with a few broken places is one, a binary file or UTF-16 is none."""


def read_text(file: BinaryIO, *, options: ReadOptions) -> Iterator[tuple[pa.RecordBatch, Verdicts]]:
    """Reads a file as UTF-8 (U+FFFD for what is none; a byte order mark is left out).

    Failures: `read.empty_file`, `read.too_large`, `read.truncated`, `read.corrupt`, `read.not_utf8` (a file of another
    encoding, or none of text). A file of white space alone is dropped by `read.empty`.
    """
    builder = BatchBuilder("text")
    head = file.read(4)
    file.seek(0)
    content = bytearray()
    failure: tuple[str, str] | None = None if head else ("read.empty_file", "the file is empty")
    for piece in pieces(file, compression_of(head)) if head else ():
        content += piece.data
        if piece.error:
            failure = (piece.rule, piece.error)
            break
        if len(content) > options.max_document_bytes:
            message = (
                f"has more than max_document_bytes ({options.max_document_bytes:,}): raise it in the source to keep it"
            )
            failure = ("read.too_large", message)
            break
    text = valid_utf8(bytes(content).removeprefix(codecs.BOM_UTF8))
    replaced = text.count(REPLACEMENT) - content.count(REPLACEMENT)
    if not failure and replaced > MAX_REPLACED * len(content):
        message = f"is not UTF-8: {replaced:,} of {len(content):,} bytes begin no character; convert it, or take it out"
        failure = ("read.not_utf8", message)
    if failure:
        builder.fail("", 0, len(content), *failure)
    elif not text or text.isspace():
        builder.drop("", 0, text, "read.empty")
    else:
        builder.keep("", 0, text)
    yield builder.take()
