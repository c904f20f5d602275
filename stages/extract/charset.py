"""The charset of a page, and its text: by HTTP header, meta tag, byte order mark or detection, in that order, if it decodes."""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_META = re.compile(rb"<meta[^>]{0,512}?charset\s*=\s*[\"']?\s*([A-Za-z0-9._:-]+)", re.I)
META_BYTES = 4096
"""How far into a page a meta tag is looked for (HTML requires 1,024; pages are laxer)."""

SINGLE_BYTE = ("cp125", "cp866", "cp874", "iso8859", "koi8", "mac")

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def decode_page(page: bytes, header: str | None) -> tuple[str, str]:
    """A page's text and the charset that it was read in.

    A declared charset counts only if the page decodes in it without an error, and if the bytes do not show another: UTF-16 by
    a byte order mark or by its NULs, or UTF-8 where a single-byte charset, in which anything decodes, was declared. What no
    charset fits is read in the detected one with U+FFFD for what is broken.
    """
    tried: set[str] = set()
    shown = _from_mark(page) or _wide_without_mark(page)
    names = [shown] if shown and shown.startswith("utf-16") else [header, _from_meta(page), shown]
    for codec in filter(None, map(_codec, names)):
        if codec in tried:
            continue
        tried.add(codec)
        try:
            text = page.decode(codec).removeprefix("\ufeff")
        except UnicodeError:
            continue
        if codec.startswith(SINGLE_BYTE) and not page.isascii():
            try:
                return page.decode("utf-8").removeprefix("\ufeff"), "utf-8"
            except UnicodeDecodeError:
                pass
        return text, codec
    detected = _codec(shown or detect_encoding(page)) or "utf-8"
    return page.decode(detected, "replace").removeprefix("\ufeff"), detected


def declared_charset(page: bytes, header: str | None) -> str | None:
    """The charset that a page claims by its header, or else by its meta tag; None where neither names a known one."""
    return _codec(header) or _codec(_from_meta(page))


def _from_meta(page: bytes) -> str | None:
    found = _META.search(page[:META_BYTES])
    if found is None:
        return None
    name = found[1].decode("ascii").lower()
    return (
        "utf-8" if name.startswith("utf-16") else name
    )  # as HTML has it: a tag that can be read as ASCII is not in UTF-16


def _from_mark(page: bytes) -> str | None:
    return next((name for mark, name in _MARKS if page.startswith(mark)), None)


def _wide_without_mark(page: bytes) -> str | None:
    """UTF-16 without a byte order mark: most of every second byte is NUL."""
    head = page[:1024]
    if len(head) < 16:
        return None
    even, odd = head[0::2].count(0) / len(head[0::2]), head[1::2].count(0) / len(head[1::2])
    if odd > 0.7 and even < 0.3:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 and odd < 0.3 else None


def _codec(name: str | None) -> str | None:
    """The codec of a charset by its WHATWG label (latin-1 means windows-1252 on the web); None for an unknown one."""
    if not name:
        return None
    if not name.startswith("utf-16"):
        name = map_encoding_to_html5(name, fallback_utf8=False) or name
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None
