"""HTTP responses, as WARC records have them: status, type, charset and decoded body."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import brotli
import zstandard

from tokenmill.stages.readers.compression import TooLarge, check_whole, unzstd

_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9._:-]+)", re.I)
_HEADER_END = re.compile(rb"\r?\n\r?\n")

MAX_HEAD_BYTES = 1 << 18
"""Of a response's head, beyond which no line of it counts; servers and browsers allow 8 to 256 KB."""


class BodyError(ValueError):
    """A body that cannot be decoded."""


@dataclass(frozen=True)
class Response:
    """`status`: 0 where there is no status line. `type`: media type, lower case, without parameters."""

    status: int
    type: str
    charset: str | None
    body: bytes


def parse_response(message: bytes, limit: int) -> Response:
    """Parses a response and undoes its transfer and content encodings.

    Raises `TooLarge` for a body of more than `limit` bytes, `BodyError` for one that cannot be decoded.
    """
    ending = _HEADER_END.search(message)
    head, body = (message[: ending.start()], message[ending.end() :]) if ending else (message, b"")
    lines = head[:MAX_HEAD_BYTES].replace(b"\r\n", b"\n").split(b"\n")
    words = lines[0].split(None, 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() and len(words[1]) == 3 else 0
    headers: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
        body = dechunk(body)
    encodings = headers.get(b"content-encoding", b"").lower().split(b",")
    for encoding in reversed([name.strip() for name in encodings]):
        body = _decode(body, encoding, limit)
    if len(body) > limit:
        raise TooLarge(f"{len(body):,} bytes")
    declared = headers.get(b"content-type", b"")
    charset = _CHARSET.search(declared)
    media_type = declared.partition(b";")[0].strip().lower().decode("ascii", "replace")
    return Response(status, media_type, charset[1].decode("ascii").lower() if charset else None, body)


def dechunk(body: bytes) -> bytes:
    """Undoes chunked transfer coding (RFC 9112, 7.1); a body that is not chunked after all comes back as it is (crawlers
    that store decoded bodies often leave the header)."""
    decoded = bytearray()
    place = 0
    while place < len(body):
        line_end = body.find(b"\n", place, place + 1024)
        size = body[place:line_end].split(b";")[0].strip() if line_end >= 0 else b""
        try:
            count = int(size, 16)
        except ValueError:
            return bytes(decoded) if decoded else body
        if count <= 0:
            break
        decoded += body[line_end + 1 : line_end + 1 + count]
        place = line_end + 1 + count
        place += 2 if body[place : place + 2] == b"\r\n" else int(body[place : place + 1] == b"\n")
    return bytes(decoded)


def _decode(body: bytes, encoding: bytes, limit: int) -> bytes:
    try:
        match encoding:
            case b"gzip" | b"x-gzip":
                return _inflate(body, 31, limit) if body[:2] == b"\x1f\x8b" else body
            case b"deflate":
                try:
                    return _inflate(body, 15, limit)
                except zlib.error:
                    return _inflate(body, -15, limit)
            case b"br":
                return _unbrotli(body, limit)
            case b"zstd":
                return unzstd(body, limit)
            case _:
                return body
    except EOFError as error:
        raise BodyError("its compressed body is cut short") from error
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        raise BodyError(f"its content encoding {encoding.decode('ascii', 'replace')} is broken: {error}") from error


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    engine = zlib.decompressobj(window)
    data = engine.decompress(body, limit + 1)
    check_whole(len(data), engine.eof, limit)
    return data


def _unbrotli(body: bytes, limit: int) -> bytes:
    engine = brotli.Decompressor()
    data = engine.process(body, output_buffer_limit=limit + 1)
    check_whole(len(data), engine.is_finished(), limit)
    return bytes(data)
