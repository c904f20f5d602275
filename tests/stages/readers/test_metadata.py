"""Metadata: the fields of a row beside its text, URL, id and date, as one bounded JSON object."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import config_file, jsonl_file, run, text_of
from tests.stages.readers.test_reader import SOUND, parquet_bytes, read_all
from tokenmill.stages.readers.metadata import METADATA_BYTES, metadata_json, plain, without

ROW: dict[str, Any] = {
    "text": "a",
    "url": "u",
    "id": 7,
    "date": "2024",
    "license": "CC0",
    "content": {"body": "b", "words": 2},
    "tags": ["x", None, {"deep": 1.5}],
    "a.b": "dotted",
}


def metadata(path: str, data: bytes, **options: object) -> list[Any]:
    found = [value for batch, _ in read_all(path, data, **options) for value in batch["metadata"].to_pylist()]
    return [None if value is None else json.loads(value) for value in found]


@pytest.mark.parametrize("path", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"license", "content", "tags", "a.b"}),
        ({"metadata": "none"}, None),
        ({"text_field": "a.b"}, {"text", "license", "content", "tags"}),
        ({"text_field": "content.body"}, {"text", "license", "content", "tags", "a.b"}),
        ({"metadata": ["license", "content.words", "missing", "id"]}, {"license", "content.words", "id"}),
        ({"metadata": ["missing"]}, None),
    ],
)
def test_other_fields_are_metadata(path: str, options: dict[str, Any], expected: set[str] | None) -> None:
    data = (
        json.dumps(ROW).encode() if path == "a.jsonl" else parquet_bytes(pa.Table.from_pylist([ROW | {"tags": ["x"]}]))
    )
    [found] = metadata(path, data, **options)
    assert (None if found is None else set(found)) == expected
    if expected and "content" in expected:
        leaf = {} if "text_field" in options and "content" in options["text_field"] else {"body": "b"}
        assert found["content"] == leaf | {"words": 2}
    if expected and "content.words" in expected:
        assert (found["content.words"], found["id"]) == (2, 7)


def test_an_object_that_holds_the_text_alone_is_no_metadata() -> None:
    row = {"content": {"body": "a"}}
    assert metadata("a.jsonl", json.dumps(row).encode(), text_field="content.body") == [None]
    assert metadata("a.parquet", parquet_bytes(pa.Table.from_pylist([row])), text_field="content.body") == [None]


@pytest.mark.parametrize("path", [path for path in SOUND if "jsonl" not in path and "parquet" not in path])
def test_other_formats_have_none(path: str) -> None:
    assert set(metadata(path, SOUND[path])) == {None}


def test_values_that_json_cannot_spell() -> None:
    moment = datetime(2024, 2, 29, 12, 30, 0, 1, tzinfo=UTC)
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff!"], pa.binary()).buffers())
    columns = {
        "zoned": pa.array([moment], pa.timestamp("us", tz="Asia/Tokyo")),
        "naive": pa.array([10**18 + 1], pa.timestamp("ns")),
        "far": pa.array([2**62], pa.timestamp("s")),
        "day": pa.array([date(2024, 2, 29)]),
        "clock": pa.array([time(12, 30)]),
        "price": pa.array([Decimal("12.50")]),
        "bytes": pa.array([b"\x00\xff"]),
        "nan": pa.array([[float("nan"), float("inf"), -float("inf"), 0.5, None]]),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        "word": pa.array(["w"]).dictionary_encode(),
        "broken": broken,
        "nothing": pa.array([None], pa.string()),
    }
    expected = {
        "zoned": "2024-02-29T12:30:00.000001Z",
        "naive": "2001-09-09T01:46:40.000000001",
        "far": "146138514283-06-19T07:45:04",
        "day": "2024-02-29",
        "clock": "12:30:00.000000",
        "price": "12.50",
        "bytes": "AP8=",
        "nan": ["NaN", "Infinity", "-Infinity", 0.5, None],
        "map": {"k": 1},
        "word": "w",
        "broken": "\ufffd!",
        "nothing": None,
    }
    assert {name: plain(column)[0] for name, column in columns.items()} == expected
    del columns["far"]  # Parquet has no seconds
    [found] = metadata("a.parquet", parquet_bytes(pa.table({"text": ["a"], **columns})))
    assert found == {name: value for name, value in expected.items() if name in columns and value is not None}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=5))
def test_what_a_line_says_is_what_its_metadata_says(row: dict[str, Any]) -> None:
    named = ("text", "url", "id", "date")
    [found] = metadata("a.jsonl", json.dumps(row | {"text": "a"}).encode())
    expected = {name: value for name, value in row.items() if name not in named}
    assert found == (json.loads(json.dumps(expected).encode("utf-8", "replace")) or None)


@settings(max_examples=100)
@given(st.lists(st.none() | st.lists(st.integers() | st.none(), max_size=3), max_size=6), st.integers(0, 3))
def test_nested_columns_keep_their_shape(rows: list[Any], start: int) -> None:
    rows = [None if row is None else [None if n is None else n % 100 for n in row] for row in rows]
    column = pa.array([{"inner": row} for row in rows], pa.struct([("inner", pa.list_(pa.int64()))])).slice(start)
    assert [row.get("inner") for row in plain(column)] == rows[start:]


def test_large_metadata_says_what_is_left_out() -> None:
    fields: dict[str, Any] = {"long": "x" * METADATA_BYTES, "short": "y", "deep": None}
    found = json.loads(metadata_json(fields) or b"")
    assert found == {
        "short": "y",
        "deep": None,
        "_left_out": {"fields": 1, "bytes": METADATA_BYTES + 11, "names": ["long"]},
    }
    many = {f"{number:05d}{'n' * 500}": number for number in range(1000)}
    encoded = metadata_json(many) or b""
    left_out = json.loads(encoded)["_left_out"]
    assert len(encoded) < METADATA_BYTES + 2000
    assert (left_out["fields"] + len(json.loads(encoded)) - 1, len(left_out["names"])) == (1000, 10)


def test_odd_fields_cost_no_document() -> None:
    deep = "[" * 600 + "]" * 600
    lines = f'{{"text": "a", "deep": {deep}, "n": 1}}\n{{"text": "b", "s": "\\ud800", "big": {10**30}}}'.encode()
    first, second = metadata("a.jsonl", lines)
    assert first["n"] == 1
    assert ("deep" in first) or first["_left_out"]["names"] == ["deep"]
    assert second["s"] == "\ufffd"
    assert float(second["big"]) == 1e30


def test_without_keeps_the_row_itself() -> None:
    row = {"content": {"body": "b", "more": 1}}
    assert without(row, ["content.body", "content.body.more", "none.such"]) == {"content": {"more": 1}}
    assert row == {"content": {"body": "b", "more": 1}}


def test_the_ledger_answers_for_metadata(tmp_path: Path) -> None:
    rows = [{"text": text_of("maps", n), "license": "CC0" if n else "MIT", "n": {"m": n}} for n in range(3)]
    jsonl_file(tmp_path / "texts.jsonl", rows)
    sources = {"texts": {"path": str(tmp_path / "texts.jsonl"), "metadata": ["license", "n.m"]}}
    run(config_file(tmp_path / "c.yaml", tmp_path / "run", sources, {"extract": {}, "redact": {}}))
    answer = duckdb.sql(
        f"SELECT metadata->>'license', metadata->>'n.m' FROM '{tmp_path}/run/ledger/*.parquet' ORDER BY position"
    ).fetchall()
    assert answer == [("MIT", "0"), ("CC0", "1"), ("CC0", "2")]
