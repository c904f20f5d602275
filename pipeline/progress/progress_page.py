"""The page of a run that has not finished: made of receipts alone, so that it costs the run nothing measurable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from threading import Event, Thread
from typing import Any

from tokenmill.pipeline.progress.throughput import Throughput
from tokenmill.pipeline.report.report import PAGE, sum_up
from tokenmill.pipeline.storage.receipts import READ, Receipt, StageCount
from tokenmill.pipeline.storage.store import Store
from tokenmill.pipeline.tasks.task import Task

AT_MOST_EVERY, AT_LEAST_EVERY = 1.0, 5.0
"""Seconds between two writings: steps may end faster than the first, and last longer than the second."""

NOT_FINISHED = "tokenmill run, not finished</title>"
"""Ends the title of such a page, and of no other."""


@dataclass
class _ShownStep:
    """A step that has begun. `seconds`: how long it took, None while it runs."""

    tasks: int
    before: Mapping[str, Receipt]
    ran: list[Receipt] = field(default_factory=list)
    throughput: Throughput = field(default_factory=Throughput)
    seconds: float | None = None

    @property
    def is_finished(self) -> bool:
        return self.seconds is not None

    @property
    def done(self) -> int:
        return len(self.before) + len(self.ran)

    @property
    def receipts(self) -> list[Receipt]:
        return [*self.before.values(), *self.ran]


class ProgressPage:
    """A `RunObserver` that keeps the page of a running run up to date, in a thread of its own.

    Where there is nothing to do nothing is written: the page of the finished run is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._described: dict[str, Any] = {"complete": False, "config": {}, "sources": [], "nodes": {}, "steps": []}
        self._steps: dict[str, _ShownStep] = {}
        self._throughput = Throughput()
        self._reason: str | None = None
        self._writer: Thread | None = None
        self._step_ended, self._stopped = Event(), Event()

    def run_begins(self, described: dict[str, Any]) -> None:
        """See `RunObserver`."""
        self._described = described

    def on_warmup(self, stages: Sequence[str]) -> None:
        """See `RunObserver`; the page shows steps alone."""

    def step_begins(self, step: str, number: int, of: int, tasks: int, finished: Mapping[str, Receipt]) -> None:
        """See `RunObserver`."""
        self._steps[step] = _ShownStep(tasks, finished)
        if self._writer is None and len(finished) < tasks:
            self._writer = Thread(target=self._keep_writing, daemon=True)
            self._writer.start()

    def task_ends(self, task: Task, receipt: Receipt) -> None:
        """See `RunObserver`."""
        step = self._steps[task.step]
        step.ran.append(receipt)
        step.throughput.add(task, receipt)

    def step_ends(self, step: str) -> None:
        """See `RunObserver`."""
        self._steps[step].seconds = self._steps[step].throughput.seconds
        self._step_ended.set()

    def stop(self, reason: str | None = None) -> None:
        """Ends the writing. `reason`: why the run did not finish, which the page then says; None where it did."""
        self._reason = reason
        self._stopped.set()
        self._step_ended.set()
        if self._writer is not None:
            self._writer.join()
            if reason is not None:
                self._write()

    def is_left(self) -> bool:
        """Whether the run's folder has no page, or one like this: its process was killed before it drew that of the end."""
        try:
            with self._store.open(PAGE) as file:
                return NOT_FINISHED in file.read(1000).decode("utf-8", "replace")
        except FileNotFoundError:
            return True

    def _keep_writing(self) -> None:
        # what draws the finished page takes a second to import, while this process has little to do
        import_module("tokenmill.pipeline.report.run_page")
        while not self._stopped.is_set():
            self._write()
            self._stopped.wait(AT_MOST_EVERY)
            self._step_ended.wait(AT_LEAST_EVERY)
            self._step_ended.clear()

    def _write(self) -> None:
        with suppress(OSError), self._store.create(PAGE) as file:  # a page must never fail the run
            file.write(self.html().encode())

    def html(self) -> str:
        """The page as of now; may be asked for by any thread."""
        from tokenmill.pipeline.report.html_page import render

        # the run's own thread adds to these meanwhile: a copy of each holds still
        steps = dict(self._steps)
        receipts = {name: step.receipts for name, step in steps.items()}
        report = sum_up(self._described, receipts)
        finished = [name for name, step in steps.items() if step.is_finished]
        running = next((name for name, step in steps.items() if not step.is_finished), None)
        now = sum_up(self._described, {running: receipts[running]}).stages if running else {}
        mine = {READ, *(node for step in self._described["steps"] if step["name"] == running for node in step["nodes"])}
        return render(
            "progress_page.html.j2",
            {},
            name=self._store.root.rpartition("/")[2],
            outcome=self._outcome(running, steps),
            reason=self._reason,
            facts=self._facts(running, steps, report.failed),
            running=running,
            progress=(len(receipts[running]), steps[running].tasks) if running else None,
            stages=self._settled(sum_up(self._described, {name: receipts[name] for name in finished}).stages, finished),
            now={name: count for name, count in now.items() if name in mine and count.entered},
            steps=[(step["name"], steps.get(step["name"])) for step in self._described["steps"]],
            report=report,
        )

    def _outcome(self, running: str | None, steps: dict[str, _ShownStep]) -> str:
        at = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}"
        where = "before its first step"
        if steps:
            place = f"step {len(steps)} of {len(self._described['steps'])}, {list(steps)[-1]}"
            where = f"after {place}"
        if running is not None:
            where = f"in {place}, with {steps[running].done} of {steps[running].tasks} tasks done"
        if self._reason is not None:
            return f"This run stopped at {at} {where}. What was committed is kept: run it again to continue."
        return f"This run has not finished: at {at} it was {where}."

    def _facts(self, running: str | None, steps: dict[str, _ShownStep], failed: int) -> dict[str, str]:
        facts = {
            "steps finished": f"{sum(step.is_finished for step in steps.values())} of {len(self._described['steps'])}"
        }
        facts["since it began"] = f"{self._throughput.seconds:,.0f} s"
        if running is not None:
            facts["tasks of this step"] = f"{steps[running].done} of {steps[running].tasks}"
            throughput = str(steps[running].throughput)
            facts |= {"throughput of this step": throughput} if throughput else {}
        return {**facts, "failed so far": f"{failed:,}"}

    def _settled(self, stages: dict[str, StageCount], finished: Sequence[str]) -> dict[str, StageCount]:
        """The stages of which every step is finished; a corpus stage's counts come with its last step."""
        ahead = {node for step in self._described["steps"] if step["name"] not in finished for node in step["nodes"]}
        return {
            name: count
            for name, count in stages.items()
            if (name == READ and count.entered) or (name != READ and name not in ahead)
        }
