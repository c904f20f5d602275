"""Parquet files into documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokenmill.stages.readers.batch_builder import BatchBuilder
from tokenmill.stages.readers.compression import PIECE_BYTES
from tokenmill.stages.readers.dates import seconds_of_column
from tokenmill.stages.readers.metadata import metadata_json, paths_of, plain, without_paths
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.stage import Verdicts
from tokenmill.stages.text.unicode import valid_utf8

ROWS_AT_A_TIME = 4
"""Few, since how long rows are is known only once they are read."""

UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What pyarrow raises on a broken file; the last on names that are no UTF-8."""


def read_parquet(
    file: BinaryIO, *, options: ReadOptions, start: int = 0, end: int | None = None
) -> Iterator[tuple[pa.RecordBatch, Verdicts]]:
    """Reads the rows of a file, or of its row groups from `start` to before `end`. A row's offset is its number.

    Failures: `read.corrupt` (the file, or a row group), `read.wrong_field`, `read.too_large`, `read.empty_file`. An empty text
    is dropped by `read.empty`. What is no UTF-8 becomes U+FFFD.
    """
    builder = BatchBuilder("text")
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=PIECE_BYTES)
        columns, problem = _columns(parquet.schema_arrow, options)
    except UNREADABLE as error:
        is_empty = not file.seek(0, 2)
        rule = "read.empty_file" if is_empty else "read.corrupt"
        builder.fail("", 0, 0, rule, "the file is empty" if is_empty else f"is no Parquet file: {error}")
        yield builder.take()
        return
    groups = range(start, parquet.num_row_groups if end is None else end)
    counts = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
    row = sum(counts[:start])
    if problem:
        builder.fail("", row, 0, "read.wrong_field", problem)
        yield builder.take()
        return
    carried = _metadata_columns(parquet.schema_arrow, options, columns)
    for group in groups:
        first_row = row
        try:
            for batch in parquet.iter_batches(ROWS_AT_A_TIME, row_groups=[group], columns=columns):
                leaf = _leaf(batch, options.text_field)
                texts = leaf.view(pa.large_binary() if pa.types.is_large_string(leaf.type) else pa.binary())
                sizes = pc.binary_length(texts).to_pylist()
                urls, identities = (_names(batch, name, columns) for name in (options.url_field, options.id_field))
                dates = _dates(batch, options.date_field, columns)
                rest = _metadata(batch, carried)
                rows = zip(texts, sizes, urls, identities, dates, rest, strict=True)
                for text, size, url, identity, date, metadata in rows:
                    builder.describe(date=date, metadata=metadata)
                    _enter(builder, row, text, size, url or identity, options)
                    row += 1
                    if builder.is_full:
                        yield builder.take()
        except UNREADABLE as error:
            message = f"row group {group}, from row {row:,}: cannot be read: {error}"
            builder.fail("", row, 0, "read.corrupt", message)
        row = first_row + counts[group]
    if len(builder) or not builder.position:
        yield builder.take()


def _columns(schema: pa.Schema, options: ReadOptions) -> tuple[list[str], str]:
    """The columns to read, and what is wrong with the text's, or nothing."""
    wanted = [*options.named_fields, *(options.metadata if isinstance(options.metadata, list) else [])]
    found: dict[str, Any] = {}
    for name in wanted:
        kind: Any = pa.struct(list(schema))
        for part in [name] if name in schema.names else name.split("."):
            place = kind.get_field_index(part) if pa.types.is_struct(kind) else -1
            kind = kind.field(place).type if place >= 0 else None
            if kind is None:
                break
        if kind is not None:
            found[name] = kind
    if options.text_field not in found:
        return [], f"has no column {options.text_field!r} (columns: {', '.join(schema.names[:12])}); see text_field"
    text = found[options.text_field]
    if not (pa.types.is_string(text) or pa.types.is_large_string(text)):
        return [], f"column {options.text_field!r} is {text}, not string"
    return list(found) if options.metadata != "all" else [*found, *(n for n in schema.names if n not in found)], ""


def _leaf(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column by name; dots lead into structs where no column has the whole name."""
    if name in batch.schema.names:
        return batch.column(name)
    first, *path = name.split(".")
    return pc.struct_field(batch.column(first), path)


def _names(batch: pa.RecordBatch, name: str, columns: list[str]) -> list[str]:
    """A column's values as text, empty for null; all empty where the column is missing."""
    if name not in columns:
        return [""] * batch.num_rows
    leaf = _leaf(batch, name)
    if pa.types.is_string(leaf.type) or pa.types.is_large_string(leaf.type):
        leaf = leaf.cast(pa.large_binary())
    values = leaf.to_pylist()
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else "" if v is None else str(v) for v in values]


def _dates(batch: pa.RecordBatch, name: str, columns: list[str]) -> list[int | None]:
    return seconds_of_column(_leaf(batch, name)) if name in columns else [None] * batch.num_rows


def _metadata_columns(schema: pa.Schema, options: ReadOptions, columns: list[str]) -> dict[str, list[list[str]]]:
    """The columns that go into the metadata, each with the paths below it that do not."""
    if options.metadata == "none":
        return {}
    if options.metadata != "all":
        return {name: [] for name in options.metadata if name in columns}
    paths = paths_of(options.named_fields, schema.names)
    below = {name: [path[1:] for path in paths if path[0] == name] for name in schema.names}
    return {name: inner for name, inner in below.items() if [] not in inner}


def _metadata(batch: pa.RecordBatch, columns: dict[str, list[list[str]]]) -> list[bytes | None]:
    if not columns:
        return [None] * batch.num_rows
    values = [plain(without_paths(_leaf(batch, name), below)) for name, below in columns.items()]
    rows = (zip(columns, row, strict=True) for row in zip(*values, strict=True))
    return [metadata_json({name: value for name, value in row if value is not None and value != {}}) for row in rows]


def _enter(builder: BatchBuilder, row: int, text: pa.Scalar, size: int | None, url: str, options: ReadOptions) -> None:
    if size is None:
        builder.fail(url, row, 0, "read.wrong_field", f"row {row:,}: {options.text_field!r} is null")
        return
    # a text that is too large is not copied even once
    payload = valid_utf8(text.as_py()) if size <= options.max_document_bytes else b""
    size = max(size, len(payload))
    if size > options.max_document_bytes:
        message = f"row {row:,} has {size:,} bytes, max_document_bytes is {options.max_document_bytes:,}"
        builder.fail(url, row, size, "read.too_large", message)
    elif not payload or payload.isspace():
        builder.drop(url, row, payload, "read.empty")
    else:
        builder.keep(url, row, payload)
