"""Compressed files as streams of bytes that say where each compressed member starts, and where one is broken.

WARC files are many gzip members (zstd or lz4 frames) one after the other, one a record. A broken member costs itself alone:
the stream continues at the next place where a member starts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import lz4.frame
import zstandard
from isal import isal_zlib

CHUNK_BYTES = 1 << 18
"""Compressed bytes read at a time."""

PIECE_BYTES = 1 << 20
"""Decompressed bytes given at a time: what a decompression bomb can cost in memory."""

ZSTD_FILE_FEED_BYTES, ZSTD_FRAME_FEED_BYTES = 1024, 256
"""zstd gives all that its input holds at once (at most 32,768 times as much), so it is fed little at a time: 32 MB come out of
a file's step, 8 MB of a frame that is bounded by a limit."""

MAGIC = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd", "lz4": b"\x04\x22\x4d\x18"}
ZSTD_DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"
"""Skippable frame at the start of a .warc.zst that has a dictionary (IIPC's WARC zstd specification 1.0)."""

MAX_DICTIONARY_BYTES = 1 << 24

TRUNCATED, CORRUPT = "read.truncated", "read.corrupt"
"""Why a member breaks off: the file ends within it, or its bytes are not what they should be."""

ERRORS: Any = (zlib.error, isal_zlib.error, zstandard.ZstdError, RuntimeError, EOFError)


class TooLarge(ValueError):
    """Content of more than the given size."""


@dataclass(frozen=True)
class Piece:
    """Decompressed bytes of one member. `offset`: where the member starts in the file. `starts`, `ends`: whether this is its
    first or last piece. `error`: why the member broke off here, in words, or nothing; `rule`: the failure's name."""

    data: bytes
    offset: int
    starts: bool
    ends: bool
    error: str = ""
    rule: str = ""


def compression_of(head: bytes) -> str | None:
    """Which of "gzip", "zstd", "lz4" a file's first bytes show; None for anything else."""
    if head[:4] == ZSTD_DICTIONARY_MAGIC:
        return "zstd"
    return next((name for name, magic in MAGIC.items() if head.startswith(magic)), None)


def unzstd(data: bytes, limit: int) -> bytes:
    """A zstd frame decompressed. Raises `TooLarge` for more than `limit` bytes, EOFError where it is cut short,
    `zstandard.ZstdError`, and MemoryError where it claims a window larger than memory."""
    engine = zstandard.ZstdDecompressor().decompressobj()
    parts: list[bytes] = []
    size = 0
    for place in range(0, len(data), ZSTD_FRAME_FEED_BYTES):
        parts.append(engine.decompress(data[place : place + ZSTD_FRAME_FEED_BYTES]))
        size += len(parts[-1])
        if engine.eof or size > limit:
            break
    check_whole(size, engine.eof, limit)
    return b"".join(parts)


def check_whole(size: int, is_whole: bool, limit: int) -> None:
    """Raises `TooLarge` for more than `limit` decompressed bytes, EOFError where the compressed ones are cut short."""
    if size > limit:
        raise TooLarge(f"more than {limit:,} bytes once decompressed")
    if not is_whole:
        raise EOFError("it is cut short")


def pieces(file: BinaryIO, compression: str | None) -> Iterator[Piece]:
    """The content of a file piece by piece; a plain file is one member."""
    if compression is None:
        yield from _plain(file)
    else:
        yield from _Members(file, compression).pieces()


def _plain(file: BinaryIO) -> Iterator[Piece]:
    starts, data = True, file.read(PIECE_BYTES)
    while True:
        following = file.read(PIECE_BYTES)
        yield Piece(data, 0, starts, not following)
        if not following:
            return
        starts, data = False, following


