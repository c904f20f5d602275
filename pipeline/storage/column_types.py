"""Types of columns that come batch by batch, where a stage leaves it to Arrow to infer them.

Arrow sees one batch alone: it calls a column null where all its values are missing, and int64 where they all happen to be
whole. The type of the column is the one that holds the values of all batches, in whatever order they come.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pyarrow as pa

from tokenmill.pipeline.errors import RunError

MISFITS = (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError)
"""What pyarrow raises where one type does not go into another."""


def widened(one: pa.DataType, other: pa.DataType, column: str) -> pa.DataType:
    """The type that holds the values of both; null gives way to any. `column`: as "stage:name".

    Raises `RunError` where there is none.
    """
    if one == other:
        return one
    schemas = [pa.schema({column: kind}) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(column).type
    except MISFITS as error:
        raise _conflict(column, one, other) from error


def with_types(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The table with the columns of these names ("stage:name") as these types. Raises `RunError` for values that do not fit."""
    for place, field in enumerate(table.schema):
        if (kind := types.get(field.name, field.type)) != field.type:
            try:
                table = table.set_column(place, field.name, table.column(place).cast(kind))
            except MISFITS as error:
                raise _conflict(field.name, field.type, kind) from error
    return table


def _conflict(column: str, one: pa.DataType, other: pa.DataType) -> RunError:
    stage, _, name = column.partition(":")
    return RunError(
        f"stage {stage!r} gave the column {name!r} as {one} for some documents and as {other} for others, which do not go "
        "together; have it say the type: pa.array(values, type)"
    )


def joined(pieces: list[pa.RecordBatch]) -> pa.Table:
    """Batches as one table with the types that hold them all; nulls where a batch lacks a column that another has.

    Raises `RunError` where no type does: one stage's batches are checked before (`widened`), so two stages gave the column.
    """
    try:
        return pa.concat_tables([pa.Table.from_batches([piece]) for piece in pieces], promote_options="permissive")
    except MISFITS as error:
        raise RunError(
            f"documents that come from several stages have columns that do not go together: {error}"
        ) from error


def type_name(kind: pa.DataType) -> str:
    """A type as text: its own name where Arrow reads that again, else its IPC form in base64."""
    name = str(kind)
    try:
        if pa.type_for_alias(name) == kind:
            return name
    except ValueError:
        pass
    return "ipc:" + base64.b64encode(pa.schema({"": kind}).serialize()).decode()


def type_of(name: str) -> pa.DataType:
    """The type that `type_name` gave this text."""
    if name.startswith("ipc:"):
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(name[4:]))).field(0).type
    return pa.type_for_alias(name)
