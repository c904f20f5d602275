"""Writes WARC records byte by byte, sound ones and broken ones, for tests and for the sample crawl."""

from __future__ import annotations

import gzip
import io
import uuid

DATE = "2026-01-05T00:00:00Z"
NAMESPACE = uuid.UUID("6f1d3c52-0d5a-4a5e-9f67-6a1f6f0d9a11")


def http_response(
    body: bytes, content_type: str = "text/html; charset=utf-8", status: str = "200 OK", headers: str = ""
) -> bytes:
    """An HTTP response message."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def record(
    url: str,
    content: bytes,
    kind: str = "response",
    content_type: str = "application/http; msgtype=response",
    length: int | None = None,
) -> bytes:
    """A WARC record; `length`: what it says of its content's length, if that is to be a lie."""
    identity = uuid.uuid5(NAMESPACE, f"{kind} {url} {len(content)}")
    head = (
        f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{identity}>\r\nWARC-Date: {DATE}\r\n"
        f"WARC-Target-URI: {url}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(content) if length is None else length}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n\r\n"


def page(url: str, html: str) -> bytes:
    """A record of an HTML page in UTF-8."""
    return record(url, http_response(html.encode()))


def gzip_member(data: bytes) -> bytes:
    """One gzip member, the same bytes at any time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


def warc_gz(records: list[bytes]) -> bytes:
    """A .warc.gz: one gzip member a record."""
    return b"".join(gzip_member(one) for one in records)
