"""The metadata of a document: what its JSONL or Parquet row has beside text, URL, id and date, as one JSON object.

JSON cannot represent some values of Parquet columns. Timestamps, dates and times become ISO 8601 text (UTC, with a Z where
the column has a zone), decimals their digits as text, bytes base64 text, NaN and infinities "NaN", "Infinity" and "-Infinity",
maps objects; null columns are left out.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.text.unicode import to_utf8

METADATA_BYTES = 65_536
"""Most bytes of a document's metadata in UTF-8. Of larger ones the longest fields are left out; `_left_out` says how many they
were, of how many bytes, and the first names."""
LEFT_OUT = "_left_out"
NAMES_SHOWN = 10
NAME_CHARACTERS = 100


def field_of(row: Mapping[str, Any], field: str) -> Any:
    """A field by name; dots lead into objects where no field has the whole name. None where there is none."""
    if field in row or "." not in field:
        return row.get(field)
    value: Any = row
    for name in field.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def without(row: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """A row without some fields, by the names that `field_of` takes; objects that this leaves empty are left out, too."""
    rest = dict(row)
    for field in fields:
        if field in row:
            rest.pop(field, None)
        elif "." in field:
            _remove(rest, field.split("."))
    return rest


def _remove(row: dict[str, Any], path: Sequence[str]) -> None:
    inner = row.get(path[0])
    if len(path) == 1:
        row.pop(path[0], None)
    elif isinstance(inner, dict):
        row[path[0]] = inner = dict(inner)
        _remove(inner, path[1:])
        if not inner:
            del row[path[0]]


def paths_of(fields: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    """The path to each field from the columns of a Parquet file."""
    return [[field] if field in names else field.split(".") for field in fields]


def without_paths(column: pa.Array, paths: Sequence[Sequence[str]]) -> pa.Array:
    """A column without the fields of its structs that paths lead to."""
    if not paths or not pa.types.is_struct(column.type):
        return column
    kept = {
        field.name: without_paths(inner, below)
        for field, inner in zip(column.type, column.flatten(), strict=True)
        if [] not in (below := [path[1:] for path in paths if path[0] == field.name])
    }
    return pa.StructArray.from_arrays(list(kept.values()), list(kept), mask=pc.is_null(column))


def chosen(row: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Some fields of a row under their given names; those that it does not have are left out."""
    found = ((field, field_of(row, field)) for field in fields)
    return {field: value for field, value in found if value is not None}


def metadata_of(row: Mapping[str, Any], options: ReadOptions) -> bytes | None:
    """The metadata of a row under `options`, see `metadata_json`."""
    if options.metadata == "none":
        return None
    return metadata_json(
        without(row, options.named_fields) if options.metadata == "all" else chosen(row, options.metadata)
    )


def metadata_json(fields: Mapping[str, Any]) -> bytes | None:
    """Fields as a JSON object of at most about `METADATA_BYTES`; None where there are none."""
    if not fields:
        return None
    whole = _json(fields)
    if whole is not None and len(whole) <= METADATA_BYTES:
        return whole
    each = {name: _json({name: value}) for name, value in fields.items()}
    kept: dict[str, Any] = {}
    room = METADATA_BYTES
    for name, encoded in sorted(each.items(), key=lambda item: len(item[1] or b"")):
        if encoded is not None and len(encoded) <= room:
            kept[name] = fields[name]
            room -= len(encoded)
    dropped = [name for name in fields if name not in kept]
    left_out = {
        "fields": len(dropped),
        "bytes": sum(len(each[name] or b"") for name in dropped),
        "names": [name[:NAME_CHARACTERS] for name in dropped[:NAMES_SHOWN]],
    }
    return _json({name: value for name, value in fields.items() if name in kept} | {LEFT_OUT: left_out})


def _json(fields: Mapping[str, Any]) -> bytes | None:
    """None for what is nested too deep. Surrogates without a partner become U+FFFD."""
    try:
        return orjson.dumps(fields)
    except TypeError:  # surrogates, numbers of more than 64 bits, nested deep
        try:
            text = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (RecursionError, ValueError):
            return None
        return to_utf8(text)


def plain(column: pa.Array) -> list[Any]:
    """A column of any type as values that JSON can represent, see the module's docstring."""
    kind = column.type
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain(column.storage)
    if types.is_dictionary(kind):
        return plain(column.dictionary_decode())
    if types.is_struct(kind):
        return _objects(column)
    if types.is_map(kind):
        pairs = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        rows = plain(column.cast(pairs))
        return [None if row is None else {str(one.get("key")): one.get("value") for one in row} for row in rows]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        values = iter(plain(column.flatten()))
        lengths = pc.list_value_length(column).to_pylist()
        return [None if length is None else list(itertools.islice(values, length)) for length in lengths]
    return _scalars(column)


def _objects(column: pa.Array) -> list[Any]:
    names = [column.type.field(number).name for number in range(column.type.num_fields)]
    children = [plain(child) for child in column.flatten()]
    rows: Iterable[tuple[Any, ...]] = zip(*children, strict=True) if children else itertools.repeat((), len(column))
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None and value != {}}
        if there
        else None
        for row, there in zip(rows, pc.is_valid(column).to_pylist(), strict=True)
    ]


def _scalars(column: pa.Array) -> list[Any]:
    kind = column.type
    types = pa.types
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_null(kind):
        return column.to_pylist()
    if types.is_floating(kind):
        return [_number(value) for value in column.cast(pa.float64()).to_pylist()]
    if types.is_string(kind) or types.is_large_string(kind):
        texts = column.cast(pa.large_binary()).to_pylist()
        return [None if text is None else text.decode("utf-8", "replace") for text in texts]
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return [None if value is None else base64.b64encode(value).decode() for value in column.to_pylist()]
    if types.is_timestamp(kind) or types.is_date(kind):
        zone = "Z" if types.is_timestamp(kind) and kind.tz else ""
        values = (
            column.cast(pa.timestamp(kind.unit))
            if zone
            else column.cast(pa.date32())
            if types.is_date(kind)
            else column
        )
        moments = np.datetime_as_string(values.to_numpy(zero_copy_only=False))
        return [None if moment == "NaT" else f"{moment}{zone}" for moment in moments.tolist()]
    return column.cast(pa.string()).to_pylist()


def _number(value: float | None) -> float | str | None:
    if value is None or np.isfinite(value):
        return value
    return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
