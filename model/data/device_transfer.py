"""Batches as torch tensors on a device, copied while the step before runs. The only part of the loader that imports torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tokenmill.model.data.batch import IGNORED, Batch

_cuda: Any = torch.cuda  # has no types


class Transfer:
    """Sends batches to a device: through pinned memory, on a stream of its own, in the dataset's narrow dtype.

    Tokens are widened to int64 on the device, so that a quarter of the bytes crosses the bus.
    """

    def __init__(self, device: Any) -> None:
        self.device = torch.device(device)
        # a stream of its own, so that a copy does not queue behind the kernels of the step that is running
        self._stream = _cuda.Stream(self.device) if self.device.type == "cuda" else None

    def send(self, batch: Batch) -> tuple[Batch, Any]:
        """A batch on the device, and the event after which it is there (None on the CPU, where it is there at once)."""
        if self._stream is None:
            return self._converted(batch), None
        with torch.cuda.stream(self._stream):
            sent = self._converted(batch)
            event = _cuda.Event()
            event.record(self._stream)
        return sent, event

    def receive(self, batch: Batch, event: Any) -> Batch:
        """Makes the current stream wait for a batch that was sent; the host does not wait."""
        if event is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            for tensor in (batch.inputs, batch.targets, batch.target_counts, batch.positions, batch.cu_seqlens):
                if tensor is not None:
                    # The allocator knows the stream that a tensor was made on, not this one: without the record it would give
                    # the memory to the next batch as soon as Python drops this one, while the step may still be reading it
                    tensor.record_stream(current)
        return batch

    def _converted(self, batch: Batch) -> Batch:
        inputs, targets = self._tokens(batch)
        context_length = batch.inputs.shape[1]
        if (batch.target_counts < context_length).any():
            padding = np.arange(context_length) >= batch.target_counts[:, None]
            targets = targets.masked_fill(self._moved(padding), IGNORED)
        return replace(
            batch,
            inputs=inputs,
            targets=targets,
            target_counts=self._moved(batch.target_counts),
            positions=None if batch.positions is None else self._moved(batch.positions),
            cu_seqlens=None if batch.cu_seqlens is None else self._moved(batch.cu_seqlens),
        )

    def _tokens(self, batch: Batch) -> list[torch.Tensor]:
        """Inputs and targets, copied together: one transfer costs less than two."""
        both = [batch.inputs, batch.targets]
        if self.device.type == "cpu":
            return [torch.from_numpy(tokens.astype(np.int64)) for tokens in both]
        tokens = np.stack(both)
        if tokens.dtype == np.uint16:
            # torch has few kernels for uint16, so the same bits cross as int16; widening extends the sign of ids from 32,768
            # on, and the mask takes it back
            return list(self._moved(tokens.view(np.int16)).to(torch.int64).bitwise_and_(0xFFFF))
        return list(self._moved(tokens).to(torch.int64))

    def _moved(self, array: Any) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._stream is None:
            return tensor.to(self.device)
        # only from pinned memory is a copy asynchronous; torch's allocator holds it back until the copy is done
        return tensor.pin_memory().to(self.device, non_blocking=True)
