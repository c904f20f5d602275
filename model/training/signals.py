"""What could interrupt a step: signals, deferred to its end, and Python's garbage collection, paused for longer."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def signals_deferred() -> Iterator[list[int]]:
    """A list that each SIGINT or SIGTERM is added to, for the caller to end after a step.

    A second SIGINT ends a process that is alone at once. One of several gets it twice anyway, from the terminal and from
    torchrun, which kills it after half a minute.
    """
    caught: list[int] = []
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1

    def catch(number: int, frame: Any) -> None:
        caught.append(number)
        if alone:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def gc_paused() -> Iterator[None]:
    """No automatic garbage collection within; `gc.collect()` skips what was there before.

    A collection looks at every object of torch and the model, which takes tens of milliseconds, and on each rank at another
    time: the others then wait for it.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
