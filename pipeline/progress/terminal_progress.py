"""Progress of a run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tokenmill.pipeline.progress.throughput import Throughput
from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.tasks.task import Task


class TerminalProgress:
    """Progress by step: a bar where there is a terminal, a line a step where there is none."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._label = ""
        self._throughput = Throughput()
        self._tasks = self._already = 0

    def run_begins(self, described: dict[str, Any]) -> None:
        """See `RunObserver`; the terminal shows steps alone."""

    def on_warmup(self, stages: Sequence[str]) -> None:
        """See `RunObserver`."""
        self._console.print(f"First run: makes machine code for {', '.join(stages)} (kept for the next)")

    def step_begins(self, step: str, number: int, of: int, tasks: int, finished: Mapping[str, Receipt]) -> None:
        """See `RunObserver`."""
        self._label = f"[{number}/{of}] {step}"
        self._throughput = Throughput()
        self._tasks, self._already = tasks, len(finished)
        if self._console.is_terminal and self._already < tasks:
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[rates]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._bar = self._progress.add_task(escape(self._label), total=tasks, completed=self._already, rates="")

    def task_ends(self, task: Task, receipt: Receipt) -> None:
        """See `RunObserver`."""
        self._throughput.add(task, receipt)
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, advance=1, rates=str(self._throughput))

    def step_ends(self, step: str) -> None:
        """See `RunObserver`."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        ran = self._tasks - self._already
        if not ran:
            state = "nothing to do" if self._tasks else "no tasks"
        else:
            state = f"{ran} of {self._tasks} tasks" if self._already else f"{ran} task{'s' if ran > 1 else ''}"
            state += f" in {self._throughput.seconds:.1f} s  {self._throughput}"
        self._console.print(f"{escape(self._label)}: {state}", highlight=False)
