"""Where a run's files live: one folder, local or any fsspec URL, written atomically.

On a local disk a file is written under a temporary name in RUN/.tmp, synced, and renamed into place; on an object store it
is one put. Either way a reader sees the whole file or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import fsspec
import orjson

from tokenmill.pipeline.errors import RunError

BLOCK_BYTES = 4 << 20
"""Fetched at once of a file on an object store; up to 32 blocks of an open file are kept in memory."""


def is_local(url: str) -> bool:
    """Whether a path names a file on this machine."""
    return "://" not in url or url.startswith("file://")


@dataclass(frozen=True)
class Output:
    """A committed file: `path` below the run folder, `size` in bytes, `checksum` as hex blake2b-128 of its bytes."""

    path: str
    size: int
    checksum: str


class AtomicFile(io.RawIOBase):
    """A file that appears under its name when it is closed without an error, with its size and checksum known."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path
        self._digest = hashlib.blake2b(digest_size=16)
        self._size = 0
        self._aborted = False
        if store.local:
            self._temporary = store.local / ".tmp" / uuid.uuid4().hex
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            self._file: Any = self._temporary.open("wb")
        else:
            self._file = fsspec.open(store.url_of(path), "wb").open()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._digest.update(view)
        self._file.write(view)
        self._size += len(view)
        return len(view)

    def tell(self) -> int:
        return self._size

    def abort(self) -> None:
        """Throws away what was written; the name keeps what it held before."""
        self._aborted = True
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        if self._store.local:
            if self._aborted:
                self._file.close()
                self._temporary.unlink()
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            target = self._store.local / self._path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.replace(target)
        elif self._aborted and hasattr(self._file, "discard"):
            self._file.discard()
        else:
            self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        else:
            self.close()

    @property
    def output(self) -> Output:
        """What was written; complete once closed."""
        return Output(self._path, self._size, self._digest.hexdigest())


class Store:
    """A run's folder."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.local: Path | None = Path(root.removeprefix("file://")) if is_local(root) else None

    def is_same(self, other: Store) -> bool:
        """Whether the two are one folder, however it is spelled."""
        if self.local is None or other.local is None:
            return self.root == other.root
        return self.local.resolve() == other.local.resolve()

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.root,)

    def url_of(self, path: str) -> str:
        """The full name of a file of the run. Raises `RunError` for a path that leads out of it."""
        if path.startswith("/") or ".." in path.split("/"):
            raise RunError(f"{path!r} leads out of the run folder {self.root}")
        return f"{self.root}/{path}"

    def create(self, path: str) -> AtomicFile:
        """A new file, visible under its name only once it is closed."""
        self.url_of(path)
        return AtomicFile(self, path)

    def open(self, path: str) -> BinaryIO:
        """A file opened for reading. Raises FileNotFoundError."""
        url = self.url_of(path)
        if self.local:
            return Path(url).open("rb")
        fs, name = self._remote(path)
        # tables are read from their end, then here and there: a request for each block, not for each read
        file: BinaryIO = fs.open(name, "rb", cache_type="blockcache", block_size=BLOCK_BYTES)
        return file

    def exists(self, path: str) -> bool:
        """Whether the file is there."""
        if self.local:
            return (self.local / path).exists()
        fs, name = self._remote(path)
        return bool(fs.exists(name))

    def _remote(self, path: str) -> tuple[Any, str]:
        """The file system of a store that is not local, and a file's name there. It remembers no listing: others write."""
        fs, name = fsspec.core.url_to_fs(self.url_of(path))
        fs.invalidate_cache()
        return fs, name

    def read_json(self, path: str) -> Any:
        """A JSON file, or None where there is none or it is not JSON (cut short by other hands)."""
        try:
            with self.open(path) as file:
                return orjson.loads(file.read())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None

    def write_json(self, path: str, value: Any) -> Output:
        """Writes a JSON file atomically, for people to read too."""
        with self.create(path) as file:
            file.write(json.dumps(value, indent=1, ensure_ascii=False).encode())
        return file.output

    def names(self, folder: str) -> list[str]:
        """Names of the files and folders in a folder, sorted; nothing where it is absent."""
        if self.local:
            place = self.local / folder
            return sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []
        fs, name = self._remote(folder)
        try:
            entries = fs.ls(name, detail=False)
        except FileNotFoundError:
            return []
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def remove(self, path: str) -> None:
        """Removes a file or a whole folder of the run; nothing happens where it is absent."""
        url = self.url_of(path)
        if self.local:
            place = Path(url)
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
            return
        fs, name = self._remote(path)
        if fs.exists(name):
            fs.rm(name, recursive=True)

    def checksum(self, path: str) -> Output:
        """Size and checksum of a file as it lies there now."""
        digest, size = hashlib.blake2b(digest_size=16), 0
        with self.open(path) as file:
            while block := file.read(1 << 22):
                digest.update(block)
                size += len(block)
        return Output(path, size, digest.hexdigest())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run folder for one writer (local folders; the kernel frees it however the holder dies).

        Raises `RunError` if another run holds it. Leftover temporary files of a killed run are removed.
        """
        if not self.local:
            yield
            return
        self.local.mkdir(parents=True, exist_ok=True)
        with (self.local / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    f"{self.root}: another tokenmill run is writing here; wait for it, or give --output"
                ) from error
            shutil.rmtree(self.local / ".tmp", ignore_errors=True)
            yield
