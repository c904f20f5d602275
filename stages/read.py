"""Reading: files of any known format into batches of documents, one row for every record, whatever became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from stages.stage import Verdicts

READ_VERSION = 4
"""Raised when the same file and options would give other documents."""

Format = Literal["warc", "wet", "jsonl", "parquet", "text"]
COMPRESSIONS = (".gz", ".zst", ".lz4")
ENDINGS: dict[str, Format] = {
    ".warc": "warc",
    ".wet": "wet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}


class ReadOptions(BaseModel):
    """How the files of a source are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["auto", "warc", "wet", "jsonl", "parquet", "text"] = Field(
        default="auto", description="What the files are; `auto` goes by their names."
    )
    text_field: str = Field(
        default="text", description="JSONL, Parquet: field that holds the text; dots lead into objects."
    )
    url_field: str = Field(default="url", description="JSONL, Parquet: field that holds the URL, where there is one.")
    id_field: str = Field(
        default="id", description="JSONL, Parquet: field that stands for the URL where that is missing."
    )
    max_document_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1,
        description="A document larger than this many bytes fails, by name; it costs no other.",
    )


def format_of(path: str, options: ReadOptions) -> Format:
    """The format of a file. Raises ValueError where its name does not tell."""
    if options.format != "auto":
        return options.format
    name = path.rsplit("/", 1)[-1].lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    if name.endswith((".warc.wet", ".wet")):
        return "wet"
    for ending, known in ENDINGS.items():
        if name.endswith(ending):
            return known
    raise ValueError(
        f"cannot tell what {path!r} is from its name; known endings: {', '.join(ENDINGS)} "
        f"(with {', '.join(COMPRESSIONS)}), or give `format:`"
    )


def provides(file_format: Format) -> Literal["html", "text"]:
    """What a format's documents hold: pages that must be extracted, or text."""
    return "html" if file_format == "warc" else "text"


def read(
    file: BinaryIO, *, path: str, options: ReadOptions, start: int = 0, end: int | None = None
) -> Iterator[tuple[pa.RecordBatch, Verdicts]]:
    """Reads a file, or a range of it, into batches of bounded size.

    `start`, `end`: bytes of a plain JSONL file (the lines that begin there), or row groups of a Parquet file. Each batch has
    `position` (running over all records), `url`, and `html` with `charset` (from the HTTP header) or `text`; its verdicts say
    which records are no documents or failed, and measure `offset`, `bytes` and `digest` (hex blake2b-128 of the payload). A
    file that is broken gives a failed row for each place where it is. Raises OSError where the file cannot be read.
    """
    from stages.read_jsonl import read_jsonl
    from stages.read_parquet import read_parquet
    from stages.read_text import read_text
    from stages.read_warc import read_warc

    readers: dict[Format, Callable[..., Iterator[tuple[pa.RecordBatch, Verdicts]]]] = {
        "warc": read_warc,
        "wet": read_warc,
        "jsonl": read_jsonl,
        "parquet": read_parquet,
        "text": read_text,
    }
    file_format = format_of(path, options)
    bounds: dict[str, Any] = {"start": start, "end": end} if file_format in ("jsonl", "parquet") else {}
    yield from readers[file_format](file, options=options, **bounds)


def payload_at(file: BinaryIO, *, path: str, options: ReadOptions, offset: int) -> bytes | None:
    """The payload of the WARC record at an offset as `read` gave it; None for other formats and for what is no record."""
    from stages.read_warc import payload_at as warc_payload_at

    return warc_payload_at(file, options, offset) if format_of(path, options) in ("warc", "wet") else None
