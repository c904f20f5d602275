"""What could interrupt a step: signals, which wait for its end, and Python's garbage collection, which waits longer."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def signals_wait() -> Iterator[list[int]]:
    """A list that a SIGINT or SIGTERM is added to, for one to end after the step; a second SIGINT ends at once."""
    caught: list[int] = []

    def note(number: int, frame: Any) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1  # several processes would stop after different steps
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)} if alone else {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def garbage_waits() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
