"""What observers of a run are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.tasks.task import Task


class RunObserver(Protocol):
    """An observer of a run, such as the terminal or the page."""

    def run_begins(self, described: dict[str, Any]) -> None:
        """The plan is made; `described` is what `run.json` says of it."""

    def on_warmup(self, stages: Sequence[str]) -> None:
        """An installation's first run makes machine code for these stages, as its first step begins."""

    def step_begins(self, step: str, number: int, of: int, tasks: int, finished: Mapping[str, Receipt]) -> None:
        """A step has `tasks` tasks, some of them `finished` by previous runs."""

    def task_ends(self, task: Task, receipt: Receipt) -> None:
        """A task is committed."""

    def step_ends(self, step: str) -> None:
        """All tasks of the step are committed."""
