"""Real archives with damage done to them: each is read to its end, what broke is a row, and no page breaks the extractor."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paths import SHARED
from tests.stages.readers.test_reader import needs_shared, read_all
from tests.warc_writer import page, warc_gz
from tokenmill.stages.extract.charset import decode_page
from tokenmill.stages.extract.stage import Extract
from tokenmill.stages.readers.compression import compression_of, pieces
from tokenmill.stages.stage import KEPT

FIRST, LAST = "http://example.org/first", "http://example.org/last"
SEEDS = 80
MEMBERS = 6
"""Records taken out of an archive at once."""


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """Flips, cuts, inserts, overwrites or repeats a few spans; every other one near the beginning, where the headers are."""
    for _ in range(random.integers(1, 7)):
        reach = len(data) if random.random() < 0.5 else min(len(data), 1500)
        at = int(random.integers(0, reach + 1))
        length = min(2 ** int(random.integers(0, 13)), len(data) - at)
        span = data[at : at + length]
        match random.integers(0, 5):
            case 0:
                data = (
                    data[:at]
                    + bytes(byte ^ (1 << int(random.integers(0, 8))) for byte in span[:8])
                    + data[at + len(span[:8]) :]
                )
            case 1:
                data = data[:at] + data[at + length :]
            case 2:
                data = data[:at] + random.bytes(length) + data[at:]
            case 3:
                data = data[:at] + bytes([random.integers(0, 256)]) * length + data[at + length :]
            case 4:
                data = data[:at] + span * int(random.integers(2, 40)) + data[at + length :]
    return data


@cache
def members(path: Path) -> list[bytes]:
    """The records of an archive: what each compressed member holds, or a plain file in pieces at its records' beginnings."""
    found: list[bytes] = []
    with path.open("rb") as file:
        compression = compression_of(file.read(4))
        file.seek(0)
        for piece in pieces(file, compression):
            if piece.starts:
                found.append(b"")
            found[-1] += piece.data
    if compression is None:
        parts = b"".join(found).split(b"WARC/1.0\r\n")
        return [b"WARC/1.0\r\n" + part for part in parts[1:]]
    return found


def read_damaged(paths: list[Path], seed: int) -> None:
    """Damages some records of an archive, writes them in one way or another, perhaps damages that too, and reads it all."""
    random = np.random.default_rng(seed)
    whole = members(paths[seed % len(paths)])
    start = int(random.integers(0, max(len(whole) - MEMBERS, 1)))
    chosen = [damaged(record, random) if random.random() < 0.7 else record for record in whole[start : start + MEMBERS]]
    sound = [page(url, "<p>A page that nobody has damaged.</p>") for url in (FIRST, LAST)]
    is_plain = random.random() < 0.3
    packed = b"".join(chosen) if is_plain else b"".join(gzipped(record) for record in chosen)
    is_packed_damaged = random.random() < 0.4
    if is_packed_damaged:
        packed = damaged(packed, random)
    ends = sound if is_plain else [warc_gz([one]) for one in sound]
    kept = []
    for batch, verdicts in read_all("a.warc" if is_plain else "a.warc.gz", ends[0] + packed + ends[1]):
        documents = batch.filter(pa.array(verdicts.fate == KEPT))
        kept += documents["url"].to_pylist()
        if "html" in documents.schema.names:
            extracted, _ = Extract().apply(documents)
            extracted.validate(full=True)
            for html, charset in zip(documents["html"], documents["charset"], strict=True):
                decode_page(html.as_py(), charset.as_py())[0].encode("utf-8", "surrogatepass")
    assert kept[:1] == [FIRST]
    if not is_plain and not is_packed_damaged:
        assert kept[-1] == LAST, "a member costs no other"


def gzipped(data: bytes) -> bytes:
    """A gzip member, packed in haste."""
    engine = zlib.compressobj(1, zlib.DEFLATED, 31)
    return engine.compress(data) + engine.flush()


MAGICS = [
    b"",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"PAR1",
    b"WARC/1.0\r\n",
    b'{"text": "',
    b"\xff\xfe",
]
NAMES = ["a.warc", "a.wet", "a.jsonl", "a.parquet", "a.txt", "a.warc.gz", "a.jsonl.zst", "a.txt.lz4"]


@settings(max_examples=200)
@given(name=st.sampled_from(NAMES), magic=st.sampled_from(MAGICS), rest=st.binary(max_size=500), ends=st.booleans())
def test_any_bytes_are_rows(name: str, magic: bytes, rest: bytes, ends: bool) -> None:
    batches = read_all(name, magic + rest + (magic if ends else b""))
    assert sum(batch.num_rows for batch, _ in batches) or not rest.strip()


PIECES = [
    *(b"Content-Length: ", b"WARC-Type: ", b"WARC-Target-URI: ", b"Content-Type: ", b"Transfer-Encoding: chunked\r\n"),
    *(
        b"99999999999999999999999",
        b"-1",
        b"0",
        b"response",
        b"revisit",
        b"conversion",
        b"\0",
        b"\xff\xfe",
        b"text/html",
    ),
    *(b"\r\n", b"\r\n\r\n", b"WARC/1.1\r\n", b"HTTP/1.1 200 OK\r\n"),
]


@settings(max_examples=150)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=25))
def test_any_headers_are_rows(pieces: list[bytes]) -> None:
    sound = warc_gz([page(FIRST, "<p>A page.</p>")])
    found = [
        (url, rule)
        for batch, verdicts in read_all("a.warc.gz", gzipped(b"WARC/1.0\r\n" + b"".join(pieces)) + sound)
        for url, rule in zip(batch["url"].to_pylist(), verdicts.rule.to_pylist(), strict=True)
    ]
    assert found[-1] == (FIRST, None)


@needs_shared
@pytest.mark.parametrize("folder", ["archives", "crawl"])
def test_damaged_archives_are_read_to_their_end(folder: str) -> None:
    paths = [path for path in sorted(SHARED.glob(f"{folder}/*.warc*")) if path.stat().st_size < 1_000_000]
    for seed in range(SEEDS):
        read_damaged(paths, seed)
