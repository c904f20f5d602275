"""Plain text files into documents: one file, one document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from stages.decompress import compression_of, pieces
from stages.read import ReadOptions
from stages.read_batch import BatchBuilder
from stages.read_warc import valid_utf8
from stages.stage import Verdicts


def read_text(file: BinaryIO, *, options: ReadOptions) -> Iterator[tuple[pa.RecordBatch, Verdicts]]:
    """Reads a file as UTF-8 (U+FFFD for what is none; a byte order mark is left out).

    Failures: `read.empty_file`, `read.too_large`, `read.truncated`, `read.corrupt`.
    """
    builder = BatchBuilder("text")
    head = file.read(4)
    file.seek(0)
    content = bytearray()
    failure: tuple[str, str] | None = None if head else ("read.empty_file", "the file is empty")
    for piece in pieces(file, compression_of(head)) if head else ():
        content += piece.data
        if piece.error:
            failure = ("read.truncated" if "file ends" in piece.error else "read.corrupt", piece.error)
            break
        if len(content) > options.max_document_bytes:
            message = (
                f"has more than max_document_bytes ({options.max_document_bytes:,}): raise it in the source to keep it"
            )
            failure = ("read.too_large", message)
            break
    if failure:
        builder.fail("", 0, len(content), *failure)
    else:
        builder.keep("", 0, valid_utf8(bytes(content).removeprefix(b"\xef\xbb\xbf")))
    yield builder.take()
