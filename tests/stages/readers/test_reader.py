"""Reading of all formats: what every reader promises, on sound and on broken input."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections import Counter
from pathlib import Path

import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paths import SHARED
from tests.warc_writer import gzip_member, page, warc_gz
from tokenmill.stages.readers.options import ReadOptions, format_of, provides
from tokenmill.stages.readers.reader import read
from tokenmill.stages.stage import DATE, KEPT, Verdicts

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f"needs the test data in {SHARED}")

PAGES = [page(f"http://example.org/{n}", f"<html><body><p>Page number {n}</p></body></html>") for n in range(6)]
LINES = b"".join(json.dumps({"text": f"Line {n}", "url": f"u{n}"}).encode() + b"\n" for n in range(6))


def parquet_bytes(table: pa.Table, row_group_size: int = 2) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=row_group_size)
    return sink.getvalue()


TABLE = pa.table({"text": [f"Row {n}" for n in range(6)], "url": [f"u{n}" for n in range(6)]})
SOUND: dict[str, bytes] = {
    "a.warc": b"".join(PAGES),
    "a.warc.gz": warc_gz(PAGES),
    "a.warc.zst": b"".join(zstandard.compress(one) for one in PAGES),
    "a.warc.lz4": b"".join(lz4.frame.compress(one) for one in PAGES),
    "a.jsonl": LINES,
    "a.jsonl.gz": gzip_member(LINES[:70]) + gzip_member(LINES[70:]),
    "a.jsonl.zst": zstandard.compress(LINES),
    "a.parquet": parquet_bytes(TABLE),
    "a.txt": b"One text.",
    "a.txt.gz": gzip_member(b"One text."),
}


def read_all(path: str, data: bytes, **options: object) -> list[tuple[pa.RecordBatch, Verdicts]]:
    """All batches, after checking what holds for any input."""
    batches = list(read(io.BytesIO(data), path=path, options=ReadOptions.model_validate(options)))
    place = 0
    for batch, verdicts in batches:
        batch.validate(full=True)
        assert batch["position"].to_pylist() == list(range(place, place + batch.num_rows))
        place += batch.num_rows
        columns = [verdicts.rule, verdicts.message, *verdicts.measures.values()]
        assert {len(column) for column in columns} == {len(verdicts.fate)} == {batch.num_rows}
        assert sorted(verdicts.measures) == ["bytes", "digest", "offset"]
        assert batch.schema.field("date").type == DATE
        holds = batch.column("html" if "html" in batch.schema.names else "text")
        assert [value is not None for value in holds.to_pylist()] == list(verdicts.fate == KEPT)
    return batches


def rules(path: str, data: bytes, **options: object) -> list[str | None]:
    """The rule of every row; None where kept."""
    return [rule for _, verdicts in read_all(path, data, **options) for rule in verdicts.rule.to_pylist()]


@pytest.mark.parametrize("path", SOUND)
def test_sound_files_lose_nothing(path: str) -> None:
    found = rules(path, SOUND[path])
    assert found == [None] * (1 if ".txt" in path else 6)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("CC-MAIN-1.warc.gz", "warc"),
        ("s3://bucket/x.WARC.zst", "warc"),
        ("x.warc.wet.gz", "wet"),
        ("x.wet", "wet"),
        ("x.ndjson", "jsonl"),
        ("x.json.zst", "jsonl"),
        ("x.parquet", "parquet"),
        ("x.md", "text"),
    ],
)
def test_formats_by_name(path: str, expected: str) -> None:
    assert format_of(path, ReadOptions()) == expected
    assert format_of(path, ReadOptions(format="text")) == "text"
    assert provides(format_of(path, ReadOptions())) == ("html" if expected == "warc" else "text")


def test_unknown_name_is_refused_with_the_known_endings() -> None:
    with pytest.raises(ValueError, match=r"'pages\.bin'.*\.warc.*\.parquet"):
        format_of("pages.bin", ReadOptions())


@pytest.mark.parametrize("path", SOUND)
def test_an_empty_file_fails_by_name(path: str) -> None:
    assert rules(path, b"") == ["read.empty_file"]


@pytest.mark.parametrize("path", ["a.warc.gz", "a.jsonl.gz"])
def test_a_file_that_holds_nothing_once_decompressed_fails(path: str) -> None:
    assert rules(path, gzip.compress(b"")) == ["read.empty_file"]


@pytest.mark.parametrize("path", ["a.warc.gz", "a.jsonl.gz", "a.parquet", "a.warc", "a.warc.zst", "a.jsonl"])
def test_random_bytes_fail(path: str) -> None:
    noise = b"".join(zlib.crc32(bytes([n % 256, n // 256])).to_bytes(4, "big") for n in range(5000))
    found = rules(path, noise)
    assert found
    assert None not in found


@pytest.mark.parametrize("path", [path for path in SOUND if path.endswith((".gz", ".zst", ".lz4"))])
def test_every_cut_within_a_member_is_noticed(path: str) -> None:
    data = SOUND[path]
    magic = data[:3]
    ends = {place for place in range(len(data)) if data[place : place + 3] == magic}
    for length in range(2, len(data)):  # one byte shows no format
        if length not in ends:
            found = rules(path, data[:length])
            assert any(rule and rule != "read.empty" for rule in found), f"cut at {length}"


def mutated(data: bytes, modifies_text: list[tuple[float, int, bytes]]) -> bytes:
    for place, removed, inserted in modifies_text:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]
    return data


EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 2, 50, 100_000]), st.binary(max_size=8)), min_size=1, max_size=4
)


@settings(max_examples=150)
@given(path=st.sampled_from(sorted(SOUND)), modifies_text=EDITS)
def test_no_edit_of_a_file_breaks_a_reader(path: str, modifies_text: list[tuple[float, int, bytes]]) -> None:
    data = mutated(SOUND[path], modifies_text)
    found = rules(path, data)
    if not data:
        assert found == ["read.empty_file"]


@settings(max_examples=60)
@given(damage=st.integers(0, 5), place=st.floats(0.2, 0.8))
def test_a_broken_gzip_member_costs_itself_alone(damage: int, place: float) -> None:
    members = [gzip_member(one) for one in PAGES]
    broken = bytearray(members[damage])
    at = int(place * len(broken))
    broken[at : at + 3] = bytes(byte ^ 0xFF for byte in broken[at : at + 3])
    batches = read_all("a.warc.gz", b"".join([*members[:damage], bytes(broken), *members[damage + 1 :]]))
    kept = [
        url for batch, verdicts in batches for url in batch["url"].filter(pa.array(verdicts.fate == KEPT)).to_pylist()
    ]
    assert kept == [f"http://example.org/{n}" for n in range(6) if n != damage]
    assert Counter(rule for _, verdicts in batches for rule in verdicts.rule.to_pylist())["read.corrupt"] == 1


@needs_shared
@pytest.mark.parametrize("path", sorted(SHARED.glob("archives/*")) or [Path("none")], ids=lambda path: path.name)
def test_real_archives_read_without_failures(path: Path) -> None:
    found = rules(path.name, path.read_bytes())
    assert None in found
    assert not set(found) & {"read.corrupt", "read.truncated", "read.body", "read.empty_file", "read.too_large"}
