"""Bytes and strings made valid UTF-8."""

from __future__ import annotations


def valid_utf8(data: bytes) -> bytes:
    """The bytes themselves where they are UTF-8, else with U+FFFD for what is not."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace").encode()
    return data


def to_utf8(text: str) -> bytes:
    """A string's UTF-8, with U+FFFD for surrogates without a partner."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
