"""JSON lines and Parquet: fields by name, ranges, broken lines, odd Unicode."""

from __future__ import annotations

import io
import itertools
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.readers.test_reader import LINES, TABLE, parquet_bytes, read_all, rules
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.readers.reader import read


def texts(path: str, data: bytes, **options: object) -> list[str | None]:
    return [text for batch, _ in read_all(path, data, **options) for text in batch["text"].to_pylist()]


def test_broken_lines_cost_themselves_alone() -> None:
    lines = [
        b'{"text": "one", "url": "u"}',
        b'{"text": "two"',
        b"",
        b'{"txt": "three"}',
        b'{"text": 4}',
        b'["text"]',
        b'{"text": ""}',
        b'{"text": "x", "deep": ' + b"[" * 100_000,
        b'{"text": "last", "id": 7}',
    ]
    [(batch, verdicts)] = read_all("a.jsonl", b"\n".join(lines))
    wrong = "read.wrong_field"
    expected = [None, "read.json", wrong, wrong, "read.json", "read.empty", "read.json", None]
    assert verdicts.rule.to_pylist() == expected
    assert "'text' is missing (fields here: txt)" in verdicts.message[2].as_py()
    assert batch["url"].to_pylist()[0] == "u"
    assert batch["url"].to_pylist()[-1] == "7"
    data = b"\n".join(lines)
    for offset, line in zip(verdicts.measures["offset"].to_pylist(), [line for line in lines if line], strict=True):
        assert data[offset : offset + len(line)] == line


def test_odd_unicode() -> None:
    data = (
        b'\xef\xbb\xbf{"text": "mark"}\n{"text": "a\\ud800b \\ud83d\\ude00"}\n{"text": "\xff"}\n{"text": "\\u0000"}\n'
    )
    assert texts("a.jsonl", data) == ["mark", "a\ufffdb \U0001f600", "\ufffd", "\0"]


def test_fields_by_name_nested_by_dots() -> None:
    row = {"page": {"body": "deep"}, "meta": {"link": "http://x/"}, "a.b": "flat"}
    data = json.dumps(row).encode()
    assert texts("a.jsonl", data, text_field="page.body") == ["deep"]
    assert texts("a.jsonl", data, text_field="a.b") == ["flat"]
    assert rules("a.jsonl", data, text_field="page.body.more") == ["read.wrong_field"]
    [(batch, _)] = read_all("a.jsonl", data, text_field="a.b", url_field="meta.link")
    assert batch["url"].to_pylist() == ["http://x/"]
    stored = parquet_bytes(pa.Table.from_pylist([row]))
    assert texts("a.parquet", stored, text_field="page.body") == ["deep"]
    assert texts("a.parquet", stored, text_field="a.b") == ["flat"]
    assert rules("a.parquet", stored, text_field="body") == ["read.wrong_field"]


def test_long_lines_are_bounded() -> None:
    data = json.dumps({"text": "x" * 5_000_000}).encode() + b'\n{"text": "next"}\n'
    assert rules("a.jsonl", data, max_document_bytes=1_000_000) == ["read.too_large", None]
    assert rules("a.jsonl", data) == [None, None]


@settings(max_examples=80)
@given(
    lines=st.lists(st.sampled_from([b'{"text": "a"}', b"", b"{", b'{"text": "' + b"long" * 50 + b'"}']), max_size=12),
    thresholds=st.lists(st.integers(0, 700), max_size=4),
    ends_open=st.booleans(),
)
def test_ranges_hold_every_line_once(lines: list[bytes], thresholds: list[int], ends_open: bool) -> None:
    data = b"\n".join(lines) + (b"" if ends_open else b"\n")
    bounds = sorted({0, len(data), *(min(cut, len(data)) for cut in thresholds)})

    def rows(**bound: Any) -> list[Any]:
        found = []
        for batch, verdicts in read(io.BytesIO(data), path="a.jsonl", options=ReadOptions(), **bound):
            measures = [column.to_pylist() for column in verdicts.measures.values()]
            found += list(zip(batch["text"].to_pylist(), verdicts.rule.to_pylist(), *measures, strict=True))
        return found

    pieces = [row for start, end in itertools.pairwise(bounds) for row in rows(start=start, end=end)]
    whole = rows()
    assert pieces == ([] if [row[1] for row in whole] == ["read.empty_file"] else whole)


def test_row_groups_of_parquet_are_ranges() -> None:
    data = parquet_bytes(TABLE)
    found = []
    for start, end in ((0, 1), (1, 3)):
        for batch, verdicts in read(io.BytesIO(data), path="a.parquet", options=ReadOptions(), start=start, end=end):
            found += list(zip(batch["text"].to_pylist(), verdicts.measures["offset"].to_pylist(), strict=True))
    assert found == [(f"Row {n}", n) for n in range(6)]


def test_parquet_rows_without_text() -> None:
    table = pa.table({"text": ["one", None, " "], "id": [1, 2, 3]})
    [(batch, verdicts)] = read_all("a.parquet", parquet_bytes(table))
    assert verdicts.rule.to_pylist() == [None, "read.wrong_field", "read.empty"]
    assert batch["url"].to_pylist() == ["1", "2", "3"]


def test_parquet_text_that_is_no_utf8() -> None:
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff!", b"ok"], pa.binary()).buffers())
    assert texts("a.parquet", parquet_bytes(pa.table({"text": broken}))) == ["\ufffd!", "ok"]


def test_parquet_column_of_another_type() -> None:
    assert rules("a.parquet", parquet_bytes(pa.table({"text": [1, 2]}))) == ["read.wrong_field"]


@pytest.mark.parametrize("text", ["", "a\n\nb", "\ufeffmarked"])
def test_a_text_file_is_one_document(text: str) -> None:
    expected = [text.removeprefix("\ufeff")] if text else [None]
    assert texts("a.txt", text.encode()) == expected


def test_lines_of_the_sample_are_where_the_offsets_say() -> None:
    offsets = [o for _, verdicts in read_all("a.jsonl", LINES) for o in verdicts.measures["offset"].to_pylist()]
    assert [json.loads(LINES[offset:].split(b"\n")[0])["text"] for offset in offsets] == [f"Line {n}" for n in range(6)]


def test_a_file_that_is_no_text() -> None:
    assert rules("a.txt", bytes(range(128, 256)) * 9) == ["read.not_utf8"]
    assert texts("a.txt", b"mostly text, \xe9 once") == ["mostly text, \ufffd once"]
    assert rules("a.txt", b" \n") == ["read.empty"]
    assert rules("a.txt", b"abc", max_document_bytes=2) == ["read.too_large"]
