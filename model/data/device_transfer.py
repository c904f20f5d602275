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

    Tokens are widened to int64 on the device: a quarter of the bytes goes over the bus.
    """

    def __init__(self, device: Any) -> None:
        self.device = torch.device(device)
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
            for tensor in (batch.inputs, batch.targets, batch.counted, batch.positions, batch.cumulative_lengths):
                if tensor is not None:
                    # else its memory could be given out again while the step still reads it
                    tensor.record_stream(current)
        return batch

    def _converted(self, batch: Batch) -> Batch:
        inputs, targets = self._tokens(batch)
        window = batch.inputs.shape[1]
        if (batch.counted < window).any():
            padding = np.arange(window) >= batch.counted[:, None]
            targets = targets.masked_fill(self._moved(padding), IGNORED)
        return replace(
            batch,
            inputs=inputs,
            targets=targets,
            counted=self._moved(batch.counted),
            positions=None if batch.positions is None else self._moved(batch.positions),
            cumulative_lengths=None if batch.cumulative_lengths is None else self._moved(batch.cumulative_lengths),
        )

    def _tokens(self, batch: Batch) -> list[torch.Tensor]:
        """Inputs and targets, which go over together."""
        both = [batch.inputs, batch.targets]
        if self.device.type == "cpu":
            return [torch.from_numpy(tokens.astype(np.int64)) for tokens in both]
        tokens = np.stack(both)
        if tokens.dtype == np.uint16:
            # as int16, which every kernel knows; the sign is taken back after widening
            return list(self._moved(tokens.view(np.int16)).to(torch.int64).bitwise_and_(0xFFFF))
        return list(self._moved(tokens).to(torch.int64))

    def _moved(self, array: Any) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._stream is None:
            return tensor.to(self.device)
        # the pinned memory is held back by torch's allocator until the copy is done
        return tensor.pin_memory().to(self.device, non_blocking=True)
