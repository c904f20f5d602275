"""Input that is small on disk and huge once decompressed, or huge at once: a row that says so, and bounded memory.

The files are read in a process of their own, which tells the most memory that it has had.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import lz4.frame
import zstandard

from tests.warc_writer import http_response, page, record, warc_gz
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.readers.reader import read

HUGE = 400_000_000
MOST_GROWTH = 350_000_000
"""Bytes of memory that a reader may take: some times the largest document of 32 MB, and zstd's window of 128 MB."""

BLOCK = bytes(4_000_000)
PAGES = [page(f"http://example.org/{n}", f"<p>Page number {n}</p>") for n in range(2)]
LINES = [b'{"text": "Line 0"}\n', b'{"text": "Line 1"}\n']
HEAD = record("http://bomb/", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", length=HUGE + 44)[:-4]


def packed(engine: Any, beginning: bytes = b"", ending: bytes = b"") -> bytes:
    """What an engine makes of `HUGE` zeros between two pieces."""
    compress, end = (engine.process, engine.finish) if hasattr(engine, "process") else (engine.compress, engine.flush)
    return b"".join([*map(compress, [beginning, *[BLOCK] * (HUGE // len(BLOCK)), ending]), end()])


def gzip_engine(window: int = 31) -> Any:
    return zlib.compressobj(1, zlib.DEFLATED, window)


def lz4_packed(beginning: bytes, ending: bytes) -> bytes:
    engine = lz4.frame.LZ4FrameCompressor()
    return engine.begin() + packed(engine, beginning, ending)


def encoded(encoding: str, body: bytes) -> bytes:
    bomb = record("http://bomb/", http_response(body, headers=f"Content-Encoding: {encoding}\r\n"))
    return warc_gz([PAGES[0], bomb, PAGES[1]])


ZSTD = zstandard.ZstdCompressor()
FILES: dict[str, Callable[[], bytes]] = {
    "member.warc.gz": lambda: warc_gz(PAGES[:1]) + packed(gzip_engine(), HEAD, b"\r\n\r\n") + warc_gz(PAGES[1:]),
    "member.warc.zst": lambda: (
        ZSTD.compress(PAGES[0]) + packed(ZSTD.compressobj(), HEAD, b"\r\n\r\n") + ZSTD.compress(PAGES[1])
    ),
    "member.warc.lz4": lambda: (
        lz4.frame.compress(PAGES[0]) + lz4_packed(HEAD, b"\r\n\r\n") + lz4.frame.compress(PAGES[1])
    ),
    "gzip.warc.gz": lambda: encoded("gzip", packed(gzip_engine())),
    "deflate.warc.gz": lambda: encoded("deflate", packed(gzip_engine(-15))),
    "zstd.warc.gz": lambda: encoded("zstd", packed(ZSTD.compressobj())),
    "br.warc.gz": lambda: encoded("br", packed(brotli.Compressor(quality=1))),
    "line.jsonl.gz": lambda: packed(gzip_engine(), LINES[0], b"\n" + LINES[1]),
    "line.jsonl.zst": lambda: packed(ZSTD.compressobj(), LINES[0], b"\n" + LINES[1]),
}


HOLES = {"page.warc": (PAGES[0] + HEAD, b"\r\n\r\n" + PAGES[1]), "line.jsonl": (LINES[0], b"\n" + LINES[1])}
"""Files that are not compressed: what stands before and after a hole of zeros."""


def test_what_is_huge_costs_itself_alone(tmp_path: Path) -> None:
    for name, make in FILES.items():
        (tmp_path / name).write_bytes(make())
    for name, (beginning, ending) in HOLES.items():
        with (tmp_path / name).open("wb") as file:
            file.write(beginning)
            file.seek(HUGE, 1)
            file.write(ending)
    paths = [str(tmp_path / name) for name in (*FILES, *HOLES)]
    command = [sys.executable, "-m", "tests.stages.readers.test_bombs", *paths]
    told = [json.loads(line) for line in subprocess.run(command, capture_output=True, check=True).stdout.splitlines()]
    assert {one["path"]: one["rules"] for one in told} == {path: [None, "read.too_large", None] for path in paths}
    assert max(one["grown"] for one in told) < MOST_GROWTH, told


def rules_of(path: Path) -> list[str | None]:
    """The rule of each row."""
    with path.open("rb") as file:
        read_rows = read(file, path=path.name, options=ReadOptions())
        return [rule for _, verdicts in read_rows for rule in verdicts.rule.to_pylist()]


def peak_memory() -> int:
    """The most bytes of memory that this process has had."""
    status = Path("/proc/self/status").read_text()
    return 1000 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    before = peak_memory()
    for given in sys.argv[1:]:
        print(json.dumps({"path": given, "rules": rules_of(Path(given)), "grown": peak_memory() - before}))
