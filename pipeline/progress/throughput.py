"""How fast the tasks of a step are done."""

from __future__ import annotations

import time

from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.tasks.partition_task import PartitionTask
from tokenmill.pipeline.tasks.task import Task


class Throughput:
    """Documents and bytes of a step's tasks since it began."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._entered = self._kept = self._bytes = 0

    @property
    def seconds(self) -> float:
        """Since the step began."""
        return time.perf_counter() - self._began

    def add(self, task: Task, receipt: Receipt) -> None:
        """Counts a task that is committed."""
        counts = list(receipt.stages.values())
        if counts:
            self._entered += counts[0].entered
            self._kept += counts[-1].kept
            self._bytes += counts[0].bytes_entered
        if isinstance(task, PartitionTask) and task.options is not None:
            self._bytes += max(task.partition.span - counts[0].bytes_entered, 0) if counts else 0

    def __str__(self) -> str:
        """Rates for people; nothing where no documents were counted."""
        seconds = max(self.seconds, 1e-6)
        if not self._entered:
            return ""
        text = f"{self._entered / seconds:,.0f} documents/s"
        if self._bytes:
            text += f"  {self._bytes / seconds / 1e6:,.1f} MB/s"
        return f"{text}  {self._kept / self._entered:.1%} kept"
