"""When a document was made or fetched, by its source: seconds since 1970 in UTC."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FIRST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // SECOND
LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // SECOND
"""The years 1 to 9999: what other programs can show."""

_WITHOUT_DAY = re.compile("[0-9]{4}(-[0-9]{2})?")


def seconds_of(value: Any) -> int | None:
    """A date in whole seconds, rounded down; None where the value is no date between the years 1 and 9999.

    `value`: ISO 8601 text (a time without a zone is in UTC, a year or month alone its first day), or a number of seconds.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _seconds_of_text(value)
    is_date = isinstance(value, int | float) and not isinstance(value, bool) and FIRST <= value < LAST + 1
    return math.floor(value) if is_date else None


def _seconds_of_text(text: str) -> int | None:
    text = text.strip()
    if _WITHOUT_DAY.fullmatch(text):
        text = (text + "-01-01")[:10]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _in_range(((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // SECOND)


def _in_range(seconds: int) -> int | None:
    return seconds if FIRST <= seconds <= LAST else None


def seconds_of_column(column: pa.Array) -> list[int | None]:
    """The dates of a column of any type: timestamps (without a zone in UTC), days, texts or numbers; None from others."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("ms"))
        kind = column.type
    if pa.types.is_timestamp(kind):
        ticks = column.cast(pa.timestamp(kind.unit)).cast(pa.int64()).to_pylist()
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        return [None if tick is None else _in_range(tick // per_second) for tick in ticks]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = column.cast(pa.large_binary()).to_pylist()
        return [None if text is None else _seconds_of_text(text.decode("utf-8", "replace")) for text in texts]
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return [None] * len(column)
    return [seconds_of(value) for value in column.to_pylist()]
