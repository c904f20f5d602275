"""Who does the tasks of a run: this process alone, or Ray's workers (`run.cluster`)."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import pyarrow as pa

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.graph.stage_spec import StageSpec
from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.tasks.kernel_warmup import warm_up
from tokenmill.pipeline.tasks.task import THREAD_VARIABLES, Task

FRAMES_SHOWN = 3
"""Innermost frames of a failed task that its message names."""


class Executor(Protocol):
    """Does tasks that do not depend on each other."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Receipt]]:
        """Does the tasks in any order; yields each with its receipt as it ends. Raises `RunError` naming a task that failed."""

    def warm_up(self, specs: Sequence[StageSpec]) -> None:
        """Compiles the kernels of stages, see `tasks.kernel_warmup`."""

    def stop(self) -> None:
        """Gives up tasks in flight (they commit whole or not at all) and what it holds."""


class InProcess:
    """Does one task after the other in this process: no Ray, so a debugger stops in a stage's code."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Receipt]]:
        """See `Executor`."""
        for task in tasks:
            with _threads_as_before():
                try:
                    receipt = replace(task, threads=1).execute()
                except Exception as error:
                    frames = traceback.format_tb(error.__traceback__)[-FRAMES_SHOWN:]
                    raise task_failed(task, error, "".join(frames)) from error
            yield task, receipt

    def warm_up(self, specs: Sequence[StageSpec]) -> None:
        """See `Executor`."""
        for spec in specs:
            warm_up(spec)

    def stop(self) -> None:
        """See `Executor`."""


def task_failed(task: Task, error: BaseException, frames: str) -> RunError:
    """What people are told of a task that raised `error`: the step, the task, its partition and where it happened."""
    where = getattr(task, "partition", None)
    place = f" ({getattr(where, 'name', where)})" if where else ""
    return RunError(
        f"step {task.step}, task {task.key}{place}: {type(error).__name__}: {error}\n{frames.rstrip()}".rstrip()
    )


@contextmanager
def _threads_as_before() -> Iterator[None]:
    """A task holds the numeric libraries to its threads; the caller of this process gets its own settings back."""
    cpus, io = pa.cpu_count(), pa.io_thread_count()
    variables = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    try:
        yield
    finally:
        pa.set_cpu_count(cpus)
        pa.set_io_thread_count(io)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
