"""WARC and WET files: HTTP bodies, kinds of records, offsets, broken records."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path

import brotli
import numpy as np
import pyarrow as pa
import pytest
import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given
from hypothesis import strategies as st

from tests.paths import SHARED
from tests.stages.readers.test_reader import PAGES, needs_shared, read_all, rules
from tests.warc_writer import gzip_member, http_response, page, record, warc_gz
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.readers.reader import payload_at, read
from tokenmill.stages.readers.warc_records import find_record
from tokenmill.stages.stage import KEPT

HTML = b"<html><body><p>Some words of a page.</p></body></html>"


def bodies(data: bytes, path: str = "a.warc") -> list[bytes]:
    return [
        html
        for batch, verdicts in read_all(path, data)
        for html in batch["html"].filter(pa.array(verdicts.fate == KEPT)).to_pylist()
    ]


def chunked(body: bytes, size: int = 7) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;note=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


ENCODED = {
    "gzip": gzip.compress(HTML),
    "deflate": zlib.compress(HTML),
    "br": brotli.compress(HTML),
    "zstd": zstandard.compress(HTML),
    "identity": HTML,
}


@pytest.mark.parametrize("encoding", [*ENCODED, "raw deflate"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_http_bodies_are_decoded(encoding: str, is_chunked: bool) -> None:
    body = ENCODED["deflate"][2:-4] if encoding == "raw deflate" else ENCODED[encoding]
    headers = f"Content-Encoding: {encoding.split()[-1]}\r\n"
    if is_chunked:
        headers += "Transfer-Encoding: chunked\r\n"
        body = chunked(body)
    assert bodies(record("http://x/", http_response(body, headers=headers))) == [HTML]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_in_a_body_fails_and_costs_no_other(encoding: str) -> None:
    engines = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstandard.compress}
    packed = engines[encoding](bytes(3_000_000))
    bomb = record("http://x/", http_response(packed, headers=f"Content-Encoding: {encoding}\r\n"))
    assert rules("a.warc", bomb + PAGES[0], max_document_bytes=1_000_000) == ["read.too_large", None]


def test_a_bomb_in_a_member_fails_and_costs_no_other() -> None:
    bomb = record("http://x/", http_response(bytes(30_000_000)))
    assert rules("a.warc.gz", warc_gz([bomb, PAGES[0]]), max_document_bytes=1_000_000) == ["read.too_large", None]


@pytest.mark.parametrize("filling", [b"\0", b"\n", b"WARC/1.0\n"])
def test_a_bomb_after_a_record_fails_and_costs_no_other(filling: bytes) -> None:
    data = record("http://x/", http_response(HTML)) + b"x" + filling * (20_000_000 // len(filling))
    assert rules("a.warc.gz", warc_gz([PAGES[0], data, PAGES[1]])) == [None, None, "read.corrupt", None]


RECORD_BEGINS = re.compile(rb"\r?\n\r?\n(WARC/[01]\.[0-9]+\r?\n)")


PARTS = [b"\n", b"\r\n", b"\r", b"WARC/1.0", b"WARC/", b"1.1", b"x"]


@given(st.lists(st.sampled_from(PARTS), max_size=14).map(b"".join))
def test_a_record_is_found_where_the_grammar_says(data: bytes) -> None:
    expected = RECORD_BEGINS.search(data)
    assert find_record(data) == (expected.start(1) if expected else -1)


def test_a_head_of_millions_of_lines_is_read_as_far_as_one_can_be() -> None:
    message = http_response(HTML, headers="X-Line: y\r\n" * 1_000_000)
    assert bodies(record("http://x/", message)) == [HTML]


def test_a_zstd_body_that_claims_any_size_fails_and_costs_no_other() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(HTML)
    claims = frame[:4] + b"\xe0" + (1 << 50).to_bytes(8, "little") + frame[6:]
    liar = record("http://x/", http_response(claims, headers="Content-Encoding: zstd\r\n"))
    assert rules("a.warc", liar + PAGES[0]) == ["read.body", None]


def test_a_body_cut_short_fails() -> None:
    cut = record("http://x/", http_response(ENCODED["gzip"][:-12], headers="Content-Encoding: gzip\r\n"))
    assert rules("a.warc", cut + PAGES[0]) == ["read.body", None]


def test_what_is_no_page_is_dropped_by_its_reason() -> None:
    data = b"".join(
        [
            record("", b"software: x\r\n", "warcinfo", "application/warc-fields"),
            record("http://x/q", b"GET / HTTP/1.1\r\n\r\n", "request", "application/http; msgtype=request"),
            page("http://x/0", HTML.decode()),
            record("http://x/1", http_response(HTML, status="404 Not Found")),
            record("http://x/2", http_response(b"%PDF-1.4", "application/pdf")),
            record("http://x/3", http_response(b" \n\0")),
            record("http://x/4", b"HTTP/1.1 200 OK\r\n\r\n", "revisit"),
            record("http://x/5", HTML, "resource", "text/html"),
            record("http://x/6", HTML, "novelty", "text/html"),
        ]
    )
    expected = [None, "read.http_status", "read.not_html", "read.empty", "read.revisit", None, "read.corrupt"]
    assert rules("a.warc", data) == expected


def test_charset_of_the_header_is_handed_on() -> None:
    data = record("http://x/", http_response(HTML, 'text/html; Charset="Windows-1251"')) + record(
        "http://x/", http_response(HTML, "text/html")
    )
    assert [name for batch, _ in read_all("a.warc", data) for name in batch["charset"].to_pylist()] == [
        "windows-1251",
        None,
    ]


def test_wet_conversions_are_texts() -> None:
    texts = [b"Ein Text.", b"broken \xff byte", b"  "]
    data = record("", b"x: y\r\n", "warcinfo") + b"".join(
        record(f"http://x/{n}", text, "conversion", "text/plain") for n, text in enumerate(texts)
    )
    [(batch, verdicts)] = read_all("a.warc.wet", data)
    assert batch["text"].to_pylist() == ["Ein Text.", "broken \ufffd byte", None]
    assert verdicts.rule.to_pylist() == [None, None, "read.empty"]


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd", "one member"])
def test_the_payload_of_a_record_is_found_again_by_its_offset(form: str) -> None:
    path, data = {
        "plain": ("a.warc", b"".join(PAGES)),
        "gzip": ("a.warc.gz", warc_gz(PAGES)),
        "zstd": ("a.warc.zst", b"".join(zstandard.compress(one) for one in PAGES)),
        "one member": ("a.warc.gz", gzip_member(PAGES[0])),
    }[form]
    for batch, verdicts in read_all(path, data):
        for html, offset in zip(batch["html"].to_pylist(), verdicts.measures["offset"].to_pylist(), strict=True):
            assert payload_at(io.BytesIO(data), path=path, options=ReadOptions(), offset=offset) == html


def test_no_payload_where_no_record_is() -> None:
    assert payload_at(io.BytesIO(PAGES[0]), path="a.warc", options=ReadOptions(), offset=3) is None
    assert payload_at(io.BytesIO(b"{}"), path="a.jsonl", options=ReadOptions(), offset=0) is None


def test_a_length_that_lies_costs_no_other_member() -> None:
    liar = record("http://liar/", http_response(HTML), length=10**15)
    short = record("http://liar/", http_response(HTML), length=20)
    assert rules("a.warc.gz", warc_gz([PAGES[0], liar, PAGES[1], short, PAGES[2]])) == [
        None,
        "read.truncated",
        None,
        "read.corrupt",
        None,
    ]


def test_a_failure_says_where_and_of_which_page() -> None:
    data = warc_gz(PAGES)
    [(_, verdicts)] = read_all("a.warc.gz", data[:-40])
    last = len(data) - len(gzip_member(PAGES[5]))
    assert verdicts.rule.to_pylist() == [None] * 5 + ["read.truncated"]
    assert f"{last:,}" in verdicts.message[5].as_py()
    assert verdicts.measures["offset"][5].as_py() == last


def test_a_dictionary_that_is_broken_fails_by_name() -> None:
    frame = b"\x5d\x2a\x4d\x18" + (100).to_bytes(4, "little") + b"\x28\xb5\x2f\xfd" + b"\xff" * 96
    assert rules("a.warc.zst", frame + zstandard.compress(PAGES[0])) == ["read.corrupt"]
    claims = b"\x5d\x2a\x4d\x18" + (1 << 31).to_bytes(4, "little")
    assert rules("a.warc.zst", claims + zstandard.compress(PAGES[0])) == ["read.corrupt"]


def test_zstd_with_a_dictionary() -> None:
    samples: list[bytes | bytearray | memoryview[int]] = [
        one[at : at + 90] for one in PAGES for at in range(0, len(one) - 90, 5)
    ]
    dictionary = zstandard.train_dictionary(1024, samples)
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    for stored in (dictionary.as_bytes(), zstandard.compress(dictionary.as_bytes())):
        head = b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored
        assert rules("a.warc.zst", head + b"".join(packer.compress(one) for one in PAGES)) == [None] * 6


def test_a_compressed_dictionary_that_is_cut_short_or_too_large_is_named() -> None:
    whole = zstandard.compress(b"dictionary " * 9999)
    for stored, reason in ((whole[:-9], "cut short"), (zstandard.compress(b"\0" * (1 << 25)), "more than 16,777,216")):
        head = b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored
        [(batch, verdicts)] = read(
            io.BytesIO(head + zstandard.compress(PAGES[0])), path="a.warc.zst", options=ReadOptions()
        )
        assert batch.num_rows == 1
        assert verdicts.rule.to_pylist() == ["read.corrupt"]
        assert reason in verdicts.message[0].as_py()


def test_batches_are_bounded() -> None:
    pages = [page(f"http://x/{n}", "<p>" + "word " * 600_000) for n in range(8)]
    sizes = [batch.nbytes for batch, _ in read(io.BytesIO(b"".join(pages)), path="a.warc", options=ReadOptions())]
    assert len(sizes) > 1
    assert max(sizes) < 16_000_000


@needs_shared
@pytest.mark.parametrize(
    "path",
    sorted(SHARED.glob("archives/*")) + sorted(SHARED.glob("crawl/*-06*")) or [Path("none")],
    ids=lambda p: p.name,
)
def test_records_agree_with_fastwarc(path: Path) -> None:
    kinds = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.revisit | WarcRecordType.conversion
    theirs = []
    with path.open("rb") as file:
        for found in ArchiveIterator(file, record_types=kinds, parse_http=True):
            theirs.append(((found.headers.get("WARC-Target-URI") or "").strip("<>"), found.stream_pos))
    ours = [
        (url, offset)
        for batch, verdicts in read_all(path.name, path.read_bytes())
        for url, offset in zip(batch["url"].to_pylist(), verdicts.measures["offset"].to_pylist(), strict=True)
    ]
    assert [url for url, _ in ours] == [url for url, _ in theirs]
    assert np.array_equal([offset for _, offset in ours], [offset for _, offset in theirs])


@pytest.mark.parametrize("lie", [10**30, 10**15, 10**8, 600, 430, 20])
def test_a_length_that_lies_costs_no_other_record_of_a_plain_file(lie: int) -> None:
    data = b"".join([PAGES[0], record("http://liar/", http_response(HTML), length=lie), *PAGES[1:]])
    batches = read_all("a.warc", data)
    found = {
        url: (rule, offset)
        for batch, verdicts in batches
        for url, rule, offset in zip(
            batch["url"].to_pylist(), verdicts.rule.to_pylist(), verdicts.measures["offset"].to_pylist(), strict=True
        )
    }
    assert found.pop("http://liar/")[0] in ("read.truncated", "read.corrupt", "read.too_large")
    assert found == {f"http://example.org/{n}": (None, data.index(one)) for n, one in enumerate(PAGES)}


def test_many_lengths_that_lie_end_in_time() -> None:
    liars = [record(f"http://liar/{n}", b"x", length=10**12) for n in range(2000)]
    found = rules("a.warc", b"".join(liars))
    assert 20 <= len(found) <= 2000
    assert None not in found
