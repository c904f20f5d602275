"""The tokens of a split: its shards as one sequence, closed to a ring, memory-mapped as they are needed.

Shards end where documents end, so going from the last token to the first is one more document end.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.model.data.shard_format import Shard

Numbers = npt.NDArray[np.int64]

READ_AHEAD_SHARE = 0.5
"""Of physical memory: the system does not read ahead around random windows of a larger split, which would evict itself."""

WIDEST_GATHER = 2**15
"""Wider windows are copied one by one, at no cost there: the array of overlapping windows would pass numpy's largest size."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class MappedShards:
    """The tokens of the shards of one split, by their place in the split (0 .. `tokens`).

    Opening reads the size of every `.bin` and nothing else. A shard is mapped when a token of it is first asked for, and its
    index is compared with the card then. Files are closed once mapped, so that a thousand shards do not exceed the limit of
    open files.
    """

    def __init__(self, folder: Path, card: dict[str, Any], split: str, sequential: bool) -> None:
        """`sequential`: whether tokens will be read in order. Raises ValueError where the files are not what the card says."""
        self.folder = folder
        self.shards: list[dict[str, Any]] = [shard for shard in card["splits"][split]["shards"] if shard["tokens"]]
        self.dtype = np.dtype(card["dtype"]).newbyteorder("<")
        counts = np.array([shard["tokens"] for shard in self.shards], np.int64)
        self.ends: Numbers = np.cumsum(counts)
        self.starts: Numbers = self.ends - counts
        self.tokens = int(counts.sum())
        self.reading: Numbers = np.empty(0, np.int64)
        """The shards that are being read now, for a warning that they take long."""
        # of each shard, in tokens: the address of the split's token 0 if all of the split lay in one piece around this shard,
        # so that base + place is the address of a token that the shard holds
        self._bases = np.zeros(len(self.shards), np.int64)
        self._unmapped = len(self.shards)
        self._lowest: tuple[int, npt.NDArray[Any]] = (2**63 - 1, np.empty((0, 0), self.dtype))
        self._lock = threading.Lock()
        self._mappings: list[tuple[int, int]] = []
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        # not at the interpreter's exit: a thread may still be reading then, and the system unmaps anyway
        weakref.finalize(self, _unmap, self._mappings).atexit = False
        in_memory = self.tokens * self.dtype.itemsize < READ_AHEAD_SHARE * _memory()
        self._look_ahead = not sequential and not in_memory
        self._advice = mmap.MADV_SEQUENTIAL if sequential else mmap.MADV_NORMAL if in_memory else mmap.MADV_RANDOM
        for shard in self.shards:
            self._check_size(shard)

    def path(self, number: int) -> Path:
        """The `.bin` of a shard."""
        return self.folder / f"{self.shards[number]['name']}.bin"

    def windows(self, starts: Numbers, width: int) -> npt.NDArray[Any]:
        """The `width` tokens from each start on, round the end of the split, in their own dtype, shape (n, width)."""
        number = self._mapped_shards_of(starts)
        if width <= WIDEST_GATHER and (starts + width <= self.ends[number]).all():
            return self._gather(number, starts, width)
        return np.stack(self.spans(starts, np.full(len(starts), width)))

    def spans(self, starts: Numbers, counts: Numbers) -> list[npt.NDArray[Any]]:
        """From each start on so many tokens, round the end of the split and over any number of shards. Views where they can be;
        copy them at once, as they do not keep the shards mapped.
        """
        number = self._mapped_shards_of(starts)
        whole = starts + counts <= self.ends[number]
        inside = starts - self.starts[number]
        return [
            self._arrays[shard][begin : begin + count] if fits else self._joined(start, count)
            for shard, begin, count, fits, start in zip(
                number.tolist(), inside.tolist(), counts.tolist(), whole.tolist(), starts.tolist(), strict=True
            )
        ]

    def _joined(self, start: int, count: int) -> npt.NDArray[Any]:
        pieces = self.pieces(start, count)
        self._map(np.array([shard for shard, _, _ in pieces]))
        return np.concatenate([self._arrays[shard][inside : inside + length] for shard, inside, length in pieces])

    def pieces(self, start: int, count: int) -> list[tuple[int, int, int]]:
        """The shards over which `count` tokens from `start` on are spread: (shard, place in it, tokens)."""
        found = []
        while count:
            number = int(np.searchsorted(self.ends, start, "right"))
            length = min(count, int(self.ends[number]) - start)
            found.append((number, start - int(self.starts[number]), length))
            start, count = (start + length) % self.tokens, count - length
        return found

    def expect(self, starts: Numbers, width: int) -> None:
        """Asks the disk for windows that will be read soon, where the split is too large for memory."""
        if not self._look_ahead:
            return
        number = self._mapped_shards_of(starts)
        size = self.dtype.itemsize
        for begin in ((self._bases[number] + starts) * size).tolist():
            page = begin - begin % mmap.PAGESIZE
            _libc.madvise(page, begin + width * size - page, mmap.MADV_WILLNEED)

    def _mapped_shards_of(self, tokens: Numbers) -> Numbers:
        """The shard of each token of the split, int64, shape (n,), mapped. Takes O(log shards)."""
        number = np.searchsorted(self.ends, tokens, "right")
        if self._unmapped:
            self._map(number)
        self.reading = number
        return number

    def _gather(self, number: Numbers, starts: Numbers, width: int) -> npt.NDArray[Any]:
        # One fancy index over all shards at once, as if memory were one array of overlapping windows that begins at the lowest
        # mapping: 13 us for 64 windows of 1,025, where a slice a window takes 38 us. Only mapped tokens are read, since every
        # window lies in its shard (`windows` checks that) and the shards' sizes were compared with the card.
        origin, windows = self._lowest
        if windows.shape[1] != width:
            size = self.dtype.itemsize
            windows = np.lib.stride_tricks.as_strided(windows, (2**47 // size, width), (size, size), writeable=False)
            with self._lock:
                if self._lowest[0] == origin:  # else another thread has mapped a lower shard meanwhile
                    self._lowest = origin, windows
        return windows[(self._bases - origin)[number] + starts]

    def _map(self, numbers: Numbers) -> None:
        with self._lock:
            for number in np.unique(numbers).tolist():
                if number in self._arrays:
                    continue
                self.reading = np.array([number])
                self.index(number)
                address, size = self._map_file(self.path(number), self._check_size(self.shards[number]))
                array = np.frombuffer(memoryview((ctypes.c_char * size).from_address(address)), self.dtype)
                origin = address // self.dtype.itemsize
                if origin < self._lowest[0]:
                    self._lowest = origin, array[:, None]
                self._bases[number] = origin - self.starts[number]
                self._arrays[number] = array
                self._unmapped -= 1

    def _map_file(self, path: Path, size: int) -> tuple[int, int]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        finally:
            os.close(descriptor)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), f"cannot be mapped: {os.strerror(ctypes.get_errno())}", str(path))
        _libc.madvise(address, size, self._advice)
        self._mappings.append((address, size))
        return int(address), size

    def _check_size(self, shard: dict[str, Any]) -> int:
        path = self.folder / f"{shard['name']}.bin"
        expected: int = shard["tokens"] * self.dtype.itemsize
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise ValueError(
                f"{path}: is missing; copy the dataset's folder whole, or run the pipeline again"
            ) from error
        if size != expected:
            raise ValueError(
                f"{path}: has {size:,} bytes, the card says {expected:,}; the file was cut short or changed: copy it again, "
                "or run the pipeline again"
            )
        return expected

    def index(self, number: int) -> Shard:
        """A shard with its index. Raises ValueError where it is not the one that the card describes."""
        entry, path = self.shards[number], self.path(number).with_suffix(".idx")
        try:
            shard = Shard(self.path(number))
        except FileNotFoundError as error:
            raise ValueError(f"{error.filename}: is missing; copy the dataset's folder whole") from error
        # the last document's end: an index over more or fewer tokens is found without reading all of it
        end = int(shard.pointers[-1]) // self.dtype.itemsize + int(shard.lengths[-1]) if len(shard) else 0
        if shard.dtype != self.dtype or len(shard) != entry["documents"] or end != entry["tokens"]:
            raise ValueError(
                f"{path}: is of {len(shard):,} documents and {end:,} {shard.dtype} tokens, the card says "
                f"{entry['documents']:,} and {entry['tokens']:,} {self.dtype}: they are of different runs; copy the folder "
                "again"
            )
        return shard


def _unmap(mappings: list[tuple[int, int]]) -> None:
    for address, size in mappings:
        _libc.munmap(address, size)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
