"""Inputs and how they are cut: the partition is the unit of work and of recovery, decided by the input files alone."""

from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pyarrow.parquet as pq

from tokenmill.pipeline.errors import ConfigError
from tokenmill.pipeline.graph.config import Source
from tokenmill.pipeline.storage.receipts import fingerprint
from tokenmill.pipeline.storage.store import is_local
from tokenmill.stages.readers.options import format_of

PARTITION_BYTES = 256 * 1024 * 1024
"""Size that a splittable file (plain JSONL, Parquet) is cut to."""

SPLITTABLE_JSONL = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Partition:
    """A file, or a range of one: bytes of plain JSONL, row groups of Parquet. `identity` tells whether the file changed:
    size in bytes and modification time (etag on object stores)."""

    source: str
    path: str
    size: int
    identity: str
    start: int = 0
    end: int | None = None

    @property
    def name(self) -> str:
        """`source:path`, and `@start-end` for a range."""
        return f"{self.source}:{self.path}" + ("" if self.end is None else f"@{self.start}-{self.end}")

    @cached_property
    def folder(self) -> str:
        """Key of its tasks, and their folder: readable, and unique by a digest of the whole name."""
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name)[-80:].strip("-")
        return f"{readable}-{fingerprint({'name': self.name})[:8]}"

    @property
    def order(self) -> tuple[str, str, int]:
        """Canonical order: by source, path and position."""
        return self.source, self.path, self.start

    @property
    def span(self) -> int:
        """Bytes to read, for progress."""
        return self.size if self.end is None else min(self.end, self.size) - self.start


def open_input(path: str) -> BinaryIO:
    """Opens an input file: a local path or any fsspec URL. What cannot seek (a plain web server) is fetched whole first."""
    if is_local(path):
        return Path(path.removeprefix("file://")).open("rb")
    file: BinaryIO = fsspec.open(path, "rb").open()
    if file.seekable():
        return file
    copy: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    with file:
        shutil.copyfileobj(file, copy, 1 << 20)
    copy.seek(0)
    return copy


def list_partitions(sources: Mapping[str, Source], where: str) -> list[Partition]:
    """All partitions of all sources, in canonical order.

    Raises `ConfigError` for a glob that matches nothing and for a file whose name does not tell its format.
    """
    found: dict[str, Partition] = {}
    for name, source in sources.items():
        for pattern in source.paths:
            files = _local_files(pattern) if is_local(pattern) else _remote_files(pattern)
            if not files:
                raise ConfigError(
                    f"{where}: sources.{name}.path: {pattern!r} matches no file "
                    f"(relative paths start at the working directory, {Path.cwd()})"
                )
            for path, size, identity in files:
                try:
                    file_format = format_of(path, source)
                except ValueError as error:
                    raise ConfigError(f"{where}: sources.{name}.path: {error}") from error
                for start, end in _ranges(path, size, file_format):
                    partition = Partition(name, path, size, identity, start, end)
                    found[partition.name] = partition
    return sorted(found.values(), key=lambda partition: partition.order)


def _local_files(pattern: str) -> list[tuple[str, int, str]]:
    pattern = pattern.removeprefix("file://")
    files = []
    for match in glob.glob(pattern, recursive=True):  # noqa: PTH207 (absolute and relative patterns alike)
        path = os.path.normpath(match)
        if Path(path).is_file():
            stat = Path(path).stat()
            files.append((path, stat.st_size, f"{stat.st_size} bytes, modified {stat.st_mtime_ns}"))
    return files


def _remote_files(pattern: str) -> list[tuple[str, int, str]]:
    fs, path = fsspec.core.url_to_fs(pattern)
    try:
        entries: dict[str, Any] = (
            fs.glob(path, detail=True) if glob.has_magic(path) else {path: fs.info(path)}  # https cannot list
        )
    except FileNotFoundError:
        return []
    files = []
    for name, entry in entries.items():
        if entry.get("type") == "directory":
            continue
        tag = next((entry[key] for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime") if entry.get(key)), "")
        size = int(entry.get("size") or 0)
        files.append((fs.unstrip_protocol(name), size, f"{size} bytes, tag {tag}"))
    return files


def _ranges(path: str, size: int, file_format: str) -> list[tuple[int, int | None]]:
    if size <= PARTITION_BYTES:
        return [(0, None)]
    if file_format == "jsonl" and path.endswith(SPLITTABLE_JSONL):
        return [(start, min(start + PARTITION_BYTES, size)) for start in range(0, size, PARTITION_BYTES)]
    if file_format == "parquet":
        return _row_group_ranges(path)
    return [(0, None)]


def _row_group_ranges(path: str) -> list[tuple[int, int | None]]:
    try:
        with open_input(path) as file:
            metadata = pq.read_metadata(file)
    except (OSError, ValueError):
        return [(0, None)]  # the reader will name what is wrong with it
    ranges: list[tuple[int, int | None]] = []
    first = size = 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= PARTITION_BYTES or group == metadata.num_row_groups - 1:
            ranges.append((first, group + 1))
            first, size = group + 1, 0
    return ranges or [(0, None)]
