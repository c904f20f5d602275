"""HTTP responses as records hold them: whatever they hold, a body within its bound or a named failure."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.stages.readers.compression import TooLarge
from tokenmill.stages.readers.http import BodyError, dechunk, parse_response

CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "identity": bytes,
}
LIMIT = 100_000


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


def chunks_of(parts: list[bytes], end_of_line: bytes = b"\r\n") -> bytes:
    return b"".join(b"%X" % len(part) + end_of_line + part + end_of_line for part in parts if part) + b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=300), max_size=6), st.sampled_from([b"\r\n", b"\n"]))
def test_chunks_become_the_body(parts: list[bytes], end_of_line: bytes) -> None:
    assert dechunk(chunks_of(parts, end_of_line)) == b"".join(parts)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6), st.floats(0, 1))
def test_what_is_there_of_a_chunked_body_cut_short_is_kept(parts: list[bytes], place: float) -> None:
    chunked = chunks_of(parts)
    first_ends = chunked.index(b"\r\n") + 2
    cut = chunked[: first_ends + int(place * (len(chunked) - first_ends))]
    assert b"".join(parts).startswith(dechunk(cut))


def test_a_body_that_only_claims_to_be_chunked() -> None:
    body = b"<html>\n<body>not chunked</body></html>"
    assert parse_response(response(body, "Transfer-Encoding: chunked"), LIMIT).body == body


@given(st.lists(st.sampled_from(sorted(CODINGS)), max_size=3), st.binary(max_size=2000))
def test_codings_are_undone_from_the_last_to_the_first(codings: list[str], body: bytes) -> None:
    encoded = body
    for coding in codings:
        encoded = CODINGS[coding](encoded)
    if "gzip" in codings or "x-gzip" in codings or not body.startswith(b"\x1f\x8b"):
        assert parse_response(response(encoded, f"Content-Encoding: {', '.join(codings)}"), LIMIT).body == body


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_costs_no_more_than_the_limit(coding: str) -> None:
    message = response(CODINGS[coding](bytes(200_000_000)), f"Content-Encoding: {coding}")
    tracemalloc.start()
    try:
        with pytest.raises((TooLarge, BodyError)):
            parse_response(message, 1_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_every_cut_of_an_encoded_body_is_noticed(coding: str) -> None:
    encoded = CODINGS[coding](b"Some words of a page, and some more of them.")
    for length in range(2, len(encoded)):
        with pytest.raises(BodyError):
            parse_response(response(encoded[:length], f"Content-Encoding: {coding}"), LIMIT)


@pytest.mark.parametrize(
    ("size", "is_too_large"), [(LIMIT - 1, False), (LIMIT, False), (LIMIT + 1, True), (LIMIT * 3, True)]
)
@pytest.mark.parametrize("coding", CODINGS)
def test_the_limit_is_of_the_decoded_body(coding: str, size: int, is_too_large: bool) -> None:
    message = response(CODINGS[coding](b"x" * size), f"Content-Encoding: {coding}")
    if is_too_large:
        with pytest.raises(TooLarge):
            parse_response(message, LIMIT)
    else:
        assert len(parse_response(message, LIMIT).body) == size


@pytest.mark.parametrize(
    ("head", "status", "media_type", "charset"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=UTF-8", 200, "text/html", "utf-8"),
        ("HTTP/2 404\r\ncontent-type:TEXT/HTML", 404, "text/html", None),
        ("HTTP/1.0 200 OK\nContent-Type: text/html;charset='koi8-r'", 200, "text/html", "koi8-r"),
        ('HTTP/1.1 301 Moved\r\nContent-Type: text/html; Charset = "x" ', 301, "text/html", "x"),
        ("HTTP/1.1 20 OK\r\nContent-Type:", 0, "", None),
        ("HTTP/1.1 abc\r\nno header\r\n: empty", 0, "", None),
        ("", 0, "", None),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Type: image/png", 200, "text/html", None),
    ],
)
def test_heads(head: str, status: int, media_type: str, charset: str | None) -> None:
    found = parse_response(head.encode() + b"\r\n\r\nbody\r\n\r\n", LIMIT)
    assert (found.status, found.type, found.charset) == (status, media_type, charset)
    assert found.body == b"body\r\n\r\n"


def test_a_head_without_an_end_has_no_body() -> None:
    assert parse_response(b"HTTP/1.1 200 OK\r\nContent-Type: text/html", LIMIT).body == b""


PARTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 \xb2\xb3\xb9 x",
        b"\r\n",
        b"\n",
        b": ",
        b"Content-Encoding: gzip",
        b"br",
        b"zstd",
        b"deflate",
        *[
            b"Transfer-Encoding: chunked",
            b"5\r\nabc",
            b"-1",
            b"\x1f\x8b",
            b"charset=\xff",
            b"\0",
            gzip.compress(b"x" * 99),
        ],
    ]
)


@given(st.lists(PARTS | st.binary(max_size=20), max_size=12).map(b"".join), st.integers(1, 200))
@settings(max_examples=300)
def test_no_message_breaks_the_parser(message: bytes, limit: int) -> None:
    try:
        found = parse_response(message, limit)
    except (BodyError, TooLarge):
        return
    assert len(found.body) <= limit
    assert 0 <= found.status <= 999
