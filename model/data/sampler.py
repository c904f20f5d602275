"""An endless stream of numbered samples, divided among ranks in batches, with one number as its state."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from tokenmill.model.data.batch import Batch, Windows, batch_of
from tokenmill.model.data.mmap_shards import Numbers

logger = logging.getLogger(__name__)

GATHERED_BYTES = 2**20
"""Tokens that are copied out of the shards at once, unless a batch is more."""
PATIENCE = 10.0
"""Seconds of waiting for data after which the loader logs a warning."""
ORDERED_AHEAD = 16_384
"""Samples whose places are computed at a time: 40 ns each, where one alone takes 1.5 us."""


class ShardOptions(NamedTuple):
    """How samples are divided among ranks. `batch_size`: samples that a rank takes at a time. `rank` of `world_size` ranks.
    `device`: of torch tensors; None for numpy arrays. `prefetch`: batches that a thread makes ahead.
    """

    batch_size: int
    rank: int
    world_size: int
    device: Any
    prefetch: int


def shard_options(
    batch_size: int, rank: int | None, world_size: int | None, device: Any, prefetch: int
) -> ShardOptions:
    """The options, checked; rank and world size are those of torch.distributed where it is running and they are not given."""
    if (rank is None) != (world_size is None):
        raise ValueError("give rank and world_size, or neither to take them from torch.distributed")
    if rank is None or world_size is None:
        # torch is not imported for this: where it has not been imported, no process group is running
        distributed: Any = getattr(sys.modules.get("torch"), "distributed", None)
        running = distributed is not None and distributed.is_available() and distributed.is_initialized()
        rank, world_size = (distributed.get_rank(), distributed.get_world_size()) if running else (0, 1)
    if not 0 <= rank < world_size or batch_size < 1 or prefetch < 0:
        raise ValueError(
            f"rank {rank} of {world_size}, batches of {batch_size}, {prefetch} ahead: are not possible together"
        )
    return ShardOptions(batch_size, rank, world_size, device, prefetch)


class SampleStream:
    """Samples 0, 1, 2, ... in batches. Step s of a run takes samples s * G .. (s + 1) * G with G = batch_size * world_size,
    of which each rank takes `batch_size`, in order of their numbers: all ranks together see what one rank alone would.

    Iterating begins at the state and moves it with every batch that is handed out (not with those made ahead), so that
    `state_dict()` after a step is where the next begins. Only one iterator may be in use at a time.
    """

    def __init__(self, sharding: ShardOptions, total: int | None) -> None:
        """`total`: samples after which the stream ends; None for never. In the last step ranks may have fewer rows, or none."""
        self.sharding = sharding
        self.total = total
        self.samples = 0
        """Samples that all ranks together have consumed."""

    def identity(self) -> dict[str, Any]:
        """All that determines the tokens of a sample; JSON-able, compared when a state is loaded."""
        raise NotImplementedError

    def locate(self, samples: Numbers) -> Numbers:
        """The places of samples in the source: int64, first dimension (n,). A pure, fast function that reads no token."""
        raise NotImplementedError

    def gather(self, places: Numbers) -> Windows:
        """Reads the tokens at places."""
        raise NotImplementedError

    def expect(self, places: Numbers) -> None:
        """Announces places that will be gathered soon, so that the disk can fetch them."""
        raise NotImplementedError

    def reading(self) -> list[str]:
        """Files that are being read now."""
        raise NotImplementedError

    def read(self, samples: Numbers) -> Batch:
        """Any samples as a batch of numpy arrays, independent of the state. `samples`: int64, shape (rows,)."""
        return batch_of(self.gather(self.locate(samples)), samples)

    def state_dict(self) -> dict[str, Any]:
        """The number of samples consumed and what they were samples of; JSON-able."""
        return {"samples": self.samples, **self.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from where `state` was taken; batch size and number of ranks may differ.

        Raises ValueError where the state was taken from other samples.
        """
        identity = self.identity()
        wrong = [
            f"{key} was {state.get(key)!r} and is {value!r}"
            for key, value in identity.items()
            if state.get(key) != value
        ]
        if wrong:
            raise ValueError(
                f"the state belongs to other samples: {'; '.join(wrong)}. Open the data that the run was trained on with the "
                "same settings, or begin a new run without the state"
            )
        self.samples = int(state["samples"])

    def rewind(self) -> None:
        """Begins again at sample 0 with the next iteration, as every evaluation does."""
        self.samples = 0

    def __iter__(self) -> Iterator[Batch]:
        step = self.sharding.batch_size * self.sharding.world_size
        transfer = _transfer(self.sharding.device)
        made = self._made(self.samples, transfer)
        for batch, event in self._ahead(made) if self.sharding.prefetch else made:
            self.samples += step if self.total is None else min(step, self.total - self.samples)
            yield batch if transfer is None else transfer.receive(batch, event)

    def _made(self, first: int, transfer: Any) -> Iterator[tuple[Batch, Any]]:
        size = self.sharding.batch_size
        step = size * self.sharding.world_size
        rows = np.arange(self.sharding.rank * size, (self.sharding.rank + 1) * size)
        steps = max(ORDERED_AHEAD // size, 1)
        while self.total is None or first < self.total:
            last = first + steps * step if self.total is None else min(first + steps * step, self.total)
            begins = np.arange(first, last, step)
            samples = (begins[:, None] + rows).ravel()
            if self.total is not None:
                samples = samples[samples < self.total]
            for batch in self._gathered(self.locate(samples), samples, len(begins)):
                yield (batch, None) if transfer is None else transfer.send(batch)
            first = last

    def _gathered(self, places: Numbers, samples: Numbers, batches: int) -> Iterator[Batch]:
        """The batches of samples, of which the last may lack rows.

        The first is gathered alone, so that training can begin; then ever more at once, as each costs less so.
        """
        size = self.sharding.batch_size
        begin, group = 0, size
        self.expect(places[:size])
        while begin < batches * size:
            end = min(begin + group, batches * size)
            windows = self.gather(places[begin:end])
            group = min(2 * group, max(GATHERED_BYTES // max(windows.inputs[:size].nbytes, 1), 1) * size)
            self.expect(places[end : end + group])
            for row in range(0, end - begin, size):
                yield batch_of(windows.rows(row, row + size), samples[begin + row : begin + row + size])
            begin = end

    def _ahead(self, made: Iterator[tuple[Batch, Any]]) -> Iterator[tuple[Batch, Any]]:
        pool = ThreadPoolExecutor(1, "batches ahead")
        pending: deque[Future[tuple[Batch, Any] | None]] = deque()
        # a local name: when the interpreter's end closes this generator, there are no globals any more
        is_ending = sys.is_finalizing
        try:
            for _ in range(self.sharding.prefetch):
                pending.append(pool.submit(next, made, None))
            while (item := self._patiently(pending.popleft())) is not None:
                pending.append(pool.submit(next, made, None))
                yield item
        finally:
            if not is_ending():
                pool.shutdown(cancel_futures=True)

    def _patiently(self, future: Future[tuple[Batch, Any] | None]) -> tuple[Batch, Any] | None:
        waited = 0.0
        while True:
            try:
                return future.result(PATIENCE)
            except TimeoutError:
                if future.done():
                    raise
                waited += PATIENCE
                logger.warning("waiting for data for %.0f s: reading %s", waited, ", ".join(self.reading()))


def _transfer(device: Any) -> Any:
    if device is None:
        return None
    from tokenmill.model.data.device_transfer import Transfer  # not at the top: numpy batches need no torch

    return Transfer(device)