class _Members:
    def __init__(self, file: BinaryIO, compression: str) -> None:
        self._file = file
        self._compression = compression
        self._buffer = b""
        self._at = 0
        """Offset in the file of the buffer's first byte."""
        self._dictionary: zstandard.ZstdCompressionDict | None = None

    def pieces(self) -> Iterator[Piece]:
        if self._compression == "zstd":
            try:
                self._read_dictionary()
            except (zstandard.ZstdError, ValueError, EOFError, MemoryError) as error:
                message = f"its zstd dictionary, which all that follows needs, is broken: {error}"
                yield Piece(b"", 0, True, True, message, CORRUPT)
                return
        while self._fill(8):
            if not self._buffer.startswith(MAGIC[self._compression]):
                start = self._at
                rest = "zero bytes" if not self._buffer[:512].strip(b"\0") else "bytes that are no " + self._compression
                found = self._seek_magic()
                message = f"{self._at - start:,} {rest} stand between members"
                yield Piece(b"", start, True, True, message, CORRUPT)
                if not found:
                    return
            yield from self._member()

    def _member(self) -> Iterator[Piece]:
        offset, starts = self._at, True
        engine = self._engine()
        while True:
            is_over = not self._buffer and not self._fill(1)
            try:
                data = self._step(engine)  # may keep output back even where the file is over
            except ERRORS as error:
                self._skip(1 if starts else 0)  # past the magic of this very member
                self._seek_magic()
                message = f"the {self._compression} member is broken: {error}"
                yield Piece(b"", offset, starts, True, message, CORRUPT)
                return
            if engine.eof:
                self._take_unused(engine)
                yield Piece(data, offset, starts, True)
                return
            if data:
                yield Piece(data, offset, starts, False)
                starts = False
            elif is_over:
                message = f"the file ends within a {self._compression} member"
                yield Piece(b"", offset, starts, True, message, TRUNCATED)
                return

    def _engine(self) -> Any:
        if self._compression == "gzip":
            return isal_zlib.decompressobj(wbits=31)
        if self._compression == "lz4":
            return lz4.frame.LZ4FrameDecompressor()
        return zstandard.ZstdDecompressor(dict_data=self._dictionary).decompressobj()

    def _step(self, engine: Any) -> bytes:
        """Decompresses some of the buffer; at most about `PIECE_BYTES` come out."""
        if self._compression == "gzip":
            data = engine.decompress(self._buffer, PIECE_BYTES)
            self._skip(len(self._buffer) - len(engine.unconsumed_tail))
        elif self._compression == "lz4":
            fed = self._buffer if engine.needs_input else b""
            data = engine.decompress(fed, PIECE_BYTES)
            self._skip(len(fed))
        else:
            fed = self._buffer[:ZSTD_FILE_FEED_BYTES]
            data = engine.decompress(fed)
            self._skip(len(fed))
        return bytes(data)

    def _take_unused(self, engine: Any) -> None:
        unused = engine.unused_data or b""
        self._buffer = unused + self._buffer
        self._at -= len(unused)

    def _fill(self, least: int) -> bool:
        while len(self._buffer) < least:
            data = self._file.read(CHUNK_BYTES)
            if not data:
                break
            self._buffer += data
        return bool(self._buffer)

    def _skip(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self._at += count

    def _seek_magic(self) -> bool:
        """Moves to the next place that looks like a member; False where the file ends first."""
        magic = MAGIC[self._compression]
        while True:
            place = self._buffer.find(magic)
            if place >= 0:
                self._skip(place)
                return True
            keep = len(magic) - 1
            self._skip(max(len(self._buffer) - keep, 0))
            data = self._file.read(CHUNK_BYTES)
            if not data:
                self._skip(len(self._buffer))
                return False
            self._buffer += data

    def _read_dictionary(self) -> None:
        self._fill(8)
        if not self._buffer.startswith(ZSTD_DICTIONARY_MAGIC):
            return
        size = int.from_bytes(self._buffer[4:8], "little")
        if size > MAX_DICTIONARY_BYTES:
            raise ValueError(f"it claims {size:,} bytes, more than {MAX_DICTIONARY_BYTES:,}")
        self._fill(8 + size)
        content = self._buffer[8 : 8 + size]
        self._skip(8 + size)
        if content.startswith(MAGIC["zstd"]):
            content = unzstd(content, MAX_DICTIONARY_BYTES)
        self._dictionary = zstandard.ZstdCompressionDict(content)
        self._engine()  # raises here what would otherwise be raised at every member
