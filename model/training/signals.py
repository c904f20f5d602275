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
    """A list that a SIGINT or SIGTERM is added to, for one to end after a step; a second SIGINT ends a process that is alone
    at once. One of several is sent it twice, by the terminal and by torchrun, which kills it after half a minute."""
    caught: list[int] = []
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1

    def note(number: int, frame: Any) -> None:
        caught.append(number)
        if alone:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
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
