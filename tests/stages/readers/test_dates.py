"""Dates of documents: what every reader gives, from any spelling and type, and that they reach stages and the ledger."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import config_file, jsonl_file, ledger, run, text_of
from tests.stages.readers.test_reader import PAGES, SOUND, parquet_bytes, read_all
from tests.warc_writer import DATE, record
from tokenmill.stages.readers.dates import FIRST, LAST, seconds_of, seconds_of_column
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.readers.reader import read

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
SECONDS = int(NOON.timestamp())
MIDNIGHT = SECONDS - 12 * 3600


def dates(path: str, data: bytes, **options: object) -> list[datetime | None]:
    return [value for batch, _ in read_all(path, data, **options) for value in batch["date"].to_pylist()]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-02-29T12:00:00Z", SECONDS),
        ("2024-02-29T12:00:00", SECONDS),
        ("2024-02-29 12:00:00.999999999", SECONDS),
        ("2024-02-29T13:30:00+01:30", SECONDS),
        ("2024-02-29", MIDNIGHT),
        ("20240229T120000Z", SECONDS),
        (" 2024-02 ", MIDNIGHT - 28 * 86_400),
        ("2024", MIDNIGHT - 59 * 86_400),
        (SECONDS, SECONDS),
        (SECONDS + 0.9, SECONDS),
        (-0.5, -1),
        ("1969-12-31T23:59:59.5", -1),
        (LAST, LAST),
        (FIRST, FIRST),
        (LAST + 1, None),
        (1000 * SECONDS, None),
        (10**400, None),
        ("0001-01-01T00:00:00+01:00", None),
        ("2023-02-29", None),
        ("yesterday", None),
        ("", None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (None, None),
        ({"year": 2024}, None),
    ],
)
def test_a_date_is_read_as_it_is_spelled(value: Any, expected: int | None) -> None:
    assert seconds_of(value) == expected


@settings(max_examples=200)
@given(st.one_of(st.text(), st.floats(), st.integers(), st.datetimes(timezones=st.timezones()).map(datetime.isoformat)))
def test_any_value_is_a_date_in_range_or_none(value: Any) -> None:
    found = seconds_of(value)
    assert found is None or FIRST <= found <= LAST


@pytest.mark.parametrize(
    "column",
    [
        pa.array([NOON, None], pa.timestamp("ns", tz="Asia/Tokyo")),
        pa.array([NOON.replace(tzinfo=None), None], pa.timestamp("us")),
        pa.array(["2024-02-29T12:00:00Z", "\u00fc"], pa.large_string()),
        pa.array(["2024-02-29T12:00:00Z", None]).dictionary_encode(),
        pa.array([SECONDS, None], pa.int64()),
        pa.array([SECONDS + 0.5, None], pa.float64()),
        pa.array([Decimal(SECONDS), None], pa.decimal128(20, 3)),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_all_types(column: pa.Array) -> None:
    assert seconds_of_column(column) == [SECONDS, None]


def test_days_and_what_is_no_date() -> None:
    assert seconds_of_column(pa.array([date(2024, 2, 29), None])) == [MIDNIGHT, None]
    assert seconds_of_column(pa.array([date(2024, 2, 29)], pa.date64())) == [MIDNIGHT]
    assert seconds_of_column(pa.array([2**31 - 1], pa.int32()).cast(pa.date32())) == [None]
    assert seconds_of_column(pa.array([[1]])) == [None]


@pytest.mark.parametrize("path", SOUND)
def test_readers_give_the_date_of_each_record(path: str) -> None:
    known = datetime.fromisoformat(DATE) if ".warc" in path else None
    found = dates(path, SOUND[path])
    assert found == [known] * len(found)


def test_a_date_that_is_broken_costs_no_document() -> None:
    broken = PAGES[0].replace(f"WARC-Date: {DATE}".encode(), b"WARC-Date: \xff2026-99-99")
    conversion = record("http://x/", b"Text.", "conversion", "text/plain")
    assert dates("a.warc", broken + PAGES[1]) == [None, datetime.fromisoformat(DATE)]
    assert dates("a.wet", conversion) == [datetime.fromisoformat(DATE)]


def test_fields_of_dates_by_name() -> None:
    values: list[Any] = [NOON.isoformat(), SECONDS, "soon", None, [1], {"made": 1}]
    lines = "".join(
        json.dumps({"text": "a", "date": value, "meta": {"made": value}}) + "\n" for value in values
    ).encode()
    expected = [NOON, NOON, None, None, None, None]
    assert dates("a.jsonl", lines) == expected
    assert dates("a.jsonl", lines, date_field="meta.made") == expected
    assert dates("a.jsonl", lines, date_field="made") == [None] * 6
    table = pa.table({"text": ["a", "b"], "meta": [{"made": NOON}, None]})
    assert dates("a.parquet", parquet_bytes(table), date_field="meta.made") == [NOON, None]


def test_a_range_reads_the_same_dates() -> None:
    table = pa.table({"text": ["a"] * 5, "date": [SECONDS + n for n in range(5)]})
    data = parquet_bytes(table)
    batches = read(io.BytesIO(data), path="a.parquet", options=ReadOptions(), start=1, end=2)
    assert [int(value.timestamp()) - SECONDS for batch, _ in batches for value in batch["date"].to_pylist()] == [2, 3]


def test_stages_and_the_ledger_have_the_date(tmp_path: Path) -> None:
    rows = [{"text": text_of("maps", n), "date": NOON.isoformat() if n % 2 else None} for n in range(4)]
    jsonl_file(tmp_path / "texts.jsonl", [*rows, {"text": "", "date": SECONDS}])
    stages = {"extract": {}, "redact": {}, "quality": {"rules": ["gopher"]}}
    sources = {"texts": {"path": str(tmp_path / "texts.jsonl")}}
    run(config_file(tmp_path / "c.yaml", tmp_path / "run", sources, stages))
    assert ledger(tmp_path / "run").column("date").to_pylist() == [None, NOON, None, NOON, NOON]
    [held] = (tmp_path / "run" / "steps" / "redact+quality").glob("*documents.arrow")
    with pa.memory_map(str(held)) as file:
        documents = pa.ipc.open_file(file).read_all()
    assert documents.column("date").to_pylist() == [None, NOON, None, NOON]
